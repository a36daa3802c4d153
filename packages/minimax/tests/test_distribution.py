"""The learned distribution over levels, against NumPy in float64 and against insertion one by one."""

import dataclasses
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.optimize import brentq
from scipy.stats import chisquare

from minimax_ued.config import MazeConfig, NCCConfig, TrainConfig
from minimax_ued.curricula.curators import make_curator
from minimax_ued.curricula.distribution import LevelDistribution, ascend, compete
from minimax_ued.envs.base import Timestep
from minimax_ued.envs.maze import Maze

N, B = 8, 3
SIZES = NCCConfig(capacity=N, batch=4, trials=2, lr=0.1, entropy=0.05, truncation=1e-3)


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


CURATOR = LevelDistribution(SIZES, B, 12, Limits(), Counter(), first_only=False)
refresh, start = jax.jit(CURATOR.refresh), jax.jit(CURATOR.init)
jitted = jax.jit(ascend, static_argnames=("lr", "entropy", "truncation"))


def move(config, *arrays):
    return jitted(*arrays, lr=config.lr, entropy=config.entropy, truncation=config.truncation)


def learnability(levels):
    p = np.asarray(levels) / 12
    return p * (1 - p)


def project(x, minimum):
    tau = brentq(lambda tau: np.maximum(x - tau, minimum).sum() - 1, x.min() - 2, x.max() + 1, xtol=1e-15)
    return np.maximum(x - tau, minimum)


def ascend_by_hand(config, scores, y, squares):
    """One step in float64."""
    y, squares = np.asarray(y, np.float64), np.asarray(squares, np.float64)
    gradient = np.asarray(scores, np.float64) - config.entropy * (np.log(y) + 1)
    squares = squares + gradient**2
    return project(y + config.lr * gradient / squares**0.4, config.truncation), squares


def test_one_move_equals_numpy():
    config = SIZES
    rng = np.random.default_rng(0)
    for _ in range(10):
        y = project(rng.dirichlet(np.ones(N)), config.truncation)
        scores, squares = rng.uniform(0, 0.25, N), 0.1 + rng.exponential(size=N)
        new, sums = move(config, *(jnp.asarray(x, jnp.float32) for x in (scores, y, squares)))
        expected, expected_sums = ascend_by_hand(config, scores, y, squares)
        np.testing.assert_allclose(new, expected, atol=1e-6)
        np.testing.assert_allclose(sums, expected_sums, rtol=1e-5)


@settings(deadline=None, max_examples=50)
@given(
    weights=arrays.arrays(np.float32, N, elements=st.floats(0, 1, width=32)),
    scores=arrays.arrays(np.float32, N, elements=st.floats(0, 0.25, width=32)),
)
def test_a_move_conserves_probability(weights, scores):
    y = project(weights.astype(np.float64) + 1e-3, SIZES.truncation)
    new, _ = move(SIZES, scores, jnp.asarray(y, jnp.float32), jnp.full(N, 0.1))
    new = np.asarray(new)
    np.testing.assert_allclose(new.sum(dtype=np.float64), 1, atol=1e-6)
    assert new.min() >= np.float32(SIZES.truncation)


def many_moves(config, scores, y, n):
    """Plain ascent: so large a sum of squares hardly grows, and the step size undoes it."""
    plain = dataclasses.replace(config, lr=config.lr * 1e4**0.4)

    def body(carry, _):
        return move(plain, scores, *carry), None

    return np.asarray(jax.lax.scan(body, (y, jnp.full(N, 1e4)), length=n)[0][0])


def test_equal_scores_leave_and_make_a_uniform_distribution():
    scores, uniform = jnp.full(N, 0.2), jnp.full(N, 1 / N)
    np.testing.assert_allclose(move(SIZES, scores, uniform, jnp.full(N, 0.1))[0], uniform, atol=1e-7)
    skewed = jnp.asarray(project(np.arange(N) / 20, SIZES.truncation), jnp.float32)
    np.testing.assert_allclose(many_moves(SIZES, scores, skewed, 1500), uniform, atol=1e-4)


def test_without_entropy_the_best_level_gets_all():
    config = dataclasses.replace(SIZES, entropy=0.0)
    scores = jnp.array([0.1, 0.2, 0.0, 0.25, 0.1, 0.2, 0.0, 0.24])
    expected = np.full(N, 1e-3)
    expected[3] = 1 - 7e-3
    np.testing.assert_allclose(many_moves(config, scores, jnp.full(N, 1 / N), 2000), expected, atol=1e-6)


@pytest.mark.slow
def test_with_entropy_it_ends_at_the_softmax_of_the_scores():
    """argmax of y.s - lambda y.log y is softmax(s / lambda), where no entry is truncated."""
    config = dataclasses.replace(SIZES, entropy=0.2)
    scores = np.linspace(0, 0.25, N).astype(np.float32)
    expected = np.exp(scores / 0.2) / np.exp(scores / 0.2).sum()
    np.testing.assert_allclose(many_moves(config, scores, jnp.full(N, 1 / N), 1500), expected, atol=1e-4)


def insert_one_by_one(scores, fresh):
    """Best first, each against the lowest slot of all, strictly higher."""
    scores, owner = np.array(scores), np.full(len(scores), -1)
    for i in np.argsort(-fresh, kind="stable"):
        slot = int(np.argmin(scores))
        if scores[slot] < fresh[i]:
            scores[slot], owner[slot] = fresh[i], i
    return scores, owner


@pytest.mark.parametrize(("n", "b"), [(9, 4), (4, 9)])
def test_competing_equals_insertion_one_by_one(n, b):
    rng = np.random.default_rng(0)
    run = jax.jit(compete)
    for trial in range(30):
        distinct = rng.permutation(n + b).astype(np.float32)
        tied = rng.integers(3, size=n + b).astype(np.float32)
        for values in (distinct, tied):
            scores, fresh = values[:n], values[n:]
            slots, chosen = jax.device_get(run(jax.random.key(trial), scores, fresh))
            wins = slots < n
            assert len(set(slots[wins])) == wins.sum()
            result, owner = scores.copy(), np.full(n, -1)
            result[slots[wins]], owner[slots[wins]] = fresh[chosen[wins]], chosen[wins]
            expected, expected_owner = insert_one_by_one(scores, fresh)
            np.testing.assert_array_equal(np.sort(result), np.sort(expected))
            if values is distinct:
                np.testing.assert_array_equal(owner, expected_owner)


def test_equally_low_slots_are_equally_likely_to_go():
    scores, fresh = jnp.array([0.0, 0.2, 0.0, 0.0, 0.1, 0.0]), jnp.array([0.1, 0.15, 0.0])
    keys = jax.random.split(jax.random.key(0), 3000)
    slots, chosen = jax.device_get(jax.jit(jax.vmap(lambda key: compete(key, scores, fresh)))(keys))
    assert (chosen == [1, 0, 2]).all()
    assert (slots[:, 2] == 6).all()  # 0 is not above 0
    assert chisquare(np.bincount(slots[:, :2].ravel(), minlength=6)[[0, 2, 3, 5]]).pvalue > 1e-3


def test_starts_full_and_uniform():
    state = start(jax.random.key(0), jnp.int32(99))
    assert state.filled.all()
    assert (state.levels < 13).all()
    np.testing.assert_allclose(state.probabilities, np.full(N, 1 / N))
    metrics = jax.jit(CURATOR.metrics)(state)
    assert all(np.isfinite(x) for x in metrics.values())
    np.testing.assert_allclose(metrics["entropy"], 1, rtol=1e-6)


@jax.jit
def fresh_levels(key):
    """The fresh levels that a refresh looks at."""
    return jax.vmap(Limits().sample_level)(jax.random.split(jax.random.split(key, 4)[1], B))


@pytest.mark.slow
def test_refreshes_equal_numpy():
    state = start(jax.random.key(0), jnp.int32(99))
    replaced = 0
    for seed in range(6):
        before = jax.device_get(state)
        key = jax.random.key(seed)
        state = refresh(state, key, seed)
        fresh = np.asarray(fresh_levels(key))
        expected, _ = insert_one_by_one(learnability(before.levels), learnability(fresh))
        np.testing.assert_allclose(np.sort(state.scores), np.sort(expected), atol=1e-6)
        np.testing.assert_allclose(learnability(state.levels), state.scores, atol=1e-6)
        y, squares = ascend_by_hand(SIZES, state.scores, before.probabilities, before.squares)
        np.testing.assert_allclose(state.probabilities, y, atol=1e-6)  # a slot keeps its probability
        np.testing.assert_allclose(state.squares, squares, rtol=1e-5)
        np.testing.assert_array_equal(state.drawn_probabilities, before.probabilities)
        np.testing.assert_array_equal(state.drawn_levels, before.levels)
        changed = int((np.asarray(state.levels) != before.levels).sum())
        assert changed <= state.replaced <= B
        replaced += int(state.replaced)
    assert 0 < replaced < 6 * B
    metrics = jax.jit(CURATOR.metrics)(state)
    np.testing.assert_allclose(metrics["weighted_score"], np.dot(state.probabilities, state.scores), rtol=1e-5)
    assert metrics["weighted_score"] > metrics["score_mean"]
    assert 0 < metrics["entropy"] < 1


def test_draws_from_what_was_before_the_last_refresh():
    state = refresh(start(jax.random.key(1), jnp.int32(0)), jax.random.key(2), 0)
    drawn = jnp.asarray([0.5, 0.25, 0.125, 0.125, 0, 0, 0, 0])
    state = state.replace(drawn_probabilities=drawn, drawn_levels=jnp.arange(N) + 100)
    slots, levels = jax.jit(CURATOR.sample, static_argnums=2)(jax.random.key(3), state, 4000)
    np.testing.assert_array_equal(levels, slots + 100)
    counts = np.bincount(slots, minlength=N)
    assert counts[4:].sum() == 0
    assert chisquare(counts[:4], 4000 * np.asarray(drawn[:4])).pvalue > 1e-3


@pytest.mark.slow
def test_seeds_side_by_side_and_refreshes_in_a_row():
    keys = jax.random.split(jax.random.key(4), (2, 3))

    @jax.jit
    @jax.vmap
    def run(keys):
        state = CURATOR.init(keys[0], jnp.int32(0))
        return jax.lax.scan(lambda s, key: (CURATOR.refresh(s, key, 0), None), state, keys[1:])[0]

    states = run(keys)
    for seed in range(2):
        state = start(keys[seed, 0], jnp.int32(0))
        for key in keys[seed, 1:]:
            state = refresh(state, key, 0)
        np.testing.assert_array_equal(states.levels[seed], state.levels)
        np.testing.assert_allclose(states.probabilities[seed], state.probabilities, atol=1e-6)


@dataclass(frozen=True)
class Wanderer:
    """Turns and goes ahead at random."""

    def initial_carry(self, batch):
        return jnp.zeros(batch)

    def apply(self, variables, carry, observation, resets, method):
        return carry, Output(jnp.broadcast_to(variables, (carry.shape[0], 7)))


@pytest.mark.slow
def test_mazes():
    """Refresh after refresh, y and the levels become more learnable than random ones."""
    env = Maze(MazeConfig(height=4, width=4, n_walls=3, max_steps=10))
    sizes = NCCConfig(capacity=32, batch=32, trials=8, lr=0.3)
    curator = make_curator(TrainConfig(env=env.config, method=sizes, n_envs=16, rollout_steps=12), env, Wanderer())
    assert curator == LevelDistribution(sizes, 16, 12, env, Wanderer())
    assert hash(curator) == hash(LevelDistribution(sizes, 16, 12, env, Wanderer()))
    walk = jnp.array([0.0, 0.0, 1.0, -9, -9, -9, -9])
    example = jax.jit(env.sample_level)(jax.random.key(0))

    @jax.jit
    def run(key):
        def body(state, key):
            state = curator.refresh(state, key, walk)
            return state, curator.metrics(state)

        return jax.lax.scan(body, curator.init(key, example), jax.random.split(key, 8))

    state, metrics = run(jax.random.key(0))
    assert metrics["score_mean"][-1] > 1.2 * metrics["score_mean"][0]
    assert metrics["weighted_score"][-1] > metrics["score_mean"][-1]
    assert metrics["replaced"][0] > 3
    slots, levels = jax.jit(curator.sample, static_argnums=2)(jax.random.key(1), state, 5)
    assert slots.shape == (5,)
    assert levels.wall_map.shape == (5, 4, 4)
