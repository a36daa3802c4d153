"""PWIL: rewards by a greedy coupling in the order of time (Dadashi et al. 2021, arXiv 2006.04678, algorithm 1)."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from otr.config import PWILConfig
from otr.episodes.features import Features
from otr.labellers.interface import Labels
from otr.labellers.rewards import exponential
from otr.optimal_transport.costs import Rows, cost_matrix
from otr.optimal_transport.solvers.problem import thread_count
from paperloop_data import EpisodeDataset

__all__ = ["FittedPWIL", "greedy_costs"]


def greedy_costs(C: np.ndarray, horizon: int) -> np.ndarray:
    """Return the cost of each step of the greedy coupling, (T,) float64.

    Each of the M columns has the mass 1/M. In the order of time, each row takes the mass 1/horizon from the cheapest
    columns that have some left, the earlier of equals. Masses are counted in whole units of 1/(M horizon), so that
    nothing is lost or left over by rounding, which the authors' code avoids by taking 1e-6 less in each step.

    Args:
        C: (T, M) costs, T at most `horizon`.
        horizon: steps that use up all mass.
    """
    T, M = C.shape
    left = np.full(M, horizon)
    remaining = C.astype(np.float64)
    costs = np.empty(T)
    open_columns = np.zeros(M)  # inf where a column is used up
    for t in range(T):
        row = remaining[t] + open_columns
        wanted, total = M, 0.0
        while wanted:
            j = int(row.argmin())
            taken = min(wanted, int(left[j]))
            total += taken * C[t, j]
            wanted -= taken
            left[j] -= taken
            if not left[j]:
                row[j] = open_columns[j] = math.inf
        costs[t] = total / (M * horizon)
    return costs


class FittedPWIL:
    """The pooled demonstrations."""

    def __init__(self, config: PWILConfig, demos: EpisodeDataset, data: EpisodeDataset) -> None:
        self.config = config
        self._features = Features(config.features, demos, data)
        self._demos = _rows(self._features(demos))

    def label(self, data: EpisodeDataset) -> Labels:
        """See `Fitted.label`."""
        values = self._features(data)
        costs = np.empty(data.num_steps)

        def one(bounds: tuple[int, int]) -> None:
            start, end = bounds
            C = cost_matrix(_rows(values[start:end]), self._demos)
            horizon = max(self.config.horizon, end - start)
            costs[start:end] = greedy_costs(C, horizon) * horizon

        with ThreadPoolExecutor(thread_count()) as pool:
            list(pool.map(one, zip(data.episode_starts.tolist(), data.episode_ends.tolist(), strict=True)))
        rate = self.config.beta / math.sqrt(values.shape[1])
        return Labels(exponential(costs, alpha=self.config.alpha, rate=rate))


def _rows(values: np.ndarray) -> Rows:
    return Rows(values.astype(np.float32), np.ones(len(values), np.float32), "euclidean")
