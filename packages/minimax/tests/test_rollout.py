import jax
import jax.numpy as jnp
import numpy as np
import pytest

from minimax_ued.config import LSTMConfig, MazeConfig, StudentConfig
from minimax_ued.envs.autoreset import AutoReset
from minimax_ued.envs.maze import Maze
from minimax_ued.learning.rollout import log_prob, rollout
from minimax_ued.nets.students import make_student

B, S = 6, 20
ENV = Maze(MazeConfig(height=4, width=4, n_walls=3, max_steps=7))


def first_observation(key):
    level = ENV.sample_level(key)
    return ENV.observe(level, ENV.reset(key, level))


OBSERVATION = jax.eval_shape(first_observation, jax.random.key(0))
STUDENT = make_student(
    StudentConfig(core=LSTMConfig(features=8), head_width=4, conv_filters=2),
    num_actions=7,
    observation=OBSERVATION,
)


@pytest.fixture(scope="module")
def params():
    observation = jax.tree.map(lambda x: jnp.zeros((1, 1, *x.shape), x.dtype), OBSERVATION)
    params = STUDENT.init(jax.random.key(1), STUDENT.initial_carry(1), observation, jnp.ones((1, 1), bool))
    # A policy that differs from state to state, and that moves forward more often than not.
    noisy = jax.tree.map(lambda x: x + 0.5 * jax.random.normal(jax.random.key(2), x.shape), params)
    noisy["params"]["policy"]["Dense_1"]["bias"] = jnp.array([1.0, 1.0, 2.0, 0, 0, 0, 0])
    return noisy


@pytest.fixture(scope="module")
def played(params):
    """The same level again after each episode, so that a plain loop can follow."""
    levels = jax.vmap(ENV.sample_level)(jax.random.split(jax.random.key(3), B))
    run = jax.jit(
        lambda: rollout(
            AutoReset(ENV, fresh=False), STUDENT, params, jax.random.key(4), levels, steps=S, truncation_values=True
        )
    )
    return levels, run()


@pytest.mark.slow
def test_the_stored_numbers_are_those_that_the_learner_computes(params, played):
    _, trajectory = played
    _, output = STUDENT.apply(
        params, jax.tree.map(lambda x: x[0], trajectory.carries), trajectory.observations, trajectory.resets
    )
    np.testing.assert_allclose(output.value, trajectory.values, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(log_prob(output.logits, trajectory.actions), trajectory.log_probs, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(trajectory.resets[1:], trajectory.dones[:-1])
    assert trajectory.resets[0].all()
    assert not any(np.any(x) for x in jax.tree.leaves(trajectory.carries))


@pytest.mark.slow
def test_equals_a_plain_loop_over_the_environment(params, played):
    levels, trajectory = played
    step, observe, reset = jax.jit(ENV.step), jax.jit(ENV.observe), jax.jit(ENV.reset)
    act = jax.jit(lambda *a: STUDENT.apply(params, *a, method="step"))
    levels, trajectory = jax.device_get((levels, trajectory))
    key, ends, cuts = jax.random.key(0), 0, 0
    for b in range(B):
        level = jax.tree.map(lambda x: x[b], levels)  # noqa: B023
        state, carry, new = reset(key, level), STUDENT.initial_carry(1), True
        for t in range(S):
            observation = jax.device_get(observe(level, state))
            np.testing.assert_allclose(observation.image, trajectory.observations.image[t, b], rtol=1e-6)
            assert observation.direction == trajectory.observations.direction[t, b]
            one = jax.tree.map(lambda x: x[None], observation)
            carry, output = act(carry, one, jnp.array([new]))
            np.testing.assert_allclose(output.value[0], trajectory.values[t, b], rtol=1e-4, atol=1e-5)
            state, timestep = step(key, level, state, trajectory.actions[t, b])
            np.testing.assert_allclose(trajectory.rewards[t, b], timestep.reward, rtol=1e-6)
            for name in ("terminated", "truncated"):
                assert getattr(trajectory, name)[t, b] == getattr(timestep, name)
            new = bool(timestep.done)
            if timestep.truncated:
                after = jax.tree.map(lambda x: x[None], observe(level, state))
                value = act(carry, after, jnp.array([False]))[1].value[0]
                np.testing.assert_allclose(trajectory.truncation_values[t, b], value, rtol=1e-4, atol=1e-5)
            ends, cuts = ends + int(timestep.terminated), cuts + int(timestep.truncated)
            if new:
                state = reset(key, level)
        last = jax.tree.map(lambda x: x[None], observe(level, state))
        value = act(carry, last, jnp.array([new]))[1].value[0]
        np.testing.assert_allclose(trajectory.last_value[b], value, rtol=1e-4, atol=1e-5)
    assert ends > 0  # the rollout had all kinds of steps
    assert cuts > B


@pytest.mark.slow
def test_a_rollout_shorter_than_an_episode_has_no_cut_off(params, played):
    levels, _ = played
    trajectory = rollout(AutoReset(ENV), STUDENT, params, jax.random.key(5), levels, steps=3, truncation_values=True)
    assert not trajectory.truncated.any()
    assert trajectory.truncation_values.shape == (3, B)
