"""The JAX back end: a sequence of pairs on a CPU, batches that fill the memory on a GPU.

Pairs are padded to a few bucket sizes, so that few programs are compiled. Those that the scaled iteration cannot be
trusted with (`jax_kernels`) are solved again in the log domain, as are unbalanced ones from the start.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from otr.optimal_transport.costs import BUILT_IN, cost_matrix
from otr.optimal_transport.solvers import jax_kernels as kernels
from otr.optimal_transport.solvers.problem import Problem, Solution, numbers_of
from otr.settings.transport import SinkhornConfig

__all__ = ["JaxSolver", "bucket"]

#: Cells of one dispatch on a CPU: its pairs run one after another, so this bounds only what is copied and reported.
CPU_CELLS = 32_000_000
#: Pairs of at most so many cells run side by side on a CPU too: what starting an operation costs outweighs the caches.
SMALL_CELLS = 8_192
SMALL_BATCH_CELLS = 1_000_000


def bucket(length: int, longest: int) -> int:
    """Return the padded length: the next of 8, 12, 16, 24, 32, 40, 48, 56, 64, 80, ... but at most `longest`.

    From 32 on there are eight sizes to an octave below 64, and so on: at most an eighth is padding.
    """
    if length >= longest:
        return longest
    if length <= 32:
        return min(next(size for size in (1, 2, 4, 8, 12, 16, 24, 32) if size >= length), longest)
    step = 1 << (length.bit_length() - 3)
    return min(-(-length // step) * step, longest)


class JaxSolver:
    """See the module.

    Args:
        batched: solve pairs side by side rather than one after another; by default on all but CPUs.
        memory: bytes that may be filled at once; by default two fifths of the device's, or 1 GiB where it does not say.
    """

    name = "jax"

    def __init__(self, *, batched: bool | None = None, memory: int = 0) -> None:
        device = jax.devices()[0]
        self._on_cpu = device.platform == "cpu"
        self.batched = not self._on_cpu if batched is None else batched
        stats = device.memory_stats() or {}
        self._memory = memory or (int(0.4 * stats["bytes_limit"]) if "bytes_limit" in stats else 1 << 30)

    def solve(self, problem: Problem) -> Solution:
        """See `Solver.solve`."""
        solution = Solution.empty(problem)
        static = self._static(problem)
        for k in range(len(problem.demos)):
            redo = self._solve_demo(problem, solution, k, static, np.arange(len(problem.starts)))
            if len(redo) and not static.log_domain:
                self._solve_demo(problem, solution, k, static._replace(log_domain=True), redo)
        return solution

    def plan(self, problem: Problem) -> np.ndarray:
        """See `Solver.plan`."""
        pair = _batch(problem, 0, np.array([0]), int(problem.lengths[0]))
        one = pair._replace(x=pair.x[0], x_norms=pair.x_norms[0], T=pair.T[0])
        return np.asarray(kernels.plan(self._static(problem)._replace(log_domain=True), one))

    def _static(self, problem: Problem) -> kernels.Static:
        config, numbers, kind = problem.config, numbers_of(problem.config), problem.rows.kind
        assert isinstance(config, SinkhornConfig)
        return kernels.Static(
            kind=kind if kind in BUILT_IN else "given",
            ridge=problem.rows.ridge,
            numbers=numbers,
            bfloat16=config.kernel_dtype == "bfloat16",
            log_domain=not math.isinf(numbers.rho_agent) or not math.isinf(numbers.rho_demo),
            batched=self.batched,
        )

    def _solve_demo(
        self, problem: Problem, solution: Solution, k: int, static: kernels.Static, episodes: np.ndarray
    ) -> np.ndarray:
        """Fill in the solution for one demonstration; returns the episodes that need the log domain."""
        M = len(problem.demos[k].values)
        redo: list[int] = []
        for Tp, some in self._groups(problem, episodes, M):
            mode = static._replace(batched=self.batched or Tp * M <= SMALL_CELLS)
            costs, errors, counts, trusted = _run(problem, k, mode, some, Tp)
            for i, e in enumerate(some):
                start, length = int(problem.starts[e]), int(problem.lengths[e])
                solution.expected_costs[k, start : start + length] = costs[i, :length]
            solution.marginal_errors[k, some] = errors
            solution.iterations[k, some] = counts
            redo.extend(some[~trusted].tolist())
        return np.array(redo, np.int64)

    def _groups(self, problem: Problem, episodes: np.ndarray, M: int) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (padded length, episodes) of about equal work."""
        longest = int(problem.lengths.max())
        sizes = np.array([bucket(n, longest) for n in problem.lengths[episodes].tolist()])
        for Tp in np.unique(sizes)[::-1].tolist():
            members = episodes[sizes == Tp]
            if self._on_cpu and not self.batched:
                many = (SMALL_BATCH_CELLS if Tp * M <= SMALL_CELLS else CPU_CELLS) // (Tp * M)
            else:
                # Costs and kernel in float32, and about as much again for what XLA keeps while it makes them.
                many = self._memory // (Tp * M * 16)
            for first in range(0, len(members), max(many, 1)):
                yield Tp, members[first : first + max(many, 1)]


def _run(
    problem: Problem, k: int, static: kernels.Static, some: np.ndarray, Tp: int
) -> tuple[np.ndarray, ...]:  # fmt: skip
    """Solve a batch; one that the device's memory does not hold is split in two."""
    try:
        out = kernels.solve(static, _batch(problem, k, some, Tp))
        return tuple(np.asarray(value)[: len(some)] for value in out)  # what follows is padding of the batch
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error) or len(some) == 1:
            raise
    halves = [_run(problem, k, static, half, Tp) for half in np.array_split(some, 2)]
    return tuple(np.concatenate(values) for values in zip(*halves, strict=True))


def _batch(problem: Problem, k: int, some: np.ndarray, Tp: int) -> kernels.Pair:
    """Pad and stack. The batch is filled up to a power of two with one-step episodes, to compile less."""
    demo, rows = problem.demos[k], problem.rows
    M, given = len(demo.values), rows.kind not in BUILT_IN
    number = 1 << (len(some) - 1).bit_length() if len(some) < 64 else -(-len(some) // 64) * 64
    x = np.zeros((number, Tp, M if given else rows.values.shape[1]), np.float32)
    norms = np.ones((number, Tp), np.float32)
    T = np.ones(number, np.int32)
    for i, e in enumerate(some):
        start, length = int(problem.starts[e]), int(problem.lengths[e])
        one = rows.select(slice(start, start + length))
        x[i, :length] = cost_matrix(one, demo) if given else one.values
        norms[i, :length] = one.norms
        T[i] = length
    y = np.zeros((1, 1), np.float32) if given else demo.values
    return kernels.Pair(*map(jnp.asarray, (x, norms, T, y, demo.norms, np.int32(M))))
