"""The compiled CPU back end: blocks of pairs handed to threads, each of which solves its pairs one by one."""

from __future__ import annotations

import functools
import math
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from otr.optimal_transport.costs import Rows, cost_matrix
from otr.optimal_transport.solvers import numba_kernels as kernels
from otr.optimal_transport.solvers.numba_loops import COST_KINDS, MASKED
from otr.optimal_transport.solvers.problem import Numbers, Problem, Solution, numbers_of, thread_count
from otr.optimal_transport.solvers.reference import band_mask

__all__ = ["NumbaSolver", "compile_kernels"]

#: Cells of cost matrices in one block: long enough to make the hand-over cheap, short enough to keep threads busy.
BLOCK_CELLS = 4_000_000

#: Set in the process that compiles for another.
COMPILING = "OTR_COMPILING"


class NumbaSolver:
    """See the module. The result does not depend on the number of threads."""

    name = "numba"

    def solve(self, problem: Problem) -> Solution:
        """See `Solver.solve`."""
        _compile_elsewhere()
        solution = Solution.empty(problem)
        jobs = [(k, block) for k, demo in enumerate(problem.demos) for block in _blocks(problem.lengths, demo)]
        threads = min(thread_count(), max(len(jobs), 1))
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
        _compile_elsewhere()
        start = int(problem.starts[0])
        rows = problem.rows.select(slice(start, start + int(problem.lengths[0])))
        _, _, plan, _ = _given_costs(problem, rows, problem.demos[0])
        return plan()


@functools.cache
def _compile_elsewhere() -> None:
    """Have another process fill numba's cache, where it does not hold the kernels yet.

    In the process that compiles them, kernels call the stand-alone code of one another; one that is loaded from the
    cache calls the copies in its own object, which were optimised with it. The arithmetic is the same in another order,
    so that last bits differ. Every process that loads gets the same bits, the first one included. Where
    there is no folder for a cache, every process compiles, and they agree too.
    """
    if os.environ.get(COMPILING) or all(map(_is_cached, (kernels.solve_block, kernels.solve_cost))):
        return
    command = [sys.executable, "-c", f"from {__name__} import compile_kernels; compile_kernels()"]
    paths = os.pathsep.join(path for path in sys.path if path)  # the same otr as here
    env = os.environ | {COMPILING: "1", "PYTHONPATH": paths}
    subprocess.run(command, env=env, capture_output=True, check=False)  # if it fails, this process compiles


def _is_cached(kernel: Any) -> bool:
    """Whether numba's cache holds a kernel as its source now is; True where there is no cache to be filled."""
    folder = kernel.stats.cache_path
    if folder is None:
        return True
    made = Path(kernels.__file__).stat().st_mtime
    stem = Path(kernels.__file__).stem
    return any(index.stat().st_mtime >= made for index in Path(folder).glob(f"{stem}.{kernel.__name__}-*.nbi"))


def compile_kernels() -> None:
    """Compile what `NumbaSolver` calls, for the types that it calls it with."""
    x, norms, one = np.ones((2, 1), np.float32), np.ones(2, np.float32), np.ones(1, np.int64)
    numbers = Numbers(0.01, math.inf, math.inf, 1, 0.0, 0)
    rows, demo = kernels.Vectors(x, norms), kernels.Vectors(np.ascontiguousarray(x.T), norms)
    found = kernels.Found(norms.copy(), np.empty(1), one.copy())
    kernels.solve_block(rows, demo, kernels.Cost(0, 1e-8), numbers, one - 1, one + 1, found)
    C = np.zeros((2, 2), np.float32)
    kernels.solve_cost(C, numbers, np.empty_like(C), norms.copy(), norms.copy(), norms.copy())


def _blocks(lengths: np.ndarray, demo: Rows) -> list[np.ndarray]:
    """Episodes, longest first, in blocks of about `BLOCK_CELLS` cells."""
    order = np.argsort(-lengths, kind="stable")
    cells = np.cumsum(lengths[order] * len(demo.values))
    cuts = np.flatnonzero(np.diff(cells // BLOCK_CELLS)) + 1
    return [block for block in np.split(order, cuts) if len(block)]


def _run(problem: Problem, solution: Solution, k: int, block: np.ndarray) -> None:
    rows, demo = problem.rows, problem.demos[k]
    starts, lengths = problem.starts[block], problem.lengths[block]
    if rows.kind not in COST_KINDS:
        for e, start, length in zip(block, starts, lengths, strict=True):
            some = slice(int(start), int(start + length))
            out, error, _, done = _given_costs(problem, rows.select(some), demo)
            solution.expected_costs[k, some] = out
            solution.marginal_errors[k, e], solution.iterations[k, e] = error, done
        return
    found = kernels.Found(solution.expected_costs[k], np.empty(len(block)), np.empty(len(block), np.int64))
    kernels.solve_block(
        kernels.Vectors(rows.values, rows.norms),
        kernels.Vectors(np.ascontiguousarray(demo.values.T), demo.norms),
        kernels.Cost(COST_KINDS[rows.kind], rows.ridge),
        numbers_of(problem.config),
        starts,
        lengths,
        found,
    )
    solution.marginal_errors[k, block], solution.iterations[k, block] = found.errors, found.counts


def _given_costs(problem: Problem, rows: Rows, demo: Rows) -> tuple[np.ndarray, float, Callable[[], np.ndarray], int]:
    """Solve one pair by its cost matrix; the plan is a function, for few want it."""
    C, numbers = cost_matrix(rows, demo), numbers_of(problem.config)
    if numbers.band:
        C = np.where(band_mask(*C.shape, numbers.band), C, MASKED)
    T, M = C.shape
    W, u, v, out = np.empty_like(C), np.empty(T, np.float32), np.empty(M, np.float32), np.empty(T, np.float32)
    error, done = kernels.solve_cost(C, numbers, W, u, v, out)
    return out, error, lambda: W * (u[:, None] / np.float32(T)) * v[None, :], done
