"""Returns and advantages, and the losses of policy-gradient learners. Pure functions of time-major arrays."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

__all__ = ["advantages", "aligned", "clipped_surrogate", "clipped_value_loss", "discounted_past", "entropy"]


def advantages(rewards: Array, values: Array, last: Array, *, gamma: float, lam: float) -> Array:
    """Return generalised advantages (Schulman et al. 2016), time first.

        delta_t = r_t + gamma V_{t+1} - V_t;   A_t = delta_t + gamma lambda A_{t+1}

    Args:
        rewards: `[T, ...]`.
        values: V of the observation before each reward, `[T, ...]`.
        last: V of the observation after the last reward, `[...]`; 0 where that ended everything.
        gamma: discount.
        lam: lambda.
    """

    def back(carry: tuple[Array, Array], step: tuple[Array, Array]) -> tuple[tuple[Array, Array], Array]:
        following, advantage = carry
        reward, value = step
        advantage = reward + gamma * following - value + gamma * lam * advantage
        return (value, advantage), advantage

    _, found = jax.lax.scan(back, (last, jnp.zeros_like(last)), (rewards, values), reverse=True)
    return found


def clipped_surrogate(ratio: Array, advantage: Array, *, clip: float) -> Array:
    """Return PPO's objective min(rho A, clip(rho, 1 - eps, 1 + eps) A) per sample (Schulman et al. 2017, eq. 7)."""
    return jnp.minimum(ratio * advantage, jnp.clip(ratio, 1 - clip, 1 + clip) * advantage)


def clipped_value_loss(value: Array, before: Array, target: Array, *, clip: float) -> Array:
    """Return max((R - V)^2, (R - clip(V, V_old +- eps))^2) per sample."""
    clipped = before + jnp.clip(value - before, -clip, clip)
    return jnp.maximum((target - value) ** 2, (target - clipped) ** 2)


def entropy(logits: Array) -> Array:
    """Return the entropy of categorical distributions, `[..., actions]` to `[...]`."""
    log_p = jax.nn.log_softmax(logits)
    return -(jnp.exp(log_p) * log_p).sum(-1)


def discounted_past(advantage: Array, *, gamma: float) -> Array:
    """Return sum_{k < t} gamma^{t-k} A_k, `[T, ...]`."""

    def forward(total: Array, a: Array) -> tuple[Array, Array]:
        return gamma * (total + a), total

    _, past = jax.lax.scan(forward, jnp.zeros_like(advantage[0]), advantage)
    return past


def aligned(own: Array, other: Array, *, weight: float, gamma: float) -> Array:
    """Return Advantage Alignment's advantages (Duque et al. 2025, eq. 8), `[T, ...]`.

        A*_t = A1_t + weight gamma (sum_{k < t} gamma^{t-k} A1_k) A2_t

    Args:
        own: one's own advantages.
        other: the co-player's, at the same times.
        weight: beta; 0 gives `own`.
        gamma: discount.
    """
    return own + weight * gamma * discounted_past(own, gamma=gamma) * other
