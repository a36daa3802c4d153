"""What a solver is given and what it gives back."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np

from otr.config import SolverConfig
from otr.optimal_transport.costs import Rows

__all__ = ["Problem", "Solution", "Solver", "relaxation_powers"]


class Problem(NamedTuple):
    """E episodes against each of K demonstrations.

    Attributes:
        rows: the prepared rows of all episodes, N of them.
        starts: (E,) int64, the first row of each episode.
        lengths: (E,) int64, at least 1 each.
        demos: K prepared demonstrations.
        config: how to solve.
    """

    rows: Rows
    starts: np.ndarray
    lengths: np.ndarray
    demos: tuple[Rows, ...]
    config: SolverConfig


class Solution(NamedTuple):
    """What came out for each of K demonstrations.

    Attributes:
        expected_costs: (K, N) float32. Ebar_t = T Σ_j P_tj C_tj: the mean cost under the part of the plan that leaves
            step t.
        marginal_errors: (K, E) float64, Σ_j |Σ_t P_tj - 1/T'| in [0, 2]. With a relaxed demonstration marginal, the
            mass that the next column update would still move.
        iterations: (K, E) int64, Sinkhorn iterations done; 0 for exact transport. In the mode "parity" fewer than asked
            for where nothing moved any more.
    """

    expected_costs: np.ndarray
    marginal_errors: np.ndarray
    iterations: np.ndarray

    @staticmethod
    def empty(problem: Problem) -> Solution:
        """Return arrays of the right shapes, to be filled."""
        demos, episodes = len(problem.demos), len(problem.starts)
        return Solution(
            np.empty((demos, len(problem.rows.values)), np.float32),
            np.zeros((demos, episodes)),
            np.zeros((demos, episodes), np.int64),
        )


class Solver(Protocol):
    """A back end. `name` goes into the provenance of what it labels."""

    name: str

    def solve(self, problem: Problem) -> Solution:
        """Solve every episode against every demonstration. The result of a pair depends on nothing but that pair."""
        ...

    def plan(self, problem: Problem) -> np.ndarray:
        """Return the (T, T') plan of the first episode and the first demonstration; it sums to one when balanced."""
        ...


def relaxation_powers(config: SolverConfig, epsilon: float) -> tuple[float, float]:
    """Return rho/(rho + epsilon) for the agent's and the demonstration's marginal; 1 for a hard one."""

    def power(rho: float | None) -> float:
        return 1.0 if rho is None else rho / (rho + epsilon)

    return power(config.rho_agent), power(config.rho_demo)
