"""Students of a run, and exported ones: NumPy against the network, for every core."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from minimax_ued.config import CartPoleConfig, GRUConfig, LSTMConfig, MazeConfig, PPOConfig, S5Config, StudentConfig
from minimax_ued.envs.cartpole import CartPole
from minimax_ued.nets.students import make_student
from minimax_ued.presets import PRESETS
from minimax_ued.trainer import UEDTrainer
from minimax_ued.use.export import policy_arrays
from minimax_ued.use.loading import LoadedRun
from minimax_ued.use.numpy_student import NumpyStudent
from paperloop.errors import UserError

TINY = StudentConfig(core=LSTMConfig(features=8), head_width=4, conv_filters=3, dense_width=6)


CONFIG = dataclasses.replace(
    PRESETS["small"], env=MazeConfig(height=5, width=5, n_walls=4, max_steps=8), student=TINY, n_envs=4,
    rollout_steps=8, cycles_per_step=1, seeds=2, ppo=PPOConfig(lr=0.05, epochs=1),
)  # fmt: skip


@pytest.fixture(scope="module")
def loaded():
    """What `load_run` returns, of a run that has not learned."""
    trainer = UEDTrainer(CONFIG)
    return LoadedRun(trainer, trainer.init(0), CONFIG)


def shaken(student):
    """Return it with other weights, since the policy of a new one hardly depends on what it sees."""
    rng = np.random.default_rng(0)
    change = jax.tree.map(lambda x: np.asarray(x + rng.normal(size=x.shape), np.float32), student.params)
    return dataclasses.replace(student, params=change)


def test_one_student_for_each_seed(loaded):
    first, second = loaded.students
    assert not np.array_equal(*(policy_arrays(CONFIG, one.params)["input"] for one in (first, second)))
    with pytest.raises(UserError, match="seeds 0 to 1"):
        loaded.student(2)
    with pytest.raises(UserError, match="student is 1"):
        loaded.student(0, 1)


def test_predict_is_the_network_step_by_step(loaded):
    student = shaken(loaded.students[1])
    rng = np.random.default_rng(1)
    images, directions = rng.random((3, 2, 5, 5, 3)).astype(np.float32), rng.integers(0, 4, (3, 2))
    memory, one = None, None
    for image, direction in zip(images, directions, strict=True):
        probabilities, memory = student.predict({"image": image, "direction": direction}, memory)
        alone, one = student.predict({"image": image[1], "direction": direction[1]}, one)
        assert probabilities.shape == (2, 7)
        np.testing.assert_allclose(probabilities[1], alone, rtol=1e-5)
        np.testing.assert_allclose(probabilities.sum(-1), 1, rtol=1e-5)
    greedy, _ = student.act({"image": image, "direction": direction})
    assert greedy.shape == (2,)
    drawn, _ = student.act({"image": image, "direction": direction}, key=jax.random.key(0))
    assert drawn.shape == (2,)
    with pytest.raises(UserError, match=r"\(7, 7, 3\).* Maze gives .*\(5, 5, 3\)"):
        student.predict({"image": np.zeros((7, 7, 3)), "direction": 0})


def episode(env, student, steps):
    """Play one episode, and yield observations and probabilities."""
    level, step, observe = jax.jit(env.sample_level)(jax.random.key(1)), jax.jit(env.step), jax.jit(env.observe)
    state, memory = jax.jit(env.reset)(jax.random.key(2), level), None
    for i in range(steps):
        observation = jax.device_get(observe(level, state))
        probabilities, memory = student.predict(observation, memory)
        yield observation, np.asarray(probabilities)
        state, _ = step(jax.random.key(3), level, state, i % env.num_actions)


@pytest.mark.parametrize(
    ("core", "env"),
    [
        (LSTMConfig(features=8), None),
        (GRUConfig(features=8), None),
        (S5Config(features=8, state=8, blocks=2), None),
        (S5Config(features=8, state=8, blocks=2, norm="pre"), CartPole(CartPoleConfig(max_steps=8))),
        pytest.param(LSTMConfig(features=8), CartPole(CartPoleConfig(max_steps=8)), marks=pytest.mark.slow),
    ],
    ids=["lstm", "gru", "s5", "s5-pre-cartpole", "lstm-cartpole"],
)
def test_numpy_does_what_the_exported_student_does(loaded, tmp_path, core, env):
    student = loaded.students[0]
    env = env or student.env
    config = dataclasses.replace(CONFIG, student=dataclasses.replace(TINY, core=core))
    level = env.sample_level(jax.random.key(0))
    seen = env.observe(level, env.reset(jax.random.key(0), level))
    network = make_student(config.student, num_actions=env.num_actions, observation=seen)
    sequence = jax.tree.map(lambda x: x[None, None], seen)
    resets = jnp.ones((1, 1), bool)
    params = jax.jit(network.init)(jax.random.key(1), network.initial_carry(1), sequence, resets)
    student = dataclasses.replace(student, config=config, env=env, network=network, params=params)
    policy, memory = head_shaken(student).export(tmp_path / "student.npz"), None
    policy = NumpyStudent(policy)
    for observation, expected in episode(env, head_shaken(student), 6):
        logits, memory = policy(observation, memory)
        np.testing.assert_allclose(np.exp(logits) / np.exp(logits).sum(), expected, rtol=1e-3, atol=1e-5)


def head_shaken(student):
    """Return it with another policy head: that of a new student hardly depends on what it sees."""
    rng = np.random.default_rng(0)
    head = jax.tree.map(lambda x: np.asarray(rng.normal(size=x.shape), np.float32), student.params["params"]["policy"])
    return dataclasses.replace(student, params={"params": {**student.params["params"], "policy": head}})


def test_other_networks_are_refused(loaded):
    with pytest.raises(UserError, match="make_student"):
        policy_arrays(CONFIG, {"params": {}})
