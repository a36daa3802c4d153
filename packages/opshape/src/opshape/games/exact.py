"""The infinitely repeated matrix game in closed form.

A memory-one strategy is five probabilities of cooperation, one for each state: 0 CC, 1 CD, 2 DC, 3 DD (own action
first) and 4 START. Shapes are `[..., 5]`; everything broadcasts over the leading axes.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from opshape.games.payoffs import Payoffs

__all__ = ["START", "STATES", "seen_by_other", "values"]

STATES = ("CC", "CD", "DC", "DD", "START")
START = 4


def seen_by_other(strategy: Array) -> Array:
    """Return a strategy with its states named from the other player's side: CD and DC change places."""
    return strategy[..., jnp.array([0, 2, 1, 3, 4])]


def values(own: Array, other: Array, payoffs: Payoffs, *, gamma: float) -> tuple[Array, Array]:
    """Return both players' discounted mean rewards, (1 - gamma) sum_t gamma^t r_t.

    With the transition matrix P over CC, CD, DC, DD and the first step's distribution p0 it is
    (1 - gamma) p0 (I - gamma P)^-1 r (Foerster et al. 2018, section 4.1). It can be differentiated any number of times.

    Args:
        own: the first player's probabilities of cooperation `[..., 5]`, his own action first.
        other: the second player's, named from his own side, `[..., 5]`.
        payoffs: `table[own][other]`.
        gamma: in [0, 1).
    """
    occupancy = (1.0 - gamma) * _visits(own, seen_by_other(other), gamma)
    rewards = jnp.array([cell for row in payoffs for cell in row], occupancy.dtype)  # [4, 2]
    mean = occupancy @ rewards
    return mean[..., 0], mean[..., 1]


def _visits(p: Array, q: Array, gamma: float) -> Array:
    """Return p0 (I - gamma P)^-1, `[..., 4]`, with both strategies named from the first player's side."""
    joint = jnp.stack([p * q, p * (1 - q), (1 - p) * q, (1 - p) * (1 - q)], -1)  # [..., 5 states, 4 next states]
    # x (I - gamma P) = p0, that is (I - gamma P)^T x = p0
    matrix = jnp.eye(4, dtype=joint.dtype) - gamma * jnp.swapaxes(joint[..., :4, :], -1, -2)
    return jnp.linalg.solve(matrix, joint[..., 4, :, None])[..., 0]
