"""Log-domain Sinkhorn in float64 NumPy: the slow and plain statement of what the other back ends compute."""

from __future__ import annotations

import numpy as np
from scipy.special import logsumexp

from otr.optimal_transport.costs import cost_matrix
from otr.optimal_transport.solvers.problem import Problem, Solution, numbers_of, relaxation_power

__all__ = ["ReferenceSolver", "band_mask", "sinkhorn"]


def band_mask(T: int, M: int, half_width: int) -> np.ndarray:
    """Return (T, M) booleans: the pairs of steps that a temporal band allows.

    Step t lies opposite column floor((t + 1/2) M/T), column j opposite step floor((j + 1/2) T/M); a pair is allowed if
    it is at most `half_width` away from either. For equal lengths that is |t - j| <= half_width, and for any lengths
    the band holds a plan with both marginals, since it holds the staircase along the diagonal.
    """
    t, j = np.arange(T)[:, None], np.arange(M)[None, :]
    return (abs(j - ((2 * t + 1) * M) // (2 * T)) <= half_width) | (abs(t - ((2 * j + 1) * T) // (2 * M)) <= half_width)


def sinkhorn(
    C: np.ndarray,
    epsilon: float,
    *,
    iterations: int = 100,
    tolerance: float = 0.0,
    lam_agent: float = 1.0,
    lam_demo: float = 1.0,
    mask: np.ndarray | None = None,
) -> tuple[np.ndarray, float, int]:
    """Return (plan, marginal error, iterations done) for one cost matrix.

    Args:
        C: (T, M).
        epsilon: regularisation.
        iterations: how many at most, columns first.
        tolerance: of the marginal error; 0 to do all iterations.
        lam_agent: rho/(rho + epsilon), see `relaxation_power`.
        lam_demo: likewise.
        mask: (T, M) booleans, the pairs that may be matched.
    """
    T, M = C.shape
    S = -np.asarray(C, np.float64) / epsilon
    if mask is not None:
        S = np.where(mask, S, -np.inf)
    f, g = np.zeros(T), np.zeros(M)
    error, done = 2.0, 0
    while done < iterations:
        g = -lam_demo * (logsumexp(S + f[:, None], axis=0) - np.log(T))
        f = -lam_agent * (logsumexp(S + g[None, :], axis=1) - np.log(M))
        done += 1
        if done == iterations or (tolerance > 0 and done % 10 == 0):
            columns = np.exp(logsumexp(S + f[:, None], axis=0) - np.log(T) + g) / M
            if lam_demo == 1.0:
                error = float(abs(columns - 1 / M).sum())
            else:
                following = -lam_demo * (logsumexp(S + f[:, None], axis=0) - np.log(T))
                error = float((columns * abs(1 - np.exp(np.minimum(following - g, 80)))).sum())
            if tolerance > 0 and error <= tolerance:
                break
    return np.exp(S + f[:, None] + g[None, :]) / (T * M), error, done


class ReferenceSolver:
    """See the module."""

    name = "reference"

    def solve(self, problem: Problem) -> Solution:
        """See `Solver.solve`."""
        solution = Solution.empty(problem)
        for e, (start, length) in enumerate(zip(problem.starts, problem.lengths, strict=True)):
            rows = slice(int(start), int(start + length))
            for k in range(len(problem.demos)):
                C, plan, error, done = self._pair(problem, rows, k)
                total = plan.sum(axis=1)
                # A row whose mass a relaxed marginal has taken to 0 is costed like its nearest step.
                costs = (plan * C).sum(axis=1) / np.where(total > 0, total, 1.0)
                solution.expected_costs[k, rows] = np.where(total > 0, costs, C.min(axis=1))
                solution.marginal_errors[k, e], solution.iterations[k, e] = error, done
        return solution

    def plan(self, problem: Problem) -> np.ndarray:
        """See `Solver.plan`."""
        start = int(problem.starts[0])
        return self._pair(problem, slice(start, start + int(problem.lengths[0])), 0)[1]

    def _pair(self, problem: Problem, rows: slice, k: int) -> tuple[np.ndarray, np.ndarray, float, int]:
        n = numbers_of(problem.config)
        C = cost_matrix(problem.rows.select(rows), problem.demos[k], np.float64)
        plan, error, done = sinkhorn(
            C,
            n.epsilon,
            iterations=n.iterations,
            tolerance=n.tolerance,
            lam_agent=relaxation_power(n.rho_agent, n.epsilon),
            lam_demo=relaxation_power(n.rho_demo, n.epsilon),
            mask=band_mask(*C.shape, n.band) if n.band else None,
        )
        return C, plan, error, done
