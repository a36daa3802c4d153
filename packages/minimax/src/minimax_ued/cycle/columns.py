"""Leaving out the environments whose levels are only looked at.

A parallel method rolls out several batches of B environments side by side, and learns from some of them: `parts`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from minimax_ued.learning.rollout import Trajectory

__all__ = ["learned_columns", "learned_levels"]


def learned_levels(tree: Any, parts: Sequence[int], n: int) -> Any:
    """Return the entries of arrays `[N, ...]` that belong to the batches `parts`, each of `n` levels."""
    if len(parts) * n == jax.tree.leaves(tree)[0].shape[0]:
        return tree
    return jax.tree.map(lambda x: jnp.concatenate([x[i * n : (i + 1) * n] for i in parts]), tree)


def learned_columns(
    trajectory: Trajectory, advantages: Array, targets: Array, parts: Sequence[int], n: int
) -> tuple[Trajectory, Array, Array]:
    """Return a rollout of N environments, its advantages and targets `[S, N]`, for the batches `parts`."""
    if len(parts) * n == advantages.shape[1]:
        return trajectory, advantages, targets

    def cut(x: Array, axis: int) -> Array:
        kept = [jax.lax.slice_in_dim(x, i * n, (i + 1) * n, axis=axis) for i in parts]
        return kept[0] if len(kept) == 1 else jnp.concatenate(kept, axis)

    last = cut(trajectory.last_value, 0)
    carries = jax.tree.map(lambda x: cut(x, 1), trajectory.carries)
    rest = jax.tree.map(lambda x: cut(x, 1), trajectory.replace(carries=None, last_value=None))
    return rest.replace(carries=carries, last_value=last), cut(advantages, 1), cut(targets, 1)
