"""Where a population was: coverage, entropy of visits, how many distinct explorers there were; Crafter's score."""

from __future__ import annotations

from itertools import pairwise

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.special import xlogy

__all__ = ["coverage", "crafter_score", "distinct_explorers", "success_rates", "visitation_entropy"]


def coverage(visits: Array, reachable: Array) -> Array:
    """Return the share of reachable cells that were visited, averaged over layouts.

    Args:
        visits: counts `[L, W, H]`.
        reachable: bool `[L, W, H]`; walls are not counted, so that 1 can be attained.
    """
    found = ((visits > 0) & reachable).sum((-2, -1)) / reachable.sum((-2, -1))
    return found.mean(-1)


def visitation_entropy(visits: Array) -> Array:
    """Return the entropy in bits of the distribution of visits over cells, averaged over layouts."""
    total = visits.sum((-2, -1), keepdims=True)
    return (_bits(visits / jnp.maximum(total, 1), (-2, -1))).mean(-1)


def distinct_explorers(visits: Array) -> Array:
    """Return the effective number of distinct explorers, from 1 (all alike) to B (nowhere two of them).

    2 to the power of the Jensen-Shannon divergence of their distributions of visits, all layouts together.

    Args:
        visits: counts `[B, L, W, H]`.
    """
    flat = visits.reshape(visits.shape[0], -1)
    p = flat / jnp.maximum(flat.sum(-1, keepdims=True), 1)
    return 2.0 ** (_bits(p.mean(0), -1) - _bits(p, -1).mean(0))


def success_rates(unlocked: np.ndarray, first: np.ndarray) -> tuple[np.ndarray, int]:
    """Return the share of finished episodes with each achievement, `[A]`, and how many episodes these are.

    An episode is finished where another follows it in its stream; the last one of each stream does not count.

    Args:
        unlocked: above 0 in the row of an achievement, `[N, T, A]`.
        first: rows where an episode begins, `[N, T]`.
    """
    found = []
    for rows, begins in zip(unlocked, first, strict=True):
        borders = np.flatnonzero(begins)
        found += [rows[a:b].max(0) > 0 for a, b in pairwise(borders)]
    return np.mean(found, 0) if found else np.zeros(unlocked.shape[-1]), len(found)


def crafter_score(rates: np.ndarray) -> float:
    """Return exp(mean log(1 + s)) - 1, s the success rates in percent: the geometric mean of Hafner (2022)."""
    return float(np.expm1(np.log1p(100.0 * rates).mean()))


def _bits(p: Array, axes: int | tuple[int, ...]) -> Array:
    return -(xlogy(p, p) / jnp.log(2.0)).sum(axes)
