"""Generalised advantage estimation with ends and cut-offs kept apart."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

__all__ = ["generalized_advantages"]


def generalized_advantages(
    rewards: Array,
    values: Array,
    last_value: Array,
    *,
    terminated: Array,
    truncated: Array,
    truncation_values: Array | None = None,
    gamma: float | Array,
    gae_lambda: float,
) -> tuple[Array, Array]:
    """Return advantages and value targets (Schulman et al. 2016, arXiv 1506.02438, equation 16).

        δ_t = r_t + γ V'_t - V_t            V'_t = 0                      where the episode ends at t (terminated)
                                                 = V(last observation)    where it is cut off at t (truncated)
                                                 = V_{t+1}                elsewhere
        A_t = δ_t + γ λ A_{t+1}             the second term 0 where the episode ends or is cut off at t
        G_t = A_t + V_t

    λ = 1 gives the Monte-Carlo return minus V, λ = 0 the one-step temporal difference.

    Args:
        rewards: r, `[T, ...]`.
        values: V, the value of the observation each action was chosen on, `[T, ...]`.
        last_value: V_{T+1}, `[...]`; unused where step T is the last of its episode.
        terminated: bool `[T, ...]`; the episode ended with this step.
        truncated: bool `[T, ...]`; the episode was cut off after this step. Where both are true it ended.
        truncation_values: `[T, ...]`, the value of the observation *after* step t, read only where the episode was cut
            off. None treats a cut-off as an end worth zero.
        gamma: γ, one number or `[T, ...]`.
        gae_lambda: λ.

    Returns:
        Advantages A and targets G, each `[T, ...]` in float32.
    """
    rewards, values, last_value = (x.astype(jnp.float32) for x in (rewards, values, last_value))
    done = terminated | truncated
    later_values = jnp.concatenate([values[1:], last_value[None]])
    ending_values = 0.0 if truncation_values is None else jnp.where(terminated, 0.0, truncation_values)
    deltas = rewards + gamma * jnp.where(done, ending_values, later_values) - values
    weights = jnp.where(done, 0.0, gamma * gae_lambda)

    def body(advantage: Array, step: tuple[Array, Array]) -> tuple[Array, Array]:
        delta, weight = step
        advantage = delta + weight * advantage
        return advantage, advantage

    _, advantages = jax.lax.scan(body, jnp.zeros_like(last_value), (deltas, weights), reverse=True)
    return advantages, advantages + values
