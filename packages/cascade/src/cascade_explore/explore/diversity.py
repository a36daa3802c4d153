"""Diversity of a population's final states, agent after agent: what the cascade is paid.

Arrays have the agents first, `[B, S, D]` for S common starts; results are `[B, S]`. Agent i is measured together with
the agents before it, never with those after it (the cascade is causal), and the agents before it are constants: a
gradient of agent i's diversity reaches agent i alone. That makes all B rewards prefix statistics, computed in one pass.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

__all__ = ["conditional_gains", "ensemble_kernel", "gram", "knn_entropy", "marginal_gains", "nearest", "variance"]

_sg = jax.lax.stop_gradient


def variance(finals: Array) -> Array:
    """Return the variance over agents 1 .. i (ddof 0), averaged over dimensions; 0 for the first.

    `div_i = mean_d (Σ_j h_j² / i - (Σ_j h_j / i)²)` by prefix sums of differences to the first agent, which avoids the
    cancellation of two large numbers.
    """
    shifted = finals - _sg(finals[:1])
    count = jnp.arange(1, len(finals) + 1, dtype=finals.dtype)[:, None, None]

    def mean(x: Array) -> Array:
        before = jnp.concatenate([jnp.zeros_like(x[:1]), jnp.cumsum(_sg(x), 0)[:-1]])
        return (before + x) / count

    spread = mean(jnp.square(shifted)) - jnp.square(mean(shifted))
    return jnp.maximum(spread, 0.0).mean(-1)


def marginal_gains(diversity: Array) -> Array:
    """Return what each agent adds to a cumulative measure: `div_i - div_{i-1}`, the latter constant."""
    before = jnp.concatenate([jnp.zeros_like(diversity[:1]), _sg(diversity[:-1])])
    return diversity - before


def nearest(finals: Array, *, k: int, pool: int) -> Array:
    """Return log(1 + distance to the k-th nearest final state among those of earlier agents); 0 for the first.

    Args:
        finals: `[B, S, D]`.
        k: which neighbour.
        pool: the first `pool` starts of every earlier agent are candidates.
    """
    agents = len(finals)
    others = _sg(finals[:, :pool])
    square = jnp.square(finals[:, :, None, None] - others[None, None]).sum(-1)  # [B, S, B, pool]
    before = jnp.arange(agents)[:, None] > jnp.arange(agents)[None]
    square = jnp.where(before[:, None, :, None], square, jnp.inf)
    kth = -jax.lax.top_k(-square.reshape(*square.shape[:2], -1), k)[0][..., -1]
    seen = jnp.isfinite(kth) & (kth > 0)
    return jnp.where(seen, jnp.log1p(jnp.sqrt(jnp.where(seen, kth, 1.0))), 0.0)


def knn_entropy(points: Array, *, k: int) -> Array:
    """Return the Kozachenko-Leonenko estimate of differential entropy in nats.

    `ψ(n) - ψ(k) + log V_d + d mean log ε_k`, V_d the volume of the unit ball and ε_k the distance to the k-th nearest
    other point (Kozachenko and Leonenko 1987, as in Kraskov et al. 2004).

    Args:
        points: `[n, d]`.
        k: which neighbour, below n.
    """
    n, d = points.shape
    square = jnp.square(points[:, None] - points[None]).sum(-1)
    square = jnp.where(jnp.eye(n, dtype=bool), jnp.inf, square)
    epsilon = jnp.sqrt(-jax.lax.top_k(-square, k)[0][:, -1])
    ball = 0.5 * d * jnp.log(jnp.pi) - jax.scipy.special.gammaln(0.5 * d + 1.0)
    psi = jax.scipy.special.digamma
    return psi(float(n)) - psi(float(k)) + ball + d * jnp.log(epsilon).mean()


def gram(vectors: Array) -> tuple[Array, Array]:
    """Return inner products of agents' vectors per start, and each with itself: `[S, B, B]` and `[B, S]`.

    Products are means over dimensions. Entry (i, j) has a gradient for i alone; the diagonal is returned apart, because
    there both factors are agent i's.
    """
    d = vectors.shape[-1]
    return jnp.einsum("isd,jsd->sij", vectors, _sg(vectors)) / d, jnp.square(vectors).mean(-1)


def ensemble_kernel(predicted: Array) -> tuple[Array, Array]:
    """Return `k(x, x') = <φ(x), φ(x')> / K`, φ the heads' predictions minus their mean.

    It is the covariance of the predictions at x and x' over the heads, averaged over dimensions; its diagonal is the
    ensemble's variance. Its rank is at most K - 1 for each dimension.

    Args:
        predicted: `[K, B, S, D]`.
    """
    heads, agents, starts, width = predicted.shape
    centred = (predicted - predicted.mean(0)).transpose(1, 2, 0, 3).reshape(agents, starts, heads * width)
    return gram(centred)


def conditional_gains(kernel: Array, diagonal: Array, *, sigma: float) -> Array:
    """Return ½ log(1 + v_i / σ²), v_i the variance of agent i's value given those of agents 1 .. i-1, `[B, S]`.

    For a Gaussian of covariance K, observed with noise σ, this is the information that observation i adds to those
    before it, and the sum over agents is ½ log det(I + K / σ²) (the chain rule).

    `v_i = k_ii - k_iX (K_XX + σ² I)^{-1} k_Xi` by one Cholesky factor for all i, since the leading blocks of a factor
    are the factors of the leading blocks.

    Args:
        kernel: `[S, B, B]`.
        diagonal: `[B, S]`.
        sigma: noise.
    """
    agents = kernel.shape[-1]
    factor = jnp.linalg.cholesky(_sg(kernel) + sigma**2 * jnp.eye(agents))
    before = jnp.tril(jnp.ones((agents, agents)), -1)
    rows = jnp.swapaxes(kernel * before, -1, -2)  # column i holds k_Xi, and 0 from i on
    solved = jax.scipy.linalg.solve_triangular(factor, rows, lower=True) * before.T
    conditional = jnp.maximum(diagonal - jnp.square(solved).sum(-2).T, 0.0)
    return 0.5 * jnp.log1p(conditional / sigma**2)
