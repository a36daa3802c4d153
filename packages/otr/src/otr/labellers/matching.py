"""Minimum distance and segment matching: transport's rivals without a coupling (Dong et al. 2025, arXiv 2506.06793)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from otr.config import MinimumDistanceConfig, SegmentMatchingConfig
from otr.episodes.features import Scaler, check_compatible, features, fit_scaler, warn_about_zeros
from otr.labellers.common import divisor
from otr.labellers.interface import Labels
from otr.labellers.rewards import aggregate, squash
from otr.optimal_transport.costs import Rows, cost_matrix, prepare_rows
from otr.optimal_transport.sinkhorn import prepare_demos
from paperloop_data import EpisodeDataset

__all__ = ["FittedMatching", "MatchingLabeller", "segments"]


def segments(T: int, M: int, half_width: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return the (first, last) demonstration steps that each of T steps looks at, each (T,) and inclusive.

    Step t looks at floor(t M/T) .. floor((t + 1) M/T) - 1, at least one step, widened by `half_width`.
    """
    t = np.arange(T)
    first = t * M // T
    last = np.maximum((t + 1) * M // T - 1, first)
    return np.maximum(first - half_width, 0), np.minimum(last + half_width, M - 1)


class MatchingLabeller:
    """See the module.

    Args:
        config: which of the two, and how.
    """

    def __init__(self, config: MinimumDistanceConfig | SegmentMatchingConfig) -> None:
        self.config = config

    def fit(self, demos: EpisodeDataset, data: EpisodeDataset) -> FittedMatching:
        """See `Labeller.fit`."""
        check_compatible(data, demos, self.config.features)
        scaler = fit_scaler(data, demos, self.config.features)
        return FittedMatching(self.config, demos, scaler, data)


class FittedMatching:
    """The demonstrations, prepared."""

    def __init__(
        self,
        config: MinimumDistanceConfig | SegmentMatchingConfig,
        demos: EpisodeDataset,
        scaler: Scaler | None,
        data: EpisodeDataset,
    ) -> None:
        self.config = config
        self._scaler = scaler
        values = features(demos, config.features, scaler)
        if config.cost.kind == "cosine":
            warn_about_zeros(values, demos, "demonstrations")
        bounds = zip(demos.episode_starts, demos.episode_ends, strict=True)
        self._demos = prepare_demos([values[start:end] for start, end in bounds], config.cost)
        self._divisor = divisor(config.squash, data, values.shape[1])

    def label(self, data: EpisodeDataset) -> Labels:
        """See `Fitted.label`. Per step: the cost of the match; per episode: the demonstration."""
        values = features(data, self.config.features, self._scaler)
        if self.config.cost.kind == "cosine":
            warn_about_zeros(values, data, "data")
        rows = prepare_rows(values, data.episode_starts, self.config.cost)
        costs = np.empty((len(self._demos), data.num_steps), np.float32)
        for start, end in zip(data.episode_starts.tolist(), data.episode_ends.tolist(), strict=True):
            one = rows.select(slice(start, end))
            for k, demo in enumerate(self._demos):
                costs[k, start:end] = self._matched(one, demo)
        rewards, chosen = aggregate(
            squash(costs, self.config.squash, self._divisor), data.episode_starts, self.config.aggregate
        )
        steps = {"distance": costs[chosen[data.episode_of_row], np.arange(data.num_steps)]}
        return Labels(rewards, steps, {"demonstration": chosen})

    def _matched(self, rows: Rows, demo: Rows) -> np.ndarray:
        C = cost_matrix(rows, demo)
        if isinstance(self.config, SegmentMatchingConfig):
            first, last = segments(*C.shape, self.config.half_width)
            j = np.arange(C.shape[1])
            C = np.where((j >= first[:, None]) & (j <= last[:, None]), C, np.inf)
        return C.min(axis=1)

    def describe(self) -> Mapping[str, Any]:
        """See `Fitted.describe`."""
        return {"solver": "minimum", "divisor": self._divisor, "demonstrations": len(self._demos)}
