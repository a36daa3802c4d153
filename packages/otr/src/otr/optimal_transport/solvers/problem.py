"""What a solver is given and what it gives back."""

from __future__ import annotations

import math
import os
from typing import NamedTuple, Protocol

import numpy as np

from otr.optimal_transport.costs import Rows
from otr.settings.transport import Parity, SinkhornConfig, SolverConfig

__all__ = ["Numbers", "Problem", "Solution", "Solver", "numbers_of", "relaxation_power", "thread_count"]


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


class Numbers(NamedTuple):
    """What the iterations are told by their settings.

    Attributes:
        epsilon: regularisation.
        rho_agent: strength of the penalty on the agent's marginal; infinite for a hard one.
        rho_demo: that on the demonstration's.
        iterations: how many at most.
        tolerance: of the marginal error; 0 to do all iterations.
        band: half-width of the temporal band; 0 for none.
    """

    epsilon: float
    rho_agent: float
    rho_demo: float
    iterations: int
    tolerance: float
    band: int


def numbers_of(config: SolverConfig) -> Numbers:
    """Return the numbers of a configuration of Sinkhorn's iterations."""
    assert isinstance(config, SinkhornConfig)
    mode = config.mode
    limits = (mode.iterations, 0.0) if isinstance(mode, Parity) else (mode.max_iterations, mode.tolerance)
    return Numbers(config.epsilon, config.rho_agent or math.inf, config.rho_demo or math.inf, *limits, config.band or 0)


def relaxation_power(rho: float, epsilon: float) -> float:
    """Return rho/(rho + epsilon), the power of an update (Chizat et al. 2018); 1 for a hard marginal."""
    return 1.0 if math.isinf(rho) else rho / (rho + epsilon)


def thread_count() -> int:
    """Return the cores that this process may use, which `taskset` and batch systems limit."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
