"""Many episodes as one program: the same as one by one, and as a Markov chain says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from minimax_ued.config import MazeConfig
from minimax_ued.envs.maze import Level, Maze
from minimax_ued.evaluation.attempts import play_attempts
from minimax_ued.nets.students import StudentOutput
from paperloop.errors import UserError

T = 10


class Forward:
    """A student that always walks on, and notes how often it was told to forget."""

    def initial_carry(self, batch):
        return jnp.zeros(batch)

    def apply(self, params, carry, observation, resets, method):
        assert method == "step"
        logits = jnp.zeros((*resets.shape, 7)).at[..., 2].set(50.0)
        return carry + resets, StudentOutput(logits, carry)


class Uniform(Forward):
    """A student that does anything."""

    def apply(self, params, carry, observation, resets, method):
        return carry, StudentOutput(jnp.zeros((*resets.shape, 7)), carry)


class Forgetful(Forward):
    """A student that walks on in its first episode only, if it was not told to forget after that."""

    def apply(self, params, carry, observation, resets, method):
        steps = jnp.where(resets, 0, carry) + 1  # since the last reset
        logits = jnp.zeros((*resets.shape, 7)).at[..., 2].set(jnp.where(steps <= T, 50.0, -50.0))
        return steps, StudentOutput(logits, carry)


def corridor(goal, wall=None):
    walls = np.zeros((1, 8), bool)
    if wall is not None:
        walls[0, wall] = True
    return Level(
        wall_map=walls,
        goal_pos=np.array([goal, 0], np.int32),
        agent_pos=np.zeros(2, np.int32),
        agent_dir=np.int32(0),
    )


ENV = Maze(MazeConfig(height=1, width=8, n_walls=0, max_steps=T))
LEVELS = jax.tree.map(lambda *x: np.stack(x), corridor(1), corridor(5), corridor(5, wall=3))


def play(student, **options):
    """One episode on each level."""
    played = play_attempts(ENV, student, jnp.zeros(1), jax.random.key(0)[None], LEVELS, **options)
    return jax.tree.map(lambda x: x[0, :, 0], played)


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["sampled", "greedy"])
def test_one_episode_a_level(policy):
    episodes = play(Forward(), policy=policy)
    np.testing.assert_allclose(episodes.returns, [1 - 0.9 * 1 / T, 1 - 0.9 * 5 / T, 0.0], rtol=1e-6)
    np.testing.assert_array_equal(episodes.lengths, [1, 5, T])
    np.testing.assert_array_equal(episodes.solved, [True, True, False])


def test_a_limit_cuts_off():
    episodes = play(Forward(), limits=jnp.array([1, 4, 3]))
    np.testing.assert_array_equal(episodes.lengths, [1, 4, 3])
    np.testing.assert_array_equal(episodes.solved, [True, False, False])


@pytest.mark.parametrize("slots", [2, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 5, 100))])
def test_every_attempt_is_played_whatever_the_number_of_slots(slots):
    keys = jax.random.split(jax.random.key(0), 2)
    played = play_attempts(ENV, Forgetful(), jnp.zeros(2), keys, LEVELS, attempts=4, slots=slots)
    assert played.returns.shape == (2, 3, 4)
    np.testing.assert_array_equal(played.lengths, np.broadcast_to(np.array([1, 5, T])[:, None], (2, 3, 4)))
    np.testing.assert_array_equal(played.solved[0, :, 0], [True, True, False])


@pytest.mark.slow
def test_results_do_not_depend_on_the_number_of_slots():
    keys = jax.random.split(jax.random.key(1), 2)
    few, many = (
        play_attempts(ENV, Uniform(), jnp.zeros(2), keys, LEVELS, attempts=20, slots=slots) for slots in (7, 60)
    )
    for a, b in zip(few, many, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(few.returns[0], few.returns[1])  # each student has its own stream
    assert len(np.unique(few.lengths[0, 0])) > 1  # and each attempt


@pytest.mark.slow
def test_a_random_policy_solves_as_often_as_its_markov_chain():
    """One free cell ahead: states are the four directions and the goal."""
    chain = np.zeros((5, 5))
    for direction in range(4):
        chain[direction, (direction - 1) % 4] += 1 / 7
        chain[direction, (direction + 1) % 4] += 1 / 7
        chain[direction, 4 if direction == 0 else direction] += 1 / 7
        chain[direction, direction] += 4 / 7
    chain[4, 4] = 1
    after = [np.linalg.matrix_power(chain, t)[0, 4] for t in range(T + 1)]
    first = np.diff(after)  # probability that step t = 1 .. T is the one that solves
    mean_return = (first * (1 - 0.9 * np.arange(1, T + 1) / T)).sum()
    levels = jax.tree.map(lambda x: x[:1], jax.tree.map(lambda *x: np.stack(x), corridor(1, wall=2)))
    n = 4000
    played = play_attempts(
        ENV, Forward(), jnp.zeros(1), jax.random.key(5)[None], levels, attempts=n, policy="random", slots=500
    )
    p = after[T]
    assert abs(float(played.solved.mean()) - p) < 4 * np.sqrt(p * (1 - p) / n)
    assert abs(float(played.returns.mean()) - mean_return) < 4 * 0.5 / np.sqrt(n)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [({"policy": "best"}, "'best'"), ({"attempts": 0}, "attempts is 0"), ({"slots": 0}, "slots is 0")],
)
def test_bad_arguments(arguments, words):
    with pytest.raises(UserError, match=words):
        play_attempts(ENV, Forward(), jnp.zeros(1), jax.random.key(0)[None], LEVELS, **arguments)
