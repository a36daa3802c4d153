"""Environments that misbehave: one sentence that names them."""

import gymnasium
import numpy as np
import pytest

import policy_finetune.cli as cli
from paperloop.errors import UserError
from policy_finetune.envs.pool import EnvPool
from policy_finetune.envs.references import random_return
from policy_finetune.envs.rollouts import evaluate
from policy_finetune.envs.simulators import make_env, reset_env, step_env
from policy_finetune.envs.spec import EnvSpec

BOX = gymnasium.spaces.Box(-1, 1, (2,))


class Faulty(gymnasium.Env):
    """Fails in the second step of an episode, in the way that it is told."""

    def __init__(self, way="", actions=BOX):
        if way == "make":
            raise RuntimeError("no licence\nsecond line")
        self.way, self.observation_space, self.action_space = way, BOX, actions

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        if self.way == "reset":
            raise OSError("no device")
        return np.zeros(2) if self.way == "old reset" else (np.zeros(2), {})

    def step(self, action):
        self.steps += 1
        result = (np.zeros(2), 1.0, False, False, {})
        if self.steps < 2:
            return result
        if self.way == "raise":
            raise RuntimeError("the simulator is gone")
        wrong = {
            "four": (np.zeros(2), 1.0, False, {}), "none": None, "reward": (np.zeros(2), None, False, False, {}),
            "shape": (np.zeros(1), 1.0, False, False, {}), "dict": ({"a": np.zeros(2)}, 1.0, False, False, {}),
            "vector": (np.zeros(2), np.zeros(3), False, False, {}),
        }  # fmt: skip
        return wrong.get(self.way, result)


@pytest.fixture
def register():
    made = []

    def make(**kwargs):
        env_id = f"PfFaulty{len(made)}-v0"
        gymnasium.register(env_id, entry_point=Faulty, max_episode_steps=5, kwargs=kwargs)
        made.append(env_id)
        return env_id

    yield make
    for env_id in made:
        del gymnasium.registry[env_id]


WAYS = [
    ("raise", "step failed: RuntimeError: the simulator is gone"),
    ("four", "step failed: ValueError: .*gymnasium expects observation, reward, terminated, truncated and info"),
    ("none", "step failed: TypeError"),
    ("reward", "step returned the reward None"),
    ("vector", r"step returned the reward an array of shape \(3,\)"),
    ("shape", r"an observation is of shape \(1,\), not \(2,\)"),
    ("dict", "an observation is a dict, not 2 numbers"),
]


class Zeros:
    num_agents = 1

    def __call__(self, observations):
        return np.zeros((*observations.shape[:-1], 2), np.float32)


@pytest.mark.parametrize(("way", "says"), WAYS)
def test_a_faulty_step_is_one_sentence_wherever_it_is_taken(register, way, says):
    spec = EnvSpec.of(register(way=way))
    says = f"^{spec.env_id}: {says}"
    with EnvPool(spec, [0]) as pool:
        state = pool.reset()
        pool.step(state, np.zeros((1, 2)))
        with pytest.raises(UserError, match=says) as caught:
            pool.step(state, np.zeros((1, 2)))
        assert "agent 0, episode 0, step 1" in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=says):
        evaluate(Zeros(), spec, episodes=1)


def test_a_step_of_four_values_outside_of_gymnasiums_wrappers():
    env = Faulty("four")
    reset_env(env, 0)
    step_env(env, np.zeros(2))
    with pytest.raises(UserError, match="step returned 4 values, where gymnasium expects observation, reward, term"):
        step_env(env, np.zeros(2))


@pytest.mark.parametrize(
    ("way", "says"),
    [("reset", "reset failed: OSError: no device"), ("old reset", "reset (returned a|failed: )")],
)
def test_a_faulty_reset_is_one_sentence(register, way, says):
    spec = EnvSpec.of(register(way=way))
    for call in (lambda: EnvPool(spec, [0]).reset(), lambda: random_return(spec.env_id)):
        with pytest.raises(UserError, match=f"^{spec.env_id}: {says}"):
            call()


def test_an_environment_that_cannot_be_made_is_one_sentence(register):
    env_id = register(way="make")
    with pytest.raises(UserError, match=f"^The environment '{env_id}' cannot be made: RuntimeError: no licence; fix"):
        make_env(env_id)


def test_the_command_line_says_it_in_one_line(register, tmp_path, capsys):
    out = tmp_path / "data.hdf5"
    code = cli.main(
        ["make-data", "--env-id", register(way="four"), "--quality", "random", "--steps", "9", "--out", str(out)]
    )
    error = capsys.readouterr().err
    assert code == 2
    assert error.startswith("error: PfFaulty0-v0: step failed")
    assert error.count("\n") == 1


def test_the_advice_on_unbounded_actions_can_be_followed(register):
    endless = gymnasium.spaces.Box(-np.inf, np.inf, (2,))
    env_id = register(actions=endless)
    with pytest.raises(
        UserError, match=r"action 0 is unbounded .*TransformAction\(env, lambda action: action, "
    ) as caught:
        EnvSpec.of(env_id)
    assert "RescaleAction" not in str(caught.value)

    def bounded():
        space = gymnasium.spaces.Box(np.full(2, -3, np.float32), np.full(2, 3, np.float32))
        return gymnasium.wrappers.TransformAction(Faulty(actions=endless), lambda action: action, space)

    gymnasium.register("PfBounded-v0", entry_point=bounded, max_episode_steps=5)
    try:
        spec = EnvSpec.of("PfBounded-v0")
        assert spec.high.tolist() == [3.0, 3.0]
        assert evaluate(Zeros(), spec, episodes=1).lengths.tolist() == [[5]]
    finally:
        del gymnasium.registry["PfBounded-v0"]
