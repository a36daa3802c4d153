"""ott-jax as a back end: the reference's own solver (Cuturi et al. 2022), pair by pair, in the log domain."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ott.geometry import costs, geometry, pointcloud
from ott.problems.linear import linear_problem
from ott.solvers.linear import sinkhorn as ott_sinkhorn

from otr.optimal_transport.costs import Rows, cost_matrix
from otr.optimal_transport.solvers.jax_solver import bucket
from otr.optimal_transport.solvers.problem import Problem, Solution
from otr.settings.transport import OttConfig

__all__ = ["OttSolver"]

INNER = 10  # ott's default: the marginal error is looked at every so many iterations
THRESHOLD = 1e-9  # of the authors' code: in practice all iterations are done


class OttSolver:
    """One jitted call a pair, padded as in the reference but with weights 1/T and 1/T'.

    The reference gives every real step the weight 1/1000 on both sides, which no plan can meet where the lengths
    differ; its rewards are nevertheless those of the normalised problem.
    """

    name = "ott"

    def solve(self, problem: Problem) -> Solution:
        """See `Solver.solve`."""
        solution = Solution.empty(problem)
        longest = max(int(problem.lengths.max()), *(len(demo.values) for demo in problem.demos))
        for k, demo in enumerate(problem.demos):
            M = len(demo.values)
            for e, (start, length) in enumerate(zip(problem.starts.tolist(), problem.lengths.tolist(), strict=True)):
                rows = slice(start, start + length)
                out = _call(problem, problem.rows.select(rows), demo, bucket(length, longest), bucket(M, longest))
                expected, error, done = map(np.asarray, out[:3])
                solution.expected_costs[k, rows] = expected[:length]
                solution.marginal_errors[k, e], solution.iterations[k, e] = error, done
        return solution

    def plan(self, problem: Problem) -> np.ndarray:
        """See `Solver.plan`."""
        start, length = int(problem.starts[0]), int(problem.lengths[0])
        rows = problem.rows.select(slice(start, start + length))
        return np.asarray(_call(problem, rows, problem.demos[0], length, len(problem.demos[0].values))[3])


def _call(problem: Problem, rows: Rows, demo: Rows, Tp: int, Mp: int) -> Any:
    config = problem.config
    assert isinstance(config, OttConfig)
    T, M = len(rows.values), len(demo.values)
    given = rows.kind != "dot"
    if given:
        x = _padded(np.pad(cost_matrix(rows, demo), ((0, 0), (0, Mp - M))), Tp)
        y = np.zeros((Mp, 1), np.float32)
    else:
        # The raw vectors again, as far as float32 has them: ott's cosine divides by their lengths itself.
        x = _padded(rows.values * rows.norms[:, None], Tp)
        y = _padded(demo.values * demo.norms[:, None], Mp)
    a = _padded(np.full((T, 1), 1 / T, np.float32), Tp)[:, 0]
    b = _padded(np.full((M, 1), 1 / M, np.float32), Mp)[:, 0]
    return _solve(given, config, rows.ridge, x, y, a, b)


def _padded(values: np.ndarray, length: int) -> np.ndarray:
    return np.pad(values, ((0, length - len(values)), (0, 0))).astype(np.float32)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _solve(
    given: bool, config: OttConfig, ridge: float, x: jax.Array, y: jax.Array, a: jax.Array, b: jax.Array
) -> tuple[Any, Any, Any, Any]:
    if given:
        geom: geometry.Geometry = geometry.Geometry(cost_matrix=x, epsilon=config.epsilon)
    else:
        geom = pointcloud.PointCloud(x, y, cost_fn=costs.Cosine(ridge=ridge), epsilon=config.epsilon)
    solver = ott_sinkhorn.Sinkhorn(threshold=THRESHOLD, max_iterations=config.iterations, inner_iterations=INNER)
    out = solver(linear_problem.LinearProblem(geom, a=a, b=b))
    plan = out.matrix
    mass = jnp.sum(plan, axis=1)
    expected = jnp.sum(plan * jnp.asarray(geom.cost_matrix), axis=1) / jnp.where(mass > 0, mass, 1.0)
    error = jnp.sum(jnp.abs(jnp.sum(plan, axis=0) - b))
    return expected, error, out.n_iters, plan
