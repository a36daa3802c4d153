"""Students of a run, and one exported: the ten lines of the README against the network."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from minimax_ued.config import CartPoleConfig, MazeConfig, PPOConfig, StudentConfig
from minimax_ued.envs.cartpole import CartPole
from minimax_ued.loading import LoadedRun
from minimax_ued.nets.students import make_student
from minimax_ued.presets import PRESETS
from minimax_ued.trainer import UEDTrainer
from paperloop.errors import UserError

TINY = StudentConfig(features=8, head_width=4, conv_filters=3, dense_width=6)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def recurrent(w, x, memory):
    cell, hidden = memory
    i, f, g, o = np.split(x @ w["input"] + hidden @ w["recurrent"] + w["bias"], 4)
    cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(g)
    hidden = sigmoid(o) * np.tanh(cell)
    return np.tanh(hidden @ w["hidden"] + w["hidden_bias"]) @ w["policy"] + w["policy_bias"], (cell, hidden)


def encode(w, observation):
    if "dense" in w:
        return np.maximum(observation @ w["dense"] + w["dense_bias"], 0)
    windows = np.lib.stride_tricks.sliding_window_view(observation.image, (3, 3), axis=(0, 1))
    view = np.maximum(np.einsum("xycij,ijcf->xyf", windows, w["conv"]) + w["conv_bias"], 0)
    return np.concatenate([view.ravel(), w["directions"][observation.direction]])


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
    assert not np.array_equal(first.arrays()["input"], second.arrays()["input"])
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


@pytest.mark.parametrize("domain", ["maze", "cartpole"])
def test_ten_lines_of_numpy_do_what_the_exported_student_does(loaded, tmp_path, domain):
    student = shaken(loaded.students[0])
    if domain == "cartpole":
        env = CartPole(CartPoleConfig(max_steps=8))
        network = make_student(TINY, num_actions=env.num_actions, observation=jnp.zeros(4))
        params = jax.eval_shape(
            network.init, jax.random.key(0), network.initial_carry(1), jnp.zeros((1, 1, 4)), jnp.zeros((1, 1), bool)
        )
        params = jax.tree.map(lambda x: np.zeros(x.shape), params)
        student = shaken(dataclasses.replace(student, env=env, network=network, params=params))
    w = np.load(student.export(tmp_path / "student.npz"))
    memory = np.zeros(8), np.zeros(8)
    for observation, expected in episode(student.env, student, 6):
        logits, memory = recurrent(w, encode(w, observation), memory)
        np.testing.assert_allclose(np.exp(logits) / np.exp(logits).sum(), expected, rtol=1e-4, atol=1e-6)


def test_other_networks_are_refused(loaded):
    student = loaded.students[0]
    config = dataclasses.replace(student.config, student=dataclasses.replace(TINY, arch="s5"))
    with pytest.raises(UserError, match="Only the LSTM student in float32 can be exported, and this one is s5"):
        dataclasses.replace(student, config=config).arrays()
    with pytest.raises(UserError, match="make_student"):
        dataclasses.replace(student, params={"params": {}}).arrays()
