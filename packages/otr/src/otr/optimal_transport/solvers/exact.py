"""Exact optimal transport: no entropy, the plan itself by combinatorial solvers that others wrote."""

from __future__ import annotations

import importlib.util
import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from scipy.optimize import linear_sum_assignment

from otr.optimal_transport.costs import cost_matrix
from otr.optimal_transport.solvers.problem import Problem, Solution, thread_count
from paperloop.errors import UserError

__all__ = ["ExactSolver", "exact_plan"]

#: Unequal lengths without POT: rows and columns are repeated up to a common multiple, as long as that is this short.
LARGEST_REPEATED = 3_000
#: Pivots of POT's network simplex.
PIVOTS = 10_000_000


class ExactSolver:
    """Assignment (SciPy) for equal lengths, network simplex (POT) for others.

    Where several plans are optimal, as with duplicate steps, the expected cost of a step depends on which one the
    solver returns; their sum does not.
    """

    name = "exact"

    def solve(self, problem: Problem) -> Solution:
        """See `Solver.solve`."""
        solution = Solution.empty(problem)

        def one(pair: tuple[int, int]) -> None:
            k, e = pair
            start, length = int(problem.starts[e]), int(problem.lengths[e])
            rows = slice(start, start + length)
            C = cost_matrix(problem.rows.select(rows), problem.demos[k], np.float64)
            plan = exact_plan(C)
            solution.expected_costs[k, rows] = (plan * C).sum(axis=1) * length
            solution.marginal_errors[k, e] = abs(plan.sum(axis=0) - 1 / C.shape[1]).sum()

        pairs = [(k, e) for k in range(len(problem.demos)) for e in range(len(problem.starts))]
        with ThreadPoolExecutor(min(thread_count(), len(pairs))) as pool:
            list(pool.map(one, pairs))  # both solvers let go of the interpreter lock while they work
        return solution

    def plan(self, problem: Problem) -> np.ndarray:
        """See `Solver.plan`."""
        start = int(problem.starts[0])
        rows = problem.rows.select(slice(start, start + int(problem.lengths[0])))
        return exact_plan(cost_matrix(rows, problem.demos[0], np.float64))


def exact_plan(C: np.ndarray) -> np.ndarray:
    """Return an optimal plan (T, M) between uniform marginals for costs C.

    Raises:
        UserError: the lengths differ, POT is not installed, and no small common multiple helps.
    """
    T, M = C.shape
    if T == 1 or M == 1:
        return np.full((T, M), 1 / (T * M))
    if T == M:
        return _assigned(C, 1, 1)
    if importlib.util.find_spec("ot") is not None:
        import ot

        plan, log = ot.emd(np.full(T, 1 / T), np.full(M, 1 / M), np.ascontiguousarray(C), numItermax=PIVOTS, log=True)
        if log["warning"]:
            raise UserError(
                f"POT's network simplex gave up on {T} x {M} steps ({log['warning']}): use the solver sinkhorn."
            )
        return np.asarray(plan)
    common = math.lcm(T, M)
    if common <= LARGEST_REPEATED:
        return _assigned(C, common // T, common // M)
    raise UserError(f"Exact transport between {T} and {M} steps needs POT: install otr[pot], or choose another solver.")


def _assigned(C: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """The optimal plan by assigning copies of rows to copies of columns (Birkhoff)."""
    big = np.repeat(np.repeat(C, rows, axis=0), columns, axis=1)
    i, j = linear_sum_assignment(big)
    plan = np.zeros(C.shape)
    np.add.at(plan, (i // rows, j // columns), 1 / len(i))
    return plan
