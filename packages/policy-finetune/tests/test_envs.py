"""Environments in lock-step: exact resume by replay, autoreset, action bounds, and what is refused."""

import copy
import os

import gymnasium
import numpy as np
import pytest

from paperloop.errors import CheckpointError, NonFiniteError, UserError
from policy_finetune.envs.pool import EnvPool, EnvState, episode_seed
from policy_finetune.envs.spec import EnvSpec


class Counter(gymnasium.Env):
    """Observes [steps, what the environment was last told (2)]; ends itself when told something above `end` at first.

    Its two actions have bounds that are not symmetric: [-1, 3] and [0.5, 1].
    """

    def __init__(self, kind="plain", end=2.5):
        self.kind, self.end = kind, end
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (3,))
        self.action_space = gymnasium.spaces.Box(np.array([-1, 0.5], np.float32), np.array([3, 1], np.float32))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        start = self.np_random.uniform(size=2) if self.kind != "random" else np.random.default_rng().uniform(size=2)
        return np.array([0, *start]), {}

    def step(self, action):
        self.steps += 1
        if self.kind == "crash" and self.steps == 3:
            raise RuntimeError("the simulator is gone")
        reward = {"nan": np.nan, "vector": np.array([0.5])}.get(self.kind, float(action[0]))
        seen = np.array([self.steps, *action], np.float64)
        if self.kind == "blind" and self.steps == 2:
            seen[1] = np.inf
        return seen, reward, bool(action[0] > self.end), False, {}


class Odd(gymnasium.Env):
    def __init__(self, observations, actions):
        self.observation_space, self.action_space = observations, actions

    def reset(self, *, seed=None, options=None):
        return self.observation_space.sample(), {}


BOX = gymnasium.spaces.Box(-1, 1, (2,))


@pytest.fixture
def register():
    made = []

    def make(entry, limit=5, **kwargs):
        env_id = f"Pf{len(made)}-v0"
        gymnasium.register(env_id, entry_point=entry, max_episode_steps=limit, kwargs=kwargs)
        made.append(env_id)
        return env_id

    yield make
    for env_id in made:
        del gymnasium.registry[env_id]


def canonical(rng, agents, spec):
    return rng.uniform(-1, 1, (agents, spec.act_dim)).astype(np.float32)


def saved(state):
    """What a checkpoint keeps: fresh arrays, from bytes."""
    return EnvState(**{name: np.frombuffer(a.tobytes(), a.dtype).reshape(a.shape) for name, a in vars(state).items()})


def same_step(a, b):
    for name in ("observation", "action", "reward", "next_observation", "terminated", "truncated"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)
    assert a.finished == b.finished


@pytest.mark.parametrize("env_id", ["InvertedDoublePendulum-v5", "Hopper-v5", "Pendulum-v1"])
def test_a_pool_goes_on_bit_for_bit_from_a_state_alone(env_id):
    spec = EnvSpec.of(env_id)
    rng = np.random.default_rng(0)
    with EnvPool(spec, [3, 4]) as pool, EnvPool(spec, [3, 4]) as other:
        state = pool.reset()
        while not (state.step >= 3).all() or (spec.env_id != "Pendulum-v1" and not state.episode.any()):
            pool.step(state, canonical(rng, 2, spec))
        for _ in range(4):  # the other pool has been somewhere else
            other.step(other.reset(), canonical(rng, 2, spec))
        again = saved(state)
        for _ in range(50):
            actions = canonical(rng, 2, spec)
            same_step(pool.step(state, actions), other.step(again, actions))
        for name, value in vars(state).items():
            if name != "actions":  # rows of earlier episodes are left in it
                np.testing.assert_array_equal(value, getattr(again, name))


def test_every_episode_is_that_of_a_plain_loop_over_gymnasium():
    spec = EnvSpec.of("InvertedDoublePendulum-v5")
    env = gymnasium.make(spec.env_id)
    rng = np.random.default_rng(1)
    with EnvPool(spec, [7]) as pool:
        state = pool.reset()
        for episode in range(3):
            seen, _ = env.reset(seed=episode_seed(7, episode))
            total, length, ended = 0.0, 0, False
            while not ended:
                np.testing.assert_array_equal(state.observation[0], seen.astype(np.float32))
                actions = canonical(rng, 1, spec)
                step = pool.step(state, actions)
                seen, reward, terminated, truncated, _ = env.step(actions[0])
                np.testing.assert_array_equal(step.next_observation[0], seen.astype(np.float32))
                assert step.reward[0] == np.float32(reward)
                assert (step.terminated[0], step.truncated[0]) == (terminated, truncated)
                total, length, ended = total + reward, length + 1, terminated or truncated
            assert step.finished == [(0, total, length)]
        assert state.episode == [3]


def test_the_end_of_an_episode_gives_its_final_observation_and_the_next_start(register):
    spec = EnvSpec.of(register(Counter, limit=3))
    end, stay = np.array([1.0, 0.0]), np.array([0.0, 0.0])
    with EnvPool(spec, [0, 1]) as pool:
        state = pool.reset()
        pool.step(state, [stay, stay])
        step = pool.step(state, [end, stay])  # agent 0 is terminated at its second step
        assert step.terminated.tolist() == [True, False]
        assert not step.truncated.any()
        np.testing.assert_array_equal(step.next_observation, [[2, 3, 0.75], [2, 1, 0.75]])
        assert state.observation[0, 0] == 0  # the reset observation
        assert state.observation[1, 0] == 2
        np.testing.assert_array_equal((state.episode, state.step), ([1, 0], [0, 2]))
        assert step.finished == [(0, 4.0, 2)]
        before = state.observation.copy()
        step = pool.step(state, [stay, stay])  # agent 1 meets the time limit
        np.testing.assert_array_equal(step.observation, before)
        assert step.truncated.tolist() == [False, True]
        assert not step.terminated.any()
        assert step.next_observation[1, 0] == 3
        assert step.finished == [(1, 3.0, 3)]
        np.testing.assert_array_equal(state.episode_return, [1.0, 0.0])


def test_an_end_of_its_own_at_the_time_limit_sets_both_flags(register):
    spec = EnvSpec.of(register(Counter, limit=1))
    with EnvPool(spec, [0]) as pool:
        step = pool.step(pool.reset(), [[1.0, 0.0]])
    assert step.terminated[0]
    assert step.truncated[0]


def test_canonical_actions_fill_bounds_that_are_not_symmetric(register):
    spec = EnvSpec.of(register(Counter))
    np.testing.assert_array_equal(spec.to_env([[-1, -1], [0, 0], [1, 1]]), [[-1, 0.5], [1, 0.75], [3, 1]])
    actions = np.random.default_rng(0).uniform(-1, 1, (100, 2)).astype(np.float32)
    np.testing.assert_allclose(spec.from_env(spec.to_env(actions)), actions, atol=1e-6)
    assert (spec.to_env(actions) <= spec.high).all()
    with EnvPool(spec, [0]) as pool:
        step = pool.step(pool.reset(), [[0.5, -7.0]])
    np.testing.assert_array_equal(step.action, [[0.5, -1]])  # what was executed
    np.testing.assert_array_equal(step.next_observation, [[1, 2, 0.5]])


def test_bounds_of_one_are_the_exact_identity():
    spec = EnvSpec("x", 1, 2, [-1, -1], [1, 1], 10)
    actions = np.array([[1e-30, -3e-8], [1, np.nextafter(np.float32(1), 0, dtype=np.float32)]], np.float32)
    np.testing.assert_array_equal(spec.to_env(actions), actions)
    np.testing.assert_array_equal(spec.from_env(actions), actions)


def test_agents_have_streams_of_their_own_that_do_not_depend_on_their_number(register):
    spec = EnvSpec.of(register(Counter))
    with EnvPool(spec, [5, 6, 5]) as many, EnvPool(spec, [6]) as one:
        starts = many.reset().observation
        np.testing.assert_array_equal(starts[0], starts[2])
        assert not np.array_equal(starts[0], starts[1])
        np.testing.assert_array_equal(starts[1], one.reset().observation[0])


def test_a_copied_state_is_taken_up_and_the_old_one_can_be_gone_back_to(register):
    spec = EnvSpec.of(register(Counter, limit=20))
    rng = np.random.default_rng(2)
    with EnvPool(spec, [0, 1]) as pool:
        state = pool.reset()
        for _ in range(3):
            pool.step(state, canonical(rng, 2, spec) * 0.5)
        kept = copy.deepcopy(state)
        actions = [canonical(rng, 2, spec) * 0.5 for _ in range(4)]
        first = [pool.step(state, a) for a in actions]
        second = [pool.step(kept, a) for a in actions]
        for a, b in zip(first, second, strict=True):
            same_step(a, b)


def test_rewards_of_shape_one_are_numbers(register):
    spec = EnvSpec.of(register(Counter, kind="vector"))
    with EnvPool(spec, [0]) as pool:
        step = pool.step(pool.reset(), np.zeros((1, 2)))
    np.testing.assert_array_equal(step.reward, [0.5])


def test_an_environment_that_is_not_deterministic_is_not_resumed(register):
    spec = EnvSpec.of(register(Counter, kind="random"))
    with EnvPool(spec, [0]) as pool:
        state = saved(pool.reset())
        pool.reset()
        with pytest.raises(CheckpointError, match="not deterministic"):
            pool.step(state, np.zeros((1, 2)))


def test_a_state_of_other_seeds_is_refused():
    spec = EnvSpec.of("Pendulum-v1")
    with EnvPool(spec, [0]) as pool, EnvPool(spec, [1]) as other:
        state = saved(pool.reset())
        with pytest.raises(CheckpointError, match=r"agent 0, episode 0, step 0: .* other seeds"):
            other.step(state, np.zeros((1, 1)))


def test_a_state_of_another_size_or_damaged_is_refused(register):
    spec = EnvSpec.of(register(Counter))
    with EnvPool(spec, [0, 1]) as two, EnvPool(spec, [0]) as one:
        with pytest.raises(CheckpointError, match=r"episode .* shape \(2,\), not \(1,\)"):
            one.step(two.reset(), np.zeros((1, 2)))
        state = saved(one.reset())
        state.step = np.array([99], np.int32)
        with pytest.raises(CheckpointError, match="steps run from 0 to 4"):
            one.step(state, np.zeros((1, 2)))


def test_a_crash_leaves_the_state_as_it_was_and_says_where(register):
    crashes = EnvSpec.of(register(Counter, kind="crash"))
    with EnvPool(crashes, [0, 1]) as pool:
        state = pool.reset()
        for _ in range(2):
            pool.step(state, np.zeros((2, 2)))
        before = saved(state)
        says = f"{crashes.env_id}: step failed: RuntimeError: the simulator is gone; fix the environment "
        for _ in range(2):  # the second time, by way of a replay
            with pytest.raises(UserError) as caught:
                pool.step(state, np.zeros((2, 2)))
            assert str(caught.value) == says + f"(in {crashes.env_id}, agent 0, episode 0, step 2)."
            assert isinstance(caught.value.__cause__, RuntimeError)
            for name, value in vars(before).items():
                np.testing.assert_array_equal(getattr(state, name), value)


def test_what_is_not_finite_is_named(register):
    blind = EnvSpec.of(register(Counter, kind="blind"))
    with EnvPool(blind, [0]) as pool:
        state = pool.reset()
        with pytest.raises(NonFiniteError, match=r"agent 0, episode 0, step 0: the action is NaN .* diverged"):
            pool.step(state, [[np.nan, 0]])
        pool.step(state, [[0, 0]])
        with pytest.raises(NonFiniteError, match="step 1: the observation"):
            pool.step(state, [[0, 0]])
        assert state.step == [1]
    nan = EnvSpec.of(register(Counter, kind="nan"))
    with EnvPool(nan, [0]) as pool, pytest.raises(NonFiniteError, match="the reward"):
        pool.step(pool.reset(), [[0, 0]])


def test_actions_of_another_shape_are_refused(register):
    with EnvPool(EnvSpec.of(register(Counter)), [0]) as pool, pytest.raises(UserError, match=r"give \(1, 2\)"):
        pool.step(pool.reset(), [0.0, 0.0])


@pytest.mark.parametrize(
    ("observations", "actions", "limit", "says"),
    [
        (gymnasium.spaces.Dict({"a": BOX}), BOX, 5, "observations are made of parts .a.*observation_keys=.'a',."),
        (gymnasium.spaces.Discrete(3), BOX, 5, "observations are Discrete"),
        (gymnasium.spaces.Box(0, 1, (4, 4)), BOX, 5, "one vector of real numbers"),
        (BOX, gymnasium.spaces.Discrete(3), 5, "continuous actions"),
        (BOX, gymnasium.spaces.Box(np.array([-1, -np.inf], np.float32), np.ones(2, np.float32)), 5, "action 1 is unb"),
        (BOX, BOX, None, "no time limit"),
    ],
)
def test_spaces_that_the_learners_cannot_use_are_refused(register, observations, actions, limit, says):
    env_id = register(Odd, limit=limit, observations=observations, actions=actions)
    with pytest.raises(UserError, match=f"^{env_id}: .*{says}") as caught:
        EnvSpec.of(env_id)
    assert "\n" not in str(caught.value)


def test_an_unknown_environment_is_one_sentence():
    with pytest.raises(UserError, match=r"'Hoper-v5' cannot be made \(.*\); give an id .* or 'module:Id'"):
        EnvSpec.of("Hoper-v5")


def test_no_seeds_are_refused():
    with pytest.raises(UserError, match="at least one seed"):
        EnvPool(EnvSpec.of("Pendulum-v1"), [])


def test_mujoco_leaves_no_log_file_behind(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    spec = EnvSpec.of("HalfCheetah-v5")
    assert (spec.obs_dim, spec.act_dim, spec.max_episode_steps) == (17, 6, 1000)
    assert os.listdir(tmp_path) == []


# envpool


def gymnasium_at(env, env_id, seen):
    """Put a gymnasium environment where `seen`, a first observation, says."""
    env.reset(seed=0)
    seen = seen.astype(np.float64)
    if env_id == "Pendulum-v1":
        env.unwrapped.state = np.array([np.arctan2(seen[1], seen[0]), seen[2]])
    elif env_id == "Hopper-v5":  # the place along the track is not observed, and changes nothing
        env.unwrapped.set_state(np.array([0.0, *seen[:5]]), seen[5:])
    else:
        angles = np.arctan2(seen[1:3], seen[3:5])
        env.unwrapped.set_state(np.array([seen[0], *angles]), seen[5:8])
