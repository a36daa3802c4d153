"""What every meta-optimiser offers."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import jax.numpy as jnp
from jax import Array

from opshape.play.arena import Arena, Scores

__all__ = ["MetaOptimiser", "Report", "report"]


class Report(NamedTuple):
    """What one generation gives.

    Attributes:
        best: parameters of its best candidate `[D]`, which is lucky as well as good.
        metrics: name -> scalar.
    """

    best: Array
    metrics: dict[str, Array]


class MetaOptimiser(Protocol):
    """Improves a vector of parameters by trials."""

    def init(self, arena: Arena, key: Array) -> Any:
        """Return the state before the first generation."""
        ...

    def generation(self, state: Any, arena: Arena, key: Array) -> tuple[Any, Report]:
        """Return the state after one generation."""
        ...

    def centre(self, state: Any) -> Array:
        """Return the parameters that the state stands for, `[D]`."""
        ...


def report(candidates: Array, scores: Scores, **more: Array) -> Report:
    """Return the report on candidates `[P, D]`: rewards per step over the trial and over its last tenth.

    Candidates without a finite reward are counted and left out. Where none is left the rewards are NaN, so that the
    runner stops.
    """
    fitness = scores.own.mean(-1)
    finite = jnp.isfinite(fitness)
    tail = max(1, scores.own.shape[-1] // 10)
    best = jnp.argmax(jnp.where(finite, fitness, -jnp.inf))
    metrics = {
        "reward": _mean(scores.own, finite),
        "co_player_reward": _mean(scores.other, finite),
        "last_reward": _mean(scores.own[:, -tail:], finite),
        "last_co_player_reward": _mean(scores.other[:, -tail:], finite),
        "best_reward": jnp.where(finite.any(), fitness[best], jnp.nan),
        "reward_spread": jnp.sqrt(_mean((fitness - _mean(scores.own, finite))[:, None] ** 2, finite)),
        "nonfinite_candidates": (~finite).sum().astype(jnp.float32),
    }
    return Report(candidates[best], metrics | more)


def _mean(x: Array, rows: Array) -> Array:
    """Return the mean of `x` `[P, n]` over the rows that are marked, NaN where none is."""
    return jnp.where(rows[:, None], x, 0.0).sum() / (rows.sum() * x.shape[-1])
