"""Where a population was: coverage, entropy of visits, and how many distinct explorers there were."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array
from jax.scipy.special import xlogy

__all__ = ["coverage", "distinct_explorers", "visitation_entropy"]


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


def _bits(p: Array, axes: int | tuple[int, ...]) -> Array:
    return -(xlogy(p, p) / jnp.log(2.0)).sum(axes)
