"""The loops over one pair of episodes that numba compiles: costs, kernels, and one pass over the kernel an iteration.

`otr.optimal_transport.solvers.numba_kernels` says what they compute. Numba's cache does not see from there that a file
it imports has changed: whoever edits this one touches that one too.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit
from numba.core import types
from numba.extending import intrinsic

__all__ = [
    "COST_KINDS", "MASKED", "cost_matrix", "expected_costs", "first_columns", "jit", "mask_band", "rebuild",
    "relaxed_sweep", "sweep",
]  # fmt: skip

#: How `cost_matrix` computes costs from rows.
COST_KINDS = {"dot": 0, "euclidean": 1, "sqeuclidean": 2}
#: The cost of a pair of steps outside the temporal band: exp(-MASKED/eps) is 0 and 0 * MASKED is 0.
MASKED = np.float32(1e20)

_FAST = {"reassoc", "contract", "nsz", "arcp"}  # neither nnan nor ninf: results must stay checkable


@intrinsic
def _float_from_bits(typing_context: Any, bits: Any) -> Any:
    """Reinterpret an int32 as a float32."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.int32), generate


def jit(**options: Any) -> Any:
    """`numba.njit`, cached on disk where there is a folder for it."""

    def decorate(function: Any) -> Any:
        try:
            return njit(cache=True, nogil=True, **options)(function)
        except RuntimeError:  # no folder to write the cache to
            return njit(nogil=True, **options)(function)

    return decorate


@jit(fastmath={"contract"}, inline="never")
def _exp(x):
    """Exp of a float32, to 2 units in the last place; 0 below -87. Branch-free, so that loops over it vectorise."""
    x = min(max(x, np.float32(-88.0)), np.float32(88.0))
    n = np.floor(x * np.float32(1.44269504) + np.float32(0.5))
    r = x - n * np.float32(0.693359375) + n * np.float32(2.12194440e-4)
    p = np.float32(1.9875691500e-4)
    p = p * r + np.float32(1.3981999507e-3)
    p = p * r + np.float32(8.3334519073e-3)
    p = p * r + np.float32(4.1665795894e-2)
    p = p * r + np.float32(1.6666665459e-1)
    p = p * r + np.float32(5.0000001201e-1)
    p = p * r * r + r + np.float32(1.0)
    y = p * _float_from_bits((np.int32(n) + np.int32(127)) << np.int32(23))  # ty: ignore[missing-argument]
    return y if x > np.float32(-87.0) else np.float32(0.0)


@jit(fastmath=_FAST)
def cost_matrix(x, x_norms, y_t, y_norms, kind, ridge, C):
    """Fill C (T, M) from agent rows x (T, D) and demonstration columns y_t (D, M)."""
    T, D = x.shape
    M = y_t.shape[1]
    for i in range(T):
        row = C[i]
        if kind == 0:
            row[:] = np.float32(0.0)
            for d in range(D):
                a = x[i, d]
                column = y_t[d]
                for j in range(M):
                    row[j] += a * column[j]
            if ridge > 0:
                # <x, y> / (|x||y| + ridge), from x/|x| and y/|y|; float32 sees the ridge for short vectors only
                for j in range(M):
                    product = x_norms[i] * y_norms[j]
                    row[j] = np.float32(1.0) - row[j] * (product / (product + np.float32(ridge)))
            else:
                for j in range(M):
                    row[j] = np.float32(1.0) - row[j]
        else:
            row[:] = np.float32(0.0)
            for d in range(D):
                a = x[i, d]
                column = y_t[d]
                for j in range(M):
                    difference = a - column[j]
                    row[j] += difference * difference
            if kind == 1:
                for j in range(M):
                    row[j] = math.sqrt(row[j])


@jit()
def mask_band(C, half_width):
    """Put MASKED where a step is further than `half_width` from the diagonal, in either time."""
    T, M = C.shape
    for i in range(T):
        centre = ((2 * i + 1) * M) // (2 * T)
        for j in range(M):
            other = ((2 * j + 1) * T) // (2 * M)
            if abs(j - centre) > half_width and abs(i - other) > half_width:
                C[i, j] = MASKED


@jit(fastmath=_FAST)
def first_columns(C, inv_eps, lam_demo, G, least):
    """G of the column update from zero potentials, in the log domain. `least` is scratch (2, M)."""
    T, M = C.shape
    low = least[0]
    total = least[1]
    low[:] = C[0]
    for i in range(1, T):
        row = C[i]
        for j in range(M):
            low[j] = min(low[j], row[j])
    total[:] = np.float32(0.0)
    for i in range(T):
        row = C[i]
        for j in range(M):
            total[j] += _exp((low[j] - row[j]) * inv_eps)
    for j in range(M):
        G[j] = lam_demo * (np.float64(low[j]) * inv_eps - math.log(np.float64(total[j]) / T))


@jit(fastmath=_FAST)
def rebuild(C, inv_eps, lam_agent, G, offset, W, Fh, u, acc):
    """W with rows that sum to one from C and G, the row update u, and the column sums acc. `offset` is scratch (M,)."""
    T, M = C.shape
    # The common part of G goes by float64 into Fh, so that float32 holds differences only.
    level = G[0]
    for j in range(M):
        level = max(level, G[j])
    for j in range(M):
        offset[j] = np.float32(G[j] - level)
    acc[:] = np.float32(0.0)
    for i in range(T):
        cost = C[i]
        row = W[i]
        base = cost[0]
        for j in range(1, M):
            base = min(base, cost[j])
        high = np.float32(-3e38)
        for j in range(M):
            row[j] = offset[j] - (cost[j] - base) * inv_eps
            high = max(high, row[j])
        total = np.float32(0.0)
        for j in range(M):
            row[j] = _exp(row[j] - high)
            total += row[j]
        scale = np.float32(1.0) / total
        Fh[i] = np.float64(base) * inv_eps - np.float64(high) - level - math.log(np.float64(total) / M)
        if lam_agent == 1.0:
            u[i] = np.float32(1.0)
        else:
            u[i] = math.exp(min(max((lam_agent - 1.0) * Fh[i], -80.0), 80.0))
        weight = u[i]
        for j in range(M):
            row[j] *= scale
            acc[j] += weight * row[j]


@jit(fastmath=_FAST)
def sweep(W, v, u, acc):
    """One balanced row update u and the column sums acc that follow from it, in one pass over W."""
    T, M = W.shape
    acc[:] = np.float32(0.0)
    blocks = T // 4
    for b in range(blocks):
        i = 4 * b
        w0 = W[i]
        w1 = W[i + 1]
        w2 = W[i + 2]
        w3 = W[i + 3]
        s0 = np.float32(0.0)
        s1 = np.float32(0.0)
        s2 = np.float32(0.0)
        s3 = np.float32(0.0)
        for j in range(M):
            x = v[j]
            s0 += w0[j] * x
            s1 += w1[j] * x
            s2 += w2[j] * x
            s3 += w3[j] * x
        s0 = np.float32(1.0) / s0
        s1 = np.float32(1.0) / s1
        s2 = np.float32(1.0) / s2
        s3 = np.float32(1.0) / s3
        u[i] = s0
        u[i + 1] = s1
        u[i + 2] = s2
        u[i + 3] = s3
        for j in range(M):
            acc[j] += (s0 * w0[j] + s1 * w1[j]) + (s2 * w2[j] + s3 * w3[j])
    for i in range(4 * blocks, T):
        row = W[i]
        s0 = np.float32(0.0)
        for j in range(M):
            s0 += row[j] * v[j]
        s0 = np.float32(1.0) / s0
        u[i] = s0
        for j in range(M):
            acc[j] += s0 * row[j]


@jit(fastmath=_FAST)
def relaxed_sweep(W, v, u, acc, Fh, lam_agent, omega):
    """A row update that is unbalanced or over-relaxed, and the column sums that follow from it."""
    T, M = W.shape
    acc[:] = np.float32(0.0)
    for i in range(T):
        row = W[i]
        total = np.float32(0.0)
        for j in range(M):
            total += row[j] * v[j]
        plain = -lam_agent * math.log(max(np.float64(total), 1e-37)) - (1.0 - lam_agent) * Fh[i]
        if omega != 1.0:
            plain = omega * plain + (1.0 - omega) * math.log(max(np.float64(u[i]), 1e-37))
        u[i] = math.exp(min(max(plain, -80.0), 80.0))
        weight = u[i]
        for j in range(M):
            acc[j] += weight * row[j]


@jit(fastmath=_FAST)
def expected_costs(C, W, v, out):
    """Σ_j C_ij W_ij v_j / Σ_j W_ij v_j for each row i."""
    T, M = C.shape
    for i in range(T):
        cost = C[i]
        row = W[i]
        total = np.float32(0.0)
        mass = np.float32(0.0)
        for j in range(M):
            weight = row[j] * v[j]
            mass += weight
            total += weight * cost[j]
        out[i] = total / mass
