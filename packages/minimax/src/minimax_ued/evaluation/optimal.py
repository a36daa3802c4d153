"""The best possible return of levels: what regret is measured against."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from minimax_ued.envs.base import Environment

__all__ = ["optimal_returns"]


def optimal_returns(env: Environment, levels: Any) -> np.ndarray | None:
    """Return f32 `[L]`, the largest return of each level within the environment's step limit.

    By the environment's `optimal_return`, if it has one; that of mazes is a breadth-first search over poses.

    Args:
        env: the environment.
        levels: leading axis L.

    Returns:
        The returns, or None where the environment does not know them.
    """
    known: Any = getattr(env, "optimal_return", None)
    if known is None:
        return None
    return np.asarray(jax.jit(jax.vmap(known))(levels), np.float32)
