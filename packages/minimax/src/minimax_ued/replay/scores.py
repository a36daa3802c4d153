"""Scores: how much a level is worth replaying, from one rollout on it.

T is the number of time steps, B the number of levels. A rollout array has shape [T, B], or [T, B, E] where each level
was played in E environments. Several episodes may end within a rollout; the last one may be cut off, and is left out.

A new score is a function of a `Rollout`, registered under a name:

    @register_score("value_surprise", signed=False)
    def value_surprise(rollout: Rollout) -> jax.Array:
        return rollout.episode_mean(jnp.square(rollout.advantages))

Levels without a finished episode get -inf from the registry, so a score need not think of them. A score of what a
rollout does not always have says so, and whoever calls it passes that along:

    @register_score("value_variance", signed=False, needs=("value_std",))
    def value_variance(rollout: Rollout) -> jax.Array:
        return rollout.episode_mean(jnp.square(rollout.value_std))
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import jax
import jax.numpy as jnp
from flax import struct

from minimax_ued.support.registry import add, look_up
from paperloop.errors import UserError, setting

__all__ = [
    "SCORES", "EpisodeStatistics", "Need", "Rollout", "Score", "check_prioritization", "episode_means",
    "episode_statistics", "episode_sums", "get_score", "register_score",
]  # fmt: skip

#: What a score may need besides the plain rollout; see the fields of `Rollout` of the same names.
Need = Literal["optimal_returns", "update_norms", "value_std"]

_NEEDS = frozenset(get_args(Need))


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


def _over_time_and_trials(x: jax.Array) -> tuple[int, ...]:
    return (0, *range(2, x.ndim))


def _mean_at_ends(x: jax.Array, dones: jax.Array) -> jax.Array:
    axes = _over_time_and_trials(dones)
    return jnp.where(dones, x, 0.0).sum(axes) / jnp.maximum(dones.sum(axes), 1)


def episode_means(x: jax.Array, dones: jax.Array) -> jax.Array:
    """Return f32[B]: the mean over finished episodes of the mean of `x` over the episode's steps.

    Every episode has the same weight, however long. 0 where no episode finished. With trials, episodes of all trials
    of a level are pooled.

    Args:
        x: [T, B] or [T, B, E].
        dones: bool, of the same shape; True at the last step of an episode.
    """
    dones = dones.astype(bool)
    total, length = episode_sums(x, dones)
    return _mean_at_ends(total / length, dones)


def episode_statistics(
    rewards: jax.Array, dones: jax.Array, success_return: float | jax.Array = 0.0
) -> EpisodeStatistics:
    """Return counts, returns and lengths of the finished episodes of each level.

    Args:
        rewards: f32[T, B] or [T, B, E].
        dones: bool, of the same shape; True at the last step of an episode.
        success_return: an episode succeeds when its return is above this.
    """
    dones = dones.astype(bool)
    axes = _over_time_and_trials(dones)
    returns, lengths = episode_sums(rewards, dones)
    return EpisodeStatistics(
        count=dones.sum(axes, dtype=jnp.int32),
        mean_return=_mean_at_ends(returns, dones),
        max_return=jnp.where(dones, returns, -jnp.inf).max(axes),
        success_rate=_mean_at_ends((returns > success_return).astype(jnp.float32), dones),
        mean_length=_mean_at_ends(lengths, dones),
    )


@dataclass(frozen=True)
class Rollout:
    """What a score may look at.

    Attributes:
        rewards: f32[T, B] or [T, B, E].
        dones: bool, same shape; True at the last step of an episode.
        values: f32, same shape; the student's value estimates when the steps were taken.
        advantages: f32, same shape; generalised advantage estimates.
        max_returns: f32[B]; highest return seen on each level up to and including this rollout, -inf where none is.
        optimal_returns: f32[B], what the best policy expects on each level.
        update_norms: f32[B], squared norm of the parameter change that each level alone would cause.
        value_std: f32, of the shape of `rewards`; standard deviation over the student's value heads.
        success_return: an episode succeeds when its return is above this.

    The three before the last are None unless given; they are given to a score that names them in `needs`.
    """

    rewards: jax.Array
    dones: jax.Array
    values: jax.Array
    advantages: jax.Array
    max_returns: jax.Array
    optimal_returns: jax.Array | None = None
    update_norms: jax.Array | None = None
    value_std: jax.Array | None = None
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
        signed: it may be negative, so that only rank prioritization can use it.
        function: `Rollout` -> f32[B].
        needs: optional fields of `Rollout` that it reads, and that must be passed to it.
    """

    name: str
    signed: bool
    function: Callable[[Rollout], jax.Array]
    needs: frozenset[Need] = frozenset()

    def __call__(
        self,
        rewards: jax.Array,
        dones: jax.Array,
        values: jax.Array,
        advantages: jax.Array,
        max_returns: jax.Array,
        *,
        optimal_returns: jax.Array | None = None,
        update_norms: jax.Array | None = None,
        value_std: jax.Array | None = None,
        success_return: float | jax.Array = 0.0,
    ) -> tuple[jax.Array, jax.Array]:
        """Score B levels.

        Args:
            rewards: f32[T, B] or [T, B, E].
            dones: bool, same shape; True at the last step of an episode (terminated or truncated).
            values: f32, same shape.
            advantages: f32, same shape.
            max_returns: f32[B], highest return seen on each level before this rollout; -inf where none was.
            optimal_returns: f32[B], from the environment's `optimal_return`; for scores that need it, as the next two.
            update_norms: f32[B], from `minimax_ued.replay.update_norms`.
            value_std: f32, of the shape of `rewards`; over the student's value heads.
            success_return: an episode succeeds when its return is above this.

        Returns:
            scores: f32[B]; -inf where no episode of the level finished in this rollout.
            max_returns: f32[B]; the running maximum including this rollout.

        Raises:
            UserError: the shapes do not agree, or something that the score needs is missing.
        """
        extras = {"optimal_returns": optimal_returns, "update_norms": update_norms, "value_std": value_std}
        for need in sorted(self.needs):
            if extras[need] is None:
                raise UserError(
                    f"The score '{self.name}' needs {need}, which was not given: pass {need}={_MEANS[need]}."
                )
        for name, array in (("dones", dones), ("values", values), ("advantages", advantages), ("value_std", value_std)):
            if array is None:
                continue
            if array.shape != rewards.shape or rewards.ndim < 2:
                raise UserError(
                    f"The score '{self.name}' got {name} of shape {array.shape} with rewards of shape {rewards.shape}: "
                    "all rollout arrays must have one shape, [T, B] or [T, B, E]."
                )
        per_level = {"max_returns": max_returns, "optimal_returns": optimal_returns, "update_norms": update_norms}
        for name, array in per_level.items():
            if array is not None and array.shape != rewards.shape[1:2]:
                raise UserError(
                    f"The score '{self.name}' got {name} of shape {array.shape}, but needs one for each of the "
                    f"{rewards.shape[1]} levels."
                )
        seen = episode_statistics(rewards, dones, success_return)
        best = jnp.maximum(max_returns, seen.max_return)
        scores = self.function(
            Rollout(rewards, dones, values, advantages, best, **extras, success_return=success_return)
        )
        return jnp.where(seen.count > 0, scores, -jnp.inf), best


#: Name -> score. `register_score` adds to it.
SCORES: dict[str, Score] = {}


#: Where what a score needs comes from.
_MEANS: dict[str, str] = {
    "optimal_returns": "what the environment's optimal_return says of each level",
    "update_norms": "what minimax_ued.replay.update_norms.update_norms says of the rollout",
    "value_std": "the standard deviation over the student's value heads",
}


def register_score(
    name: str, *, signed: bool, needs: Iterable[Need] = ()
) -> Callable[[Callable[[Rollout], jax.Array]], Callable[[Rollout], jax.Array]]:
    """Register the decorated function, `Rollout` -> f32[B], as a score.

    Args:
        name: its name.
        signed: it may be negative.
        needs: optional fields of `Rollout` that it reads.

    Raises:
        UserError: `needs` names something that no rollout has, or there is another score of that name.
    """
    wanted = frozenset(needs)
    if not wanted <= _NEEDS:
        raise UserError(
            f"The score {name!r} says that it needs {', '.join(sorted(wanted - _NEEDS))}, but what a score may need is "
            f"{', '.join(sorted(_NEEDS))}."
        )

    def register(function: Callable[[Rollout], jax.Array]) -> Callable[[Rollout], jax.Array]:
        add("score", name, Score(name, signed, function, wanted), SCORES)
        return function

    return register


def get_score(name: str) -> Score:
    """Return the score called `name`.

    Raises:
        UserError: there is none; the message names the nearest.
    """
    return look_up("score", name, SCORES)


def check_prioritization(score: str, prioritization: str) -> None:
    """Refuse a score that may be negative together with proportional prioritization.

    Raises:
        UserError: they do not go together, or there is no such score.
    """
    if get_score(score).signed and prioritization == "proportional":
        unsigned = ", ".join(sorted(name for name, entry in SCORES.items() if not entry.signed))
        raise UserError(
            f"The score '{score}' may be negative, and proportional prioritization needs scores of at least 0: set "
            f"{setting('buffer.prioritization', 'rank')}, or choose one of {unsigned}."
        )


@register_score("l1_value_loss", signed=False)
def l1_value_loss(rollout: Rollout) -> jax.Array:
    """mean_e mean_t |A_t| (Jiang, Grefenstette and Rocktäschel 2021, arXiv 2010.03934, table 1)."""
    return rollout.episode_mean(jnp.abs(rollout.advantages))


@register_score("positive_value_loss", signed=False)
def positive_value_loss(rollout: Rollout) -> jax.Array:
    """mean_e mean_t max(A_t, 0) (Jiang, Dennis et al. 2021, arXiv 2110.02439, section 4)."""
    return rollout.episode_mean(jnp.maximum(rollout.advantages, 0.0))


@register_score("max_mc", signed=True)
def max_mc(rollout: Rollout) -> jax.Array:
    """mean_e mean_t (R_max - V_t), maximum Monte Carlo regret (Jiang, Dennis et al. 2021, arXiv 2110.02439, section 4).

    R_max is the highest undiscounted return ever seen on the level, this rollout included. It has to come back with
    the level: what the last rollout alone reached would forget the best one.
    """
    return rollout.max_returns - rollout.episode_mean(rollout.values)


@register_score("learnability", signed=False)
def learnability(rollout: Rollout) -> jax.Array:
    """Score p (1 - p), with p the part of finished episodes that succeed (Rutherford et al. 2024, arXiv 2408.15099).

    An episode succeeds when its return is above the environment's `success_return`. One finished episode always scores
    0, so that a rollout has to be several episodes long. Computed from counts: p and 1 - p give the same bits.
    """
    episodes = rollout.episodes.count.astype(jnp.float32)
    successes = jnp.round(rollout.episodes.success_rate * episodes)
    return successes * (episodes - successes) / jnp.maximum(episodes, 1.0) ** 2


@register_score("return", signed=True)
def mean_return(rollout: Rollout) -> jax.Array:
    """Mean undiscounted return of the finished episodes."""
    return rollout.episodes.mean_return


@register_score("neg_return", signed=True)
def negative_return(rollout: Rollout) -> jax.Array:
    """Minus the mean undiscounted return: what a minimax adversary prefers."""
    return -rollout.episodes.mean_return


@register_score("value_disagreement", signed=False, needs=("value_std",))
def value_disagreement(rollout: Rollout) -> jax.Array:
    """mean_e mean_t std_k V_t^k over the student's value heads k (Jiang et al. 2023, arXiv 2311.12716)."""
    return rollout.episode_mean(_given(rollout.value_std))


@register_score("true_regret", signed=False, needs=("optimal_returns",))
def true_regret(rollout: Rollout) -> jax.Array:
    """max(0, R* - mean_e R_e), the regret that the other scores estimate.

    R* is what the best policy expects on the level, and the returns are undiscounted. Floored at 0, since the mean of
    a few episodes can lie above R*, by luck where the environment is random and by rounding where it is not.
    """
    return jnp.maximum(_given(rollout.optimal_returns) - rollout.episodes.mean_return, 0.0)


@register_score("update_norm", signed=False, needs=("update_norms",))
def update_norm(rollout: Rollout) -> jax.Array:
    """Squared norm of the parameter change that the level induces (PACE; Yuan et al. 2026, arXiv 2605.01358).

    `minimax_ued.replay.update_norms` says what exactly is computed.
    """
    return _given(rollout.update_norms)


def _given(x: jax.Array | None) -> jax.Array:
    assert x is not None  # `Score` has checked `needs`
    return x
