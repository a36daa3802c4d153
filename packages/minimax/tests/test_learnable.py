"""Sampling for learnability, against NumPy counts on levels whose outcomes a script fixes."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct
from scipy.stats import chisquare

from minimax_ued.config import MazeConfig, SFLConfig, TrainConfig
from minimax_ued.curricula.curators import make_curator
from minimax_ued.curricula.learnable import LearnableSet, most_learnable
from minimax_ued.envs.base import Timestep
from minimax_ued.envs.maze import Maze
from minimax_ued.methods import METHODS

STEPS = 12
CONFIG = SFLConfig(capacity=6, candidates=24, batch=8, steps=STEPS, refresh_every=3)


class Output(struct.PyTreeNode):
    logits: jax.Array


@dataclass(frozen=True)
class Limits:
    """Episodes of one step; the level is a number from 0 to 12, and an action below it wins."""

    max_steps: int = 1
    num_actions: int = 12

    def sample_level(self, key):
        return jax.random.randint(key, (), 0, 13)

    def prepare(self, level):
        return level

    def reset(self, key, level):
        return jnp.int32(0)

    def observe(self, level, state):
        return state

    def step(self, key, level, state, action):
        win = action < level
        return state, Timestep(reward=jnp.float32(win), terminated=jnp.bool_(True), truncated=jnp.bool_(False))


@dataclass(frozen=True)
class Counter:
    """Takes the actions (variables + 0, 1, 2 ...) mod 12, so that 12 steps win a level as often as its number says."""

    def initial_carry(self, batch):
        return jnp.zeros(batch, jnp.int32)

    def apply(self, variables, carry, observation, resets, method):
        return carry + 1, Output(1e9 * jax.nn.one_hot((carry + variables) % 12, 12))


CURATOR = LearnableSet(CONFIG, Limits(), Counter())
refresh = jax.jit(CURATOR.refresh)


@pytest.fixture(scope="module")
def empty():
    return CURATOR.init(jax.random.key(0), jnp.int32(5))


def learnability(level):
    p = np.asarray(level) / 12
    return p * (1 - p)


@jax.jit
def candidates(key):
    """The levels that a refresh looks at."""
    return jax.vmap(Limits().sample_level)(jax.random.split(jax.random.split(key, 3)[0], 24))


@pytest.mark.parametrize("seed", range(5))
def test_keeps_the_most_learnable(empty, seed):
    state = refresh(empty, jax.random.key(seed), 0)
    expected = np.sort(learnability(candidates(jax.random.key(seed))))[::-1][:6]
    np.testing.assert_allclose(state.scores, expected, atol=1e-6)
    np.testing.assert_allclose(learnability(state.levels), expected, atol=1e-6)  # each level with its own score
    assert state.filled.all()


def test_before_the_first_refresh(empty):
    assert not empty.filled.any()
    np.testing.assert_array_equal(empty.levels, np.full(6, 5))
    assert all(np.isfinite(x) for x in CURATOR.metrics(empty).values())


def test_equally_learnable_levels_are_equally_likely_to_be_kept():
    scores = jnp.array([0.0, 0.1, 0.1, 0.2, 0.1, 0.1, 0.0, 0.1])
    keys = jax.random.split(jax.random.key(0), 3000)
    kept = np.asarray(jax.jit(jax.vmap(lambda key: most_learnable(key, scores, 3)))(keys))
    assert (kept[:, 0] == 3).all()
    counts = np.bincount(kept[:, 1:].ravel(), minlength=8)
    assert counts[[0, 3, 6]].sum() == 0
    assert chisquare(counts[[1, 2, 4, 5, 7]]).pvalue > 1e-3


def test_draws_uniformly_with_replacement(empty):
    state = refresh(empty, jax.random.key(1), 0)
    slots, levels = jax.jit(CURATOR.sample, static_argnums=2)(jax.random.key(2), state, 3000)
    np.testing.assert_array_equal(levels, np.asarray(state.levels)[slots])
    assert chisquare(np.bincount(slots, minlength=6)).pvalue > 1e-3


def test_metrics(empty):
    state = empty.replace(scores=jnp.array([0.25, 0.25, 0.1, 0.0, 0.0, 0.0]))
    metrics = jax.jit(CURATOR.metrics)(state)
    values = [metrics[name] for name in ("score_mean", "score_max", "score_min", "positive")]
    np.testing.assert_allclose(values, [0.1, 0.25, 0.0, 0.5])


@pytest.mark.slow
def test_seeds_side_by_side_and_refreshes_in_a_row(empty):
    """Two seeds by vmap and two refreshes by scan equal the same one by one."""
    keys = jax.random.split(jax.random.key(4), (2, 2))

    @jax.jit
    @jax.vmap
    def run(keys):
        state = CURATOR.init(keys[0], jnp.int32(0))
        return jax.lax.scan(lambda s, key: ((s := CURATOR.refresh(s, key, 0)), s.scores), state, keys)

    states, scores = run(keys)
    for seed in range(2):
        for i in range(2):
            state = refresh(empty, keys[seed, i], 0)
            np.testing.assert_array_equal(scores[seed, i], state.scores)
        np.testing.assert_array_equal(states.levels[seed], state.levels)


@dataclass(frozen=True)
class Wanderer:
    """Turns and goes ahead at random."""

    def initial_carry(self, batch):
        return jnp.zeros(batch)

    def apply(self, variables, carry, observation, resets, method):
        return carry, Output(jnp.broadcast_to(variables, (carry.shape[0], 7)))


@pytest.mark.slow
def test_mazes():
    """A wanderer solves near goals nearly always and far ones hardly ever: what is kept lies between."""
    env = Maze(MazeConfig(height=4, width=4, n_walls=3, max_steps=10))
    sizes = SFLConfig(capacity=8, candidates=64, batch=32, steps=120)
    curator = make_curator(TrainConfig(env=env.config, method=sizes), env, Wanderer())
    assert isinstance(curator, LearnableSet)
    assert curator == LearnableSet(sizes, env, Wanderer())  # by value: a static argument
    assert hash(curator) == hash(LearnableSet(sizes, env, Wanderer()))
    example = jax.jit(env.sample_level)(jax.random.key(0))
    walk = jnp.array([0.0, 0.0, 1.0, -9, -9, -9, -9])
    state = jax.jit(curator.refresh)(curator.init(jax.random.key(0), example), jax.random.key(1), walk)
    assert (np.diff(state.scores) <= 0).all()
    assert 0.2 < state.scores[-1] <= state.scores[0] <= 0.25
    metrics = jax.jit(jax.vmap(env.level_metrics))(state.levels)
    assert (metrics["solvable"] == 1).all()


def test_only_methods_with_a_curator_have_one():
    for method in ("dr", "plr", "accel", "paired"):
        assert make_curator(TrainConfig(method=METHODS[method].settings), Limits(), Counter()) is None
