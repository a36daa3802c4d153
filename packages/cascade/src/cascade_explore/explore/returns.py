"""Returns and weights along imagined sequences."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

__all__ = ["discount_weights", "lambda_returns"]


def lambda_returns(reward: Array, discount: Array, value: Array, *, lam: float) -> Array:
    """Return `V_t = r_t + d_t [(1 - λ) v_{t+1} + λ V_{t+1}]`, `V_H = v_H`, for t = 0 .. H - 1.

    Args:
        reward: of the transition from t to t + 1, `[H, ...]`. The last one counts: a reward for where a sequence ends
            belongs there.
        discount: γ times the probability that the episode continues at t + 1, `[H, ...]`.
        value: `[H + 1, ...]`.
        lam: 0 bootstraps after one step, 1 at the end.
    """

    def back(after: Array, row: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        r, d, v = row
        here = r + d * ((1.0 - lam) * v + lam * after)
        return here, here

    return jax.lax.scan(back, value[-1], (reward, discount, value[1:]), reverse=True)[1]


def discount_weights(start: Array, discount: Array) -> Array:
    """Return the product of discounts before each step, `w_0 = start`, `w_t = w_{t-1} d_{t-1}`, `[H, ...]`."""
    return start * jnp.concatenate([jnp.ones_like(discount[:1]), jnp.cumprod(discount, 0)[:-1]])
