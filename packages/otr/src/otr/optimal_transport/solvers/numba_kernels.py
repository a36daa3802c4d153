"""The compiled CPU path: costs and Sinkhorn iterations of many pairs, one pass over the kernel an iteration.

For one pair of T agent rows and M demonstration rows the plan is written

    P_ij = (1/T)(1/M) exp(F_i + G_j - C_ij/eps) = (1/T) u_i W_ij v_j,    W_ij = exp(Fh_i + Gh_j - C_ij/eps) / M

with reference potentials Fh, Gh (float64, in units of eps) such that every row of W sums to one. Then

- a column update is v_j = (T/M) / Σ_i u_i W_ij and a row update u_i = 1 / Σ_j W_ij v_j;
- both sums come out of one sweep over W: row i is needed for u_i, and once u_i is known, for its part of the next
  column sums, while it is still in the cache;
- W never has an empty row or column: just after a row update every column keeps at least the mass 1/(T M), because no
  row update shrinks a row by more than T. What is left out of W, as below the range of float32, has less than
  exp(-87 + 2 DRIFT) of the weight of what is kept, for v is folded into Gh as soon as |log v| exceeds DRIFT.

So nothing overflows, underflows or becomes NaN, however small eps is against the costs.

Unbalanced problems (Chizat et al. 2018) raise the updates to the power rho/(rho + eps); over-relaxed ones (Thibault et
al. 2021) to the power omega, once omega is known.

Importing this module imports numba; nothing is compiled before the first call.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit
from numba.core import types
from numba.extending import intrinsic

__all__ = ["COST_KINDS", "solve_block", "solve_cost"]

#: How `solve_block` computes costs from rows.
COST_KINDS = {"dot": 0, "euclidean": 1, "sqeuclidean": 2}

#: |log v| beyond which v is folded into the reference potentials.
DRIFT = 20.0
#: Largest change of log v that counts as none: a hundred more iterations would move expected costs by 1e-5 eps.
STILL = 1e-7
#: The cost of a pair of steps outside the temporal band: exp(-MASKED/eps) is 0 and 0 * MASKED is 0.
MASKED = np.float32(1e20)
#: Iterations between two looks at the marginal error, where it decides when to stop.
CHECK_EVERY = 10
#: Looks before the rate of convergence is measured and the over-relaxation chosen.
WARM_UP = 3

_FAST = {"reassoc", "contract", "nsz", "arcp"}  # neither nnan nor ninf: results must stay checkable


@intrinsic
def _float_from_bits(typing_context: Any, bits: Any) -> Any:
    """Reinterpret an int32 as a float32."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.int32), generate


def _jit(**options: Any) -> Any:
    """`numba.njit`, cached on disk where there is a folder for it."""

    def decorate(function: Any) -> Any:
        try:
            return njit(cache=True, nogil=True, **options)(function)
        except RuntimeError:  # no folder to write the cache to
            return njit(nogil=True, **options)(function)

    return decorate


@_jit(fastmath={"contract"}, inline="never")
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


@_jit(fastmath=_FAST)
def _cost_matrix(x, x_norms, y_t, y_norms, kind, ridge, C):
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


@_jit()
def _mask_band(C, half_width):
    """Put MASKED where a step is further than `half_width` from the diagonal, in either time."""
    T, M = C.shape
    for i in range(T):
        centre = ((2 * i + 1) * M) // (2 * T)
        for j in range(M):
            other = ((2 * j + 1) * T) // (2 * M)
            if abs(j - centre) > half_width and abs(i - other) > half_width:
                C[i, j] = MASKED


@_jit(fastmath=_FAST)
def _first_columns(C, inv_eps, lam_demo, G, least):
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


@_jit(fastmath=_FAST)
def _rebuild(C, inv_eps, lam_agent, G, offset, W, Fh, u, acc):
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


@_jit(fastmath=_FAST)
def _sweep(W, v, u, acc):
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


@_jit(fastmath=_FAST)
def _relaxed_sweep(W, v, u, acc, Fh, lam_agent, omega):
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


@_jit()
def _iterate(C, eps, lam_agent, lam_demo, iterations, tolerance, W, u, v, acc, G, Fh, scratch):
    """Sinkhorn on one pair: `iterations` of them, or until the marginal error is at most `tolerance` if that is > 0.

    Leaves the plan (1/T) u_i W_ij v_j and returns (marginal error, iterations done).
    """
    T, M = C.shape
    inv_eps = np.float32(1.0 / eps)
    ratio = np.float64(T) / M
    plain = lam_agent == 1.0 and lam_demo == 1.0
    _first_columns(C, inv_eps, lam_demo, G, scratch)
    _rebuild(C, inv_eps, lam_agent, G, scratch[0], W, Fh, u, acc)
    v[:] = np.float32(1.0)
    done = 1
    omega = 1.0
    looks = 0
    last = 3.0
    error = 3.0
    settled = False
    while True:
        look = done == iterations or (tolerance > 0 and done % CHECK_EVERY == 0)
        if look:
            # In an unbalanced problem the columns need not meet their marginal: how far v still moves is looked at.
            error = 0.0
            for j in range(M):
                mass = np.float64(acc[j]) * v[j] / T
                if lam_demo == 1.0:
                    error += abs(mass - 1.0 / M)
                else:
                    wanted = -lam_demo * math.log(max(np.float64(acc[j]) / ratio, 1e-37)) - (1.0 - lam_demo) * G[j]
                    error += mass * abs(1.0 - math.exp(min(wanted - math.log(np.float64(v[j])), 80.0)))
            if done >= iterations or (tolerance > 0 and error <= tolerance):
                return error, done
            if plain and tolerance > 0:
                looks += 1
                if omega > 1.0 and error > last:
                    omega = 1.0  # over-relaxation converges near the solution only; continue without
                    settled = True
                elif omega == 1.0 and looks > WARM_UP and not settled and 0.0 < error < last < 1.0:
                    # The best omega from the observed rate of contraction (Lehmann et al. 2022, theorem 3.1).
                    rate = (error / last) ** (1.0 / CHECK_EVERY)
                    omega = min(2.0 / (1.0 + math.sqrt(1.0 - rate)), 1.9)
                last = error
        # Columns.
        top = 0.0
        moved = 0.0
        for j in range(M):
            before = math.log(np.float64(v[j]))
            wanted = -math.log(max(np.float64(acc[j]) / ratio, 1e-37))
            if lam_demo != 1.0:
                wanted = lam_demo * wanted - (1.0 - lam_demo) * G[j]
            elif omega != 1.0:
                wanted = omega * wanted + (1.0 - omega) * before
            scratch[0, j] = wanted
            top = max(top, abs(wanted))
            moved = max(moved, abs(wanted - before))
        if plain and tolerance == 0 and moved < STILL:
            # At the fixed point, long before the last iteration: u, v and acc are those that it would leave.
            iterations = done
            continue
        done += 1
        if top > DRIFT:
            for j in range(M):
                G[j] += np.float64(scratch[0, j])
            v[:] = np.float32(1.0)
            _rebuild(C, inv_eps, lam_agent, G, scratch[0], W, Fh, u, acc)
            continue
        for j in range(M):
            v[j] = math.exp(scratch[0, j])
        # Rows. The last update before a look is a plain one, so that every row has its whole mass.
        closing = done == iterations or (tolerance > 0 and done % CHECK_EVERY == 0)
        if plain and (omega == 1.0 or closing):
            _sweep(W, v, u, acc)
        else:
            _relaxed_sweep(W, v, u, acc, Fh, lam_agent, omega)


@_jit(fastmath=_FAST)
def _expected_costs(C, W, v, out):
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


@_jit()
def solve_cost(C, eps, lam_agent, lam_demo, iterations, tolerance, W, u, v, out):
    """Solve one pair given its cost matrix.

    Args:
        C: (T, M) float32, contiguous.
        eps: regularisation, > 0.
        lam_agent: rho/(rho + eps) of the agent's marginal; 1 for a hard marginal.
        lam_demo: that of the demonstration's.
        iterations: how many at most.
        tolerance: of the marginal error; 0 to do all iterations.
        W: (T, M) float32, filled.
        u: (T,) float32, filled.
        v: (M,) float32, filled: the plan is u_i W_ij v_j / T.
        out: (T,) float32, filled with the expected costs.

    Returns:
        (marginal error in L1, iterations done).
    """
    T, M = C.shape
    acc = np.empty(M, np.float32)
    G = np.empty(M, np.float64)
    Fh = np.empty(T, np.float64)
    scratch = np.empty((2, M), np.float32)
    result = _iterate(C, eps, lam_agent, lam_demo, iterations, tolerance, W, u, v, acc, G, Fh, scratch)
    _expected_costs(C, W, v, out)
    return result


@_jit()
def solve_block(
    x, x_norms, y_t, y_norms, kind, ridge, band, starts, lengths, eps, relative, rho_agent, rho_demo,
    iterations, tolerance, out, errors, counts,
):  # fmt: skip
    """Solve several episodes against one demonstration; allocates scratch for the longest once.

    Args:
        x: (N, D) float32 agent rows.
        x_norms: (N,) float32 lengths of the raw vectors, for the ridge of the cosine.
        y_t: (D, M) float32 demonstration, transposed.
        y_norms: (M,) float32.
        kind: a value of `COST_KINDS`.
        ridge: of the cosine; looked at for those pairs only whose vectors are short enough for float32 to see it.
        band: half-width of the temporal band; negative for none.
        starts: (P,) int64 first rows of the episodes.
        lengths: (P,) int64.
        eps: regularisation.
        relative: whether eps is in units of each pair's mean cost.
        rho_agent: strength of the penalty on the agent's marginal; negative for a hard one.
        rho_demo: that on the demonstration's.
        iterations: see `solve_cost`, as for the next.
        tolerance: likewise.
        out: (N,) float32, expected costs, filled at the rows of these episodes.
        errors: (P,) float64 marginal errors, filled.
        counts: (P,) int64 iterations done, filled.
    """
    longest = 0
    for p in range(lengths.size):
        longest = max(longest, lengths[p])
    M = y_t.shape[1]
    cost_memory = np.empty(longest * M, np.float32)
    kernel_memory = np.empty(longest * M, np.float32)
    u = np.empty(longest, np.float32)
    v = np.empty(M, np.float32)
    for p in range(lengths.size):
        T = lengths[p]
        rows = slice(starts[p], starts[p] + T)
        C = cost_memory[: T * M].reshape(T, M)
        W = kernel_memory[: T * M].reshape(T, M)
        shortest = x_norms[rows].min() * y_norms.min()
        _cost_matrix(x[rows], x_norms[rows], y_t, y_norms, kind, ridge if shortest < 1e8 * ridge else 0.0, C)
        scale = eps
        if relative:
            total = 0.0
            for i in range(T):
                for j in range(M):
                    total += C[i, j]
            scale = max(eps * total / (T * M), 1e-30)
        if band >= 0:
            _mask_band(C, band)
        lam_agent = 1.0 if rho_agent < 0 else rho_agent / (rho_agent + scale)
        lam_demo = 1.0 if rho_demo < 0 else rho_demo / (rho_demo + scale)
        errors[p], counts[p] = solve_cost(C, scale, lam_agent, lam_demo, iterations, tolerance, W, u[:T], v, out[rows])
