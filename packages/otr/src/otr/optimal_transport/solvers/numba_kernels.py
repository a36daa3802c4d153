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
from typing import NamedTuple

import numpy as np

from otr.optimal_transport.solvers.numba_loops import (
    cost_matrix,
    expected_costs,
    first_columns,
    jit,
    mask_band,
    rebuild,
    relaxed_sweep,
    sweep,
)  # fmt: skip

__all__ = ["Cost", "Found", "Vectors", "solve_block", "solve_cost"]

#: |log v| beyond which v is folded into the reference potentials.
DRIFT = 20.0
#: Largest change of log v that counts as none: a hundred more iterations would move expected costs by 1e-5 eps.
STILL = 1e-7
#: Iterations between two looks at the marginal error, where it decides when to stop.
CHECK_EVERY = 10
#: Looks before the rate of convergence is measured and the over-relaxation chosen.
WARM_UP = 3


class Vectors(NamedTuple):
    """Rows of one side: values (N, D) of the agent, or (D, M) of a demonstration, and the lengths of the raw ones."""

    values: np.ndarray
    norms: np.ndarray


class Cost(NamedTuple):
    """A value of `COST_KINDS`, and the cosine's ridge, looked at only where float32 can see it."""

    kind: int
    ridge: float


class Found(NamedTuple):
    """What is filled in: expected costs (N,) float32; for each episode its marginal error and its iterations."""

    costs: np.ndarray
    errors: np.ndarray
    counts: np.ndarray


@jit()
def _iterate(C, numbers, W, u, v):
    """Sinkhorn on one pair: `iterations` of them, or until the marginal error is at most `tolerance` if that is > 0.

    Leaves the plan (1/T) u_i W_ij v_j and returns (marginal error, iterations done).
    """
    T, M = C.shape
    acc = np.empty(M, np.float32)
    G = np.empty(M, np.float64)
    Fh = np.empty(T, np.float64)
    scratch = np.empty((2, M), np.float32)
    eps, iterations, tolerance = numbers.epsilon, numbers.iterations, numbers.tolerance
    lam_agent = 1.0 if math.isinf(numbers.rho_agent) else numbers.rho_agent / (numbers.rho_agent + eps)
    lam_demo = 1.0 if math.isinf(numbers.rho_demo) else numbers.rho_demo / (numbers.rho_demo + eps)
    inv_eps = np.float32(1.0 / eps)
    ratio = np.float64(T) / M
    plain = lam_agent == 1.0 and lam_demo == 1.0
    first_columns(C, inv_eps, lam_demo, G, scratch)
    rebuild(C, inv_eps, lam_agent, G, scratch[0], W, Fh, u, acc)
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
            rebuild(C, inv_eps, lam_agent, G, scratch[0], W, Fh, u, acc)
            continue
        for j in range(M):
            v[j] = math.exp(scratch[0, j])
        # Rows. The last update before a look is a plain one, so that every row has its whole mass.
        closing = done == iterations or (tolerance > 0 and done % CHECK_EVERY == 0)
        if plain and (omega == 1.0 or closing):
            sweep(W, v, u, acc)
        else:
            relaxed_sweep(W, v, u, acc, Fh, lam_agent, omega)


@jit()
def solve_cost(C, numbers, W, u, v, out):
    """Solve one pair given its cost matrix.

    Args:
        C: (T, M) float32, contiguous.
        numbers: `otr.optimal_transport.solvers.problem.Numbers`; the band is not looked at.
        W: (T, M) float32, filled.
        u: (T,) float32, filled.
        v: (M,) float32, filled: the plan is u_i W_ij v_j / T.
        out: (T,) float32, filled with the expected costs.

    Returns:
        (marginal error in L1, iterations done).
    """
    result = _iterate(C, numbers, W, u, v)
    expected_costs(C, W, v, out)
    return result


@jit()
def solve_block(rows, demo, cost, numbers, starts, lengths, found):
    """Solve several episodes against one demonstration; allocates scratch for the longest once.

    Args:
        rows: `Vectors` of all episodes.
        demo: `Vectors` of the demonstration, transposed.
        cost: `Cost`.
        numbers: see `solve_cost`.
        starts: (P,) int64 first rows of the episodes.
        lengths: (P,) int64.
        found: `Found`, filled at the rows of these episodes.
    """
    longest = 0
    for p in range(lengths.size):
        longest = max(longest, lengths[p])
    M = demo.values.shape[1]
    cost_memory = np.empty(longest * M, np.float32)
    kernel_memory = np.empty(longest * M, np.float32)
    u = np.empty(longest, np.float32)
    v = np.empty(M, np.float32)
    for p in range(lengths.size):
        T = lengths[p]
        some = slice(starts[p], starts[p] + T)
        C = cost_memory[: T * M].reshape(T, M)
        W = kernel_memory[: T * M].reshape(T, M)
        norms = rows.norms[some]
        ridge = cost.ridge if norms.min() * demo.norms.min() < 1e8 * cost.ridge else 0.0
        cost_matrix(rows.values[some], norms, demo.values, demo.norms, cost.kind, ridge, C)
        if numbers.band:
            mask_band(C, numbers.band)
        found.errors[p], found.counts[p] = solve_cost(C, numbers, W, u[:T], v, found.costs[some])
