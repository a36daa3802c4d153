"""Scores: how much a level is worth replaying, from one rollout on it.

T is the number of time steps, B the number of levels. Several episodes may end within a rollout; the last one may be
cut off, and is left out. A new score is a function of a `Rollout`, registered under a name:

    @register_score("value_surprise")
    def value_surprise(rollout: Rollout) -> jax.Array:
        return rollout.episode_mean(jnp.square(rollout.advantages))

Levels without a finished episode get -inf from the registry, so a score need not think of them. One that reads
`rollout.optimal_returns` says `needs_optimum=True`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import jax
import jax.numpy as jnp
from flax import struct

from minimax_ued.support.registry import add, look_up
from paperloop.errors import UserError

__all__ = [
    "SCORES", "EpisodeStatistics", "Rollout", "Score", "episode_means", "episode_statistics", "episode_sums",
    "get_score", "register_score",
]  # fmt: skip


class EpisodeStatistics(struct.PyTreeNode):
    """Finished episodes of each level in a rollout.

    Attributes:
        count: i32[B], how many.
        mean_return: f32[B], mean undiscounted return; 0 where there is none.
        max_return: f32[B], highest undiscounted return; -inf where there is none.
        success_rate: f32[B], part with a return above `success_return`; 0 where there is none.
        mean_length: f32[B], in steps; 0 where there is none.
    """

    count: jax.Array
    mean_return: jax.Array
    max_return: jax.Array
    success_rate: jax.Array
    mean_length: jax.Array


def episode_sums(x: jax.Array, dones: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the sum of `x` [T, ...] from the start of the running episode to each step, and that episode's length.

    A scan that restarts with each episode: no differences of prefix sums, whose cancellation would cost digits. On
    CPUs it compiles and runs faster than a log-depth associative scan (T = 256: a fifth and half of the time).
    """

    def step(
        running: tuple[jax.Array, jax.Array], now: tuple[jax.Array, jax.Array]
    ) -> tuple[tuple[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]:
        value, done = now
        total, length = running[0] + value, running[1] + 1.0
        return (jnp.where(done, 0.0, total), jnp.where(done, 0.0, length)), (total, length)

    x = x.astype(jnp.float32)
    zero = jnp.zeros_like(x[0])
    return jax.lax.scan(step, (zero, zero), (x, dones))[1]


def _mean_at_ends(x: jax.Array, dones: jax.Array) -> jax.Array:
    return jnp.where(dones, x, 0.0).sum(0) / jnp.maximum(dones.sum(0), 1)


def episode_means(x: jax.Array, dones: jax.Array) -> jax.Array:
    """Return f32[B]: the mean over finished episodes of the mean of `x` over the episode's steps.

    Every episode has the same weight, however long. 0 where no episode finished.

    Args:
        x: [T, B].
        dones: bool[T, B]; True at the last step of an episode.
    """
    total, length = episode_sums(x, dones)
    return _mean_at_ends(total / length, dones)


def episode_statistics(
    rewards: jax.Array, dones: jax.Array, success_return: float | jax.Array = 0.0
) -> EpisodeStatistics:
    """Return counts, returns and lengths of the finished episodes of each level.

    Args:
        rewards: f32[T, B].
        dones: bool[T, B]; True at the last step of an episode.
        success_return: an episode succeeds when its return is above this.
    """
    returns, lengths = episode_sums(rewards, dones)
    return EpisodeStatistics(
        count=dones.sum(0, dtype=jnp.int32),
        mean_return=_mean_at_ends(returns, dones),
        max_return=jnp.where(dones, returns, -jnp.inf).max(0),
        success_rate=_mean_at_ends((returns > success_return).astype(jnp.float32), dones),
        mean_length=_mean_at_ends(lengths, dones),
    )


@dataclass(frozen=True)
class Rollout:
    """What a score may look at.

    Attributes:
        rewards: f32[T, B].
        dones: bool[T, B]; True at the last step of an episode.
        values: f32[T, B]; the student's value estimates when the steps were taken.
        advantages: f32[T, B]; generalised advantage estimates.
        max_returns: f32[B]; highest return seen on each level up to and including this rollout, -inf where none is.
        optimal_returns: f32[B], what the best policy expects on each level; None unless the score needs it.
        success_return: an episode succeeds when its return is above this.
    """

    rewards: jax.Array
    dones: jax.Array
    values: jax.Array
    advantages: jax.Array
    max_returns: jax.Array
    optimal_returns: jax.Array | None = None
    success_return: float | jax.Array = 0.0

    def episode_mean(self, x: jax.Array) -> jax.Array:
        """`episode_means` of `x`, f32[B]."""
        return episode_means(x, self.dones)

    @cached_property
    def episodes(self) -> EpisodeStatistics:
        """Statistics of the finished episodes."""
        return episode_statistics(self.rewards, self.dones, self.success_return)


@dataclass(frozen=True)
class Score:
    """A named score: `SCORES[name](rewards, dones, values, advantages, max_returns) -> (scores, max_returns)`.

    Attributes:
        name: its name in `SCORES`.
        function: `Rollout` -> f32[B].
        needs_optimum: it reads `Rollout.optimal_returns`, which must be passed to it.
    """

    name: str
    function: Callable[[Rollout], jax.Array]
    needs_optimum: bool = False

    def __call__(
        self,
        rewards: jax.Array,
        dones: jax.Array,
        values: jax.Array,
        advantages: jax.Array,
        max_returns: jax.Array,
        *,
        optimal_returns: jax.Array | None = None,
        success_return: float | jax.Array = 0.0,
    ) -> tuple[jax.Array, jax.Array]:
        """Score B levels.

        Args:
            rewards: f32[T, B].
            dones: bool[T, B]; True at the last step of an episode (terminated or truncated).
            values: f32[T, B].
            advantages: f32[T, B].
            max_returns: f32[B], highest return seen on each level before this rollout; -inf where none was.
            optimal_returns: f32[B], from the environment's `optimal_return`.
            success_return: an episode succeeds when its return is above this.

        Returns:
            scores: f32[B]; -inf where no episode of the level finished in this rollout.
            max_returns: f32[B]; the running maximum including this rollout.

        Raises:
            UserError: the shapes do not agree, or the optimal returns are needed and missing.
        """
        if self.needs_optimum and optimal_returns is None:
            raise UserError(f"The score '{self.name}' needs optimal_returns, which were not given.")
        shapes = {array.shape for array in (rewards, dones, values, advantages)}
        if len(shapes) > 1 or rewards.ndim != 2 or max_returns.shape != rewards.shape[1:]:
            raise UserError(
                f"The score '{self.name}' got rollout arrays of shapes {sorted(shapes)} and maximal returns "
                f"{max_returns.shape}: it takes [T, B] and [B]."
            )
        seen = episode_statistics(rewards, dones, success_return)
        best = jnp.maximum(max_returns, seen.max_return)
        rollout = Rollout(rewards, dones, values, advantages, best, optimal_returns, success_return)
        return jnp.where(seen.count > 0, self.function(rollout), -jnp.inf), best


#: Name -> score. `register_score` adds to it.
SCORES: dict[str, Score] = {}

_Function = Callable[[Rollout], jax.Array]


def register_score(name: str, *, needs_optimum: bool = False) -> Callable[[_Function], _Function]:
    """Register the decorated function, `Rollout` -> f32[B], as a score.

    Raises:
        UserError: there is another score of that name.
    """

    def register(function: _Function) -> _Function:
        add("score", name, Score(name, function, needs_optimum), SCORES)
        return function

    return register


def get_score(name: str) -> Score:
    """Return the score called `name`.

    Raises:
        UserError: there is none; the message names the nearest.
    """
    return look_up("score", name, SCORES)


@register_score("l1_value_loss")
def l1_value_loss(rollout: Rollout) -> jax.Array:
    """mean_e mean_t |A_t| (Jiang, Grefenstette and Rocktäschel 2021, arXiv 2010.03934, table 1)."""
    return rollout.episode_mean(jnp.abs(rollout.advantages))


@register_score("positive_value_loss")
def positive_value_loss(rollout: Rollout) -> jax.Array:
    """mean_e mean_t max(A_t, 0) (Jiang, Dennis et al. 2021, arXiv 2110.02439, section 4)."""
    return rollout.episode_mean(jnp.maximum(rollout.advantages, 0.0))


@register_score("max_mc")
def max_mc(rollout: Rollout) -> jax.Array:
    """mean_e mean_t (R_max - V_t), maximum Monte Carlo regret (Jiang, Dennis et al. 2021, arXiv 2110.02439, section 4).

    R_max is the highest undiscounted return ever seen on the level, this rollout included. It has to come back with
    the level: what the last rollout alone reached would forget the best one.
    """
    return rollout.max_returns - rollout.episode_mean(rollout.values)


@register_score("learnability")
def learnability(rollout: Rollout) -> jax.Array:
    """Score p (1 - p), with p the part of finished episodes that succeed (Rutherford et al. 2024, arXiv 2408.15099).

    An episode succeeds when its return is above the environment's `success_return`. One finished episode always scores
    0, so that a rollout has to be several episodes long. Computed from counts: p and 1 - p give the same bits.
    """
    episodes = rollout.episodes.count.astype(jnp.float32)
    successes = jnp.round(rollout.episodes.success_rate * episodes)
    return successes * (episodes - successes) / jnp.maximum(episodes, 1.0) ** 2


@register_score("return")
def mean_return(rollout: Rollout) -> jax.Array:
    """Mean undiscounted return of the finished episodes."""
    return rollout.episodes.mean_return


@register_score("neg_return")
def negative_return(rollout: Rollout) -> jax.Array:
    """Minus the mean undiscounted return: what a minimax adversary prefers."""
    return -rollout.episodes.mean_return


@register_score("true_regret", needs_optimum=True)
def true_regret(rollout: Rollout) -> jax.Array:
    """max(0, R* - mean_e R_e), the regret that the other scores estimate.

    R* is what the best policy expects on the level, and the returns are undiscounted. Floored at 0, since the mean of
    a few episodes can lie above R*, by luck where the environment is random and by rounding where it is not.
    """
    assert rollout.optimal_returns is not None  # `Score` has checked it
    return jnp.maximum(rollout.optimal_returns - rollout.episodes.mean_return, 0.0)
