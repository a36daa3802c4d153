"""Counting successes, against a NumPy count on a scripted student and against straight ways in real mazes."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

from minimax_ued.config import MazeConfig
from minimax_ued.curricula.trials import Trials, play_trials
from minimax_ued.envs.base import Timestep
from minimax_ued.envs.maze import Maze
from paperloop import UserError


class Output(struct.PyTreeNode):
    logits: jax.Array


class Task(struct.PyTreeNode):
    """The level: after `length` steps, an action below `limit` wins; each step costs `cost`."""

    length: jax.Array
    limit: jax.Array
    cost: jax.Array


@dataclass(frozen=True)
class TaskEnv:
    """Observes the time of the episode. An episode longer than `max_steps` is cut off."""

    max_steps: int = 6
    num_actions: int = 10

    def prepare(self, level):
        return level

    def reset(self, key, level):
        return jnp.int32(0)

    def observe(self, level, state):
        return state

    def step(self, key, level, state, action):
        time = state + 1
        ends = time >= level.length
        reward = jnp.where(ends & (action < level.limit), 1.0, 0.0) - level.cost
        return time, Timestep(reward=reward, terminated=ends, truncated=(time >= self.max_steps) & ~ends)


class TaskEnvThatAsksForMore(TaskEnv):
    success_return = 0.5


@dataclass(frozen=True)
class Script:
    """Takes the actions of a list (the variables), one after the other since the trial began.

    It counts the steps of the episode by itself, by `resets`, and takes the last action of all, which never wins, where
    its count is not the time that it observes.
    """

    def initial_carry(self, batch):
        return jnp.zeros(batch, jnp.int32), jnp.full(batch, 77, jnp.int32)

    def apply(self, variables, carry, observation, resets, method):
        assert method == "step"
        total, since = carry
        since = jnp.where(resets, 0, since)
        action = jnp.where(since == observation, variables[total], 9)
        return (total + 1, since + 1), Output(1e9 * jax.nn.one_hot(action, 10))


ENV, STUDENT, STEPS = TaskEnv(), Script(), 23
SCRIPT = np.random.default_rng(0).integers(9, size=STEPS)


def tasks(n, seed=1):
    rng = np.random.default_rng(seed)
    return Task(
        length=rng.integers(1, 10, size=n),  # 7 to 9 are never reached
        limit=rng.integers(0, 10, size=n),
        cost=rng.choice([0.0, 0.1], size=n).astype(np.float32),
    )


def count(levels, success_return=0.0):
    """The same in NumPy, step by step."""
    episodes, successes, best = [], [], []
    for length, limit, cost in zip(levels.length, levels.limit, levels.cost, strict=True):
        returns, total, time = [], 0.0, 0
        for t in range(STEPS):
            time += 1
            total += float(time >= length and SCRIPT[t] < limit) - cost
            if time >= min(length, ENV.max_steps):
                returns.append(total)
                total, time = 0.0, 0
        episodes.append(len(returns))
        successes.append(sum(r > success_return for r in returns))
        best.append(max(returns))
    return np.array(episodes), np.array(successes), np.array(best)


play = jax.jit(play_trials, static_argnums=(0, 1), static_argnames=("steps", "batch", "trials", "first_only"))


@pytest.mark.parametrize(
    ("batch", "trials"),
    [pytest.param(12, 1, marks=pytest.mark.slow), pytest.param(4, 1, marks=pytest.mark.slow), (4, 3)],
)
def test_equals_a_count(batch, trials):
    levels = tasks(12)
    played = play(ENV, STUDENT, SCRIPT, jax.random.key(0), levels, steps=STEPS, batch=batch, trials=trials)
    episodes, successes, best = count(levels)
    np.testing.assert_array_equal(played.episodes, trials * episodes)
    np.testing.assert_array_equal(played.successes, trials * successes)
    np.testing.assert_allclose(played.max_returns, best, atol=1e-6)
    p = successes / episodes
    np.testing.assert_allclose(played.success_rate, p, rtol=1e-6)
    np.testing.assert_allclose(played.learnability, p * (1 - p), rtol=1e-6)
    assert ((p > 0) & (p < 1)).sum() > 3


@pytest.mark.slow
def test_the_first_episode_of_each_trial_is_an_unbiased_sample():
    """Half of the episodes win after one step, the others fail after 9: all that fit into 10 steps mostly win."""

    @dataclass(frozen=True)
    class Coin(TaskEnv):
        max_steps: int = 9

        def step(self, key, level, state, action):
            wins = jax.random.bernoulli(jax.random.fold_in(key, 1)) & (state == 0)
            time = state + 1
            over = wins | (time >= 9)
            reward = jnp.where(wins, 1.0, 0.0)
            return time, Timestep(reward=reward, terminated=over, truncated=jnp.zeros((), bool))

    levels = tasks(400)
    key = jax.random.key(0)
    pooled, first = (
        play(Coin(), STUDENT, SCRIPT, key, levels, steps=10, batch=400, trials=5, first_only=f) for f in (False, True)
    )
    np.testing.assert_array_equal(first.episodes, 5)
    assert abs(float(first.success_rate.mean()) - 0.5) < 0.04  # 2000 coins: four standard errors
    assert float(pooled.successes.sum() / pooled.episodes.sum()) > 0.55


def test_success_is_what_the_environment_says():
    levels = tasks(12)
    levels = levels.replace(cost=np.full(12, 0.2, np.float32))
    played = play(TaskEnvThatAsksForMore(), STUDENT, SCRIPT, jax.random.key(0), levels, steps=STEPS, batch=12)
    np.testing.assert_array_equal(played.successes, count(levels, 0.5)[1])
    assert (count(levels, 0.5)[1] != count(levels, 0.0)[1]).any()


@pytest.mark.slow
def test_seeds_side_by_side():
    levels = [tasks(4, seed) for seed in (2, 3)]
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *levels)
    keys = jax.random.split(jax.random.key(0), 2)
    together = jax.jit(
        jax.vmap(lambda key, levels: play_trials(ENV, STUDENT, jnp.asarray(SCRIPT), key, levels, steps=STEPS, batch=2))
    )(keys, stacked)
    for i, level in enumerate(levels):
        np.testing.assert_array_equal(together.episodes[i], count(level)[0])
        np.testing.assert_array_equal(together.successes[i], count(level)[1])


def test_equal_rates_are_equally_learnable_to_the_last_bit():
    episodes = np.repeat(np.arange(1, 200), 3)
    successes = np.stack([episodes // 3, episodes // 2, episodes // 7], -1).reshape(-1)[: len(episodes)]
    successes = np.minimum(successes, episodes)
    of = lambda s, e: np.asarray(Trials(jnp.asarray(e), jnp.asarray(s), jnp.zeros(len(e))).learnability)  # noqa: E731
    np.testing.assert_array_equal(of(successes, episodes), of(episodes - successes, episodes))
    np.testing.assert_array_equal(of(successes, episodes), of(4 * successes, 4 * episodes))
    assert of([0], [0])[0] == 0


@dataclass(frozen=True)
class Forward:
    """Goes ahead, always."""

    def initial_carry(self, batch):
        return jnp.zeros(batch)

    def apply(self, variables, carry, observation, resets, method):
        return carry, Output(jnp.broadcast_to(1e9 * jax.nn.one_hot(2, 7), (carry.shape[0], 7)))


@pytest.mark.slow
def test_straight_ways_in_mazes():
    env = Maze(MazeConfig(height=4, width=4, n_walls=3, max_steps=7))
    levels = jax.jit(jax.vmap(env.sample_level))(jax.random.split(jax.random.key(0), 160))
    played = play(env, Forward(), None, jax.random.key(1), levels, steps=20, batch=80)
    levels, played = jax.device_get((levels, played))
    won = 0
    for b in range(160):
        level = jax.tree.map(lambda x: x[b], levels)  # noqa: B023
        place, step = np.array(level.agent_pos), [(1, 0), (0, 1), (-1, 0), (0, -1)][int(level.agent_dir)]
        distance = None
        for d in range(1, 4):
            place = place + step
            if not ((place >= 0) & (place < 4)).all() or level.wall_map[place[1], place[0]]:
                break
            if (place == level.goal_pos).all():
                distance = d
                break
        n = 20 // (distance or 7)
        assert played.episodes[b] == n
        assert played.successes[b] == (n if distance else 0)
        np.testing.assert_allclose(played.max_returns[b], 1 - 0.9 * distance / 7 if distance else 0, atol=1e-6)
        won += distance is not None
    assert 5 < won < 80


def test_mistakes_are_named():
    with pytest.raises(UserError, match="12 levels in batches of 5"):
        play_trials(ENV, STUDENT, SCRIPT, jax.random.key(0), tasks(12), steps=3, batch=5)
