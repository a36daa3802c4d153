"""PWIL: rewards by a greedy coupling in the order of time (Dadashi et al. 2021, arXiv 2006.04678, algorithm 1)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from otr.config import PWILConfig
from otr.episodes.features import Scaler, check_compatible, features, fit_scaler
from otr.labellers.interface import Labels
from otr.optimal_transport.costs import Rows, cost_matrix
from otr.optimal_transport.solvers.threads import thread_count
from paperloop_data import EpisodeDataset

__all__ = ["FittedPWIL", "PWILLabeller", "greedy_costs"]


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


class PWILLabeller:
    """See the module.

    Args:
        config: what and how.
    """

    def __init__(self, config: PWILConfig) -> None:
        self.config = config

    def fit(self, demos: EpisodeDataset, data: EpisodeDataset) -> FittedPWIL:
        """See `Labeller.fit`."""
        check_compatible(data, demos, self.config.features)
        return FittedPWIL(self.config, demos, fit_scaler(data, demos, self.config.features))


class FittedPWIL:
    """The pooled demonstrations."""

    def __init__(self, config: PWILConfig, demos: EpisodeDataset, scaler: Scaler | None) -> None:
        self.config = config
        self._scaler = scaler
        self._demos = _rows(features(demos, config.features, scaler))

    def label(self, data: EpisodeDataset) -> Labels:
        """See `Fitted.label`. Per step: the cost of the coupling, times the horizon."""
        values = features(data, self.config.features, self._scaler)
        width = values.shape[1]
        costs = np.empty(data.num_steps)

        def one(bounds: tuple[int, int]) -> None:
            start, end = bounds
            C = cost_matrix(_rows(values[start:end]), self._demos)
            horizon = max(self.config.horizon, end - start)
            costs[start:end] = greedy_costs(C, horizon) * horizon

        with ThreadPoolExecutor(thread_count(0)) as pool:
            list(pool.map(one, zip(data.episode_starts.tolist(), data.episode_ends.tolist(), strict=True)))
        rewards = self.config.alpha * np.exp(-self.config.beta / math.sqrt(width) * costs)
        return Labels(rewards.astype(np.float32), {"distance": costs.astype(np.float32)}, {})

    def describe(self) -> Mapping[str, Any]:
        """See `Fitted.describe`."""
        return {"solver": "greedy", "demonstration_steps": len(self._demos.values)}


def _rows(values: np.ndarray) -> Rows:
    return Rows(values.astype(np.float32), np.ones(len(values), np.float32), "euclidean", 0.0)
