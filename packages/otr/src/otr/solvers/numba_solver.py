"""The compiled CPU back end: blocks of pairs handed to threads, each of which solves its pairs one by one."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from otr.costs import Rows, cost_matrix
from otr.solvers import numba_kernels as kernels
from otr.solvers.problem import Problem, Solution, relaxation_powers
from otr.solvers.reference import band_mask
from otr.solvers.threads import thread_count

__all__ = ["NumbaSolver"]

#: Cells of cost matrices in one block: long enough to make the hand-over cheap, short enough to keep threads busy.
BLOCK_CELLS = 4_000_000


class NumbaSolver:
    """See the module. The result does not depend on the number of threads."""

    name = "numba"

    def solve(self, problem: Problem) -> Solution:
        """See `Solver.solve`."""
        solution = Solution.empty(problem)
        jobs = [(k, block) for k, demo in enumerate(problem.demos) for block in _blocks(problem.lengths, demo)]
        threads = min(thread_count(problem.config.threads), max(len(jobs), 1))
        if threads == 1:
            for k, block in jobs:
                _run(problem, solution, k, block)
        else:
            with ThreadPoolExecutor(threads) as pool:
                for future in [pool.submit(_run, problem, solution, k, block) for k, block in jobs]:
                    future.result()
        return solution

    def plan(self, problem: Problem) -> np.ndarray:
        """See `Solver.plan`."""
        start = int(problem.starts[0])
        rows = problem.rows.select(slice(start, start + int(problem.lengths[0])))
        _, _, plan, _ = _given_costs(problem, rows, problem.demos[0])
        return plan()


def _blocks(lengths: np.ndarray, demo: Rows) -> list[np.ndarray]:
    """Episodes, longest first, in blocks of about `BLOCK_CELLS` cells."""
    order = np.argsort(-lengths, kind="stable")
    cells = np.cumsum(lengths[order] * len(demo.values))
    cuts = np.flatnonzero(np.diff(cells // BLOCK_CELLS)) + 1
    return [block for block in np.split(order, cuts) if len(block)]


def _run(problem: Problem, solution: Solution, k: int, block: np.ndarray) -> None:
    config, rows, demo = problem.config, problem.rows, problem.demos[k]
    starts, lengths = problem.starts[block], problem.lengths[block]
    if rows.kind not in kernels.COST_KINDS:
        for e, start, length in zip(block, starts, lengths, strict=True):
            some = slice(int(start), int(start + length))
            out, error, _, done = _given_costs(problem, rows.select(some), demo)
            solution.expected_costs[k, some] = out
            solution.marginal_errors[k, e], solution.iterations[k, e] = error, done
        return
    parity = config.mode == "parity"
    errors, counts = np.empty(len(block)), np.empty(len(block), np.int64)
    kernels.solve_block(
        rows.values,
        rows.norms,
        np.ascontiguousarray(demo.values.T),
        demo.norms,
        kernels.COST_KINDS[rows.kind],
        rows.ridge,
        -1 if config.band is None else config.band,
        starts,
        lengths,
        config.epsilon,
        config.relative_epsilon,
        -1.0 if config.rho_agent is None else config.rho_agent,
        -1.0 if config.rho_demo is None else config.rho_demo,
        config.iterations if parity else config.max_iterations,
        0.0 if parity else config.tolerance,
        solution.expected_costs[k],
        errors,
        counts,
    )
    solution.marginal_errors[k, block], solution.iterations[k, block] = errors, counts


def _given_costs(problem: Problem, rows: Rows, demo: Rows) -> tuple[np.ndarray, float, Callable[[], np.ndarray], int]:
    """Solve one pair by its cost matrix; the plan is a function, for few want it."""
    config = problem.config
    C = cost_matrix(rows, demo)
    epsilon = (
        max(config.epsilon * float(C.mean(dtype=np.float64)), 1e-30) if config.relative_epsilon else config.epsilon
    )
    if config.band is not None:
        C = np.where(band_mask(*C.shape, config.band), C, kernels.MASKED)
    T, M = C.shape
    W, u, v, out = np.empty_like(C), np.empty(T, np.float32), np.empty(M, np.float32), np.empty(T, np.float32)
    parity = config.mode == "parity"
    error, done = kernels.solve_cost(
        C,
        epsilon,
        *relaxation_powers(config, epsilon),
        config.iterations if parity else config.max_iterations,
        0.0 if parity else config.tolerance,
        W,
        u,
        v,
        out,
    )
    return out, error, lambda: W * (u[:, None] / np.float32(T)) * v[None, :], done
