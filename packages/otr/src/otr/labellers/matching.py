"""Minimum distance and segment matching: transport's rivals without a coupling (Dong et al. 2025, arXiv 2506.06793)."""

from __future__ import annotations

import numpy as np

from otr.config import MinimumDistanceConfig, SegmentMatchingConfig
from otr.labellers.interface import Labels
from otr.labellers.rewards import aggregate, squash
from otr.labellers.transport import Compared
from otr.optimal_transport.costs import Rows, cost_matrix
from paperloop_data import EpisodeDataset

__all__ = ["FittedMatching", "segments"]


def segments(T: int, M: int, half_width: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return the (first, last) demonstration steps that each of T steps looks at, each (T,) and inclusive.

    Step t looks at floor(t M/T) .. floor((t + 1) M/T) - 1, at least one step, widened by `half_width`.
    """
    t = np.arange(T)
    first = t * M // T
    last = np.maximum((t + 1) * M // T - 1, first)
    return np.maximum(first - half_width, 0), np.minimum(last + half_width, M - 1)


class FittedMatching(Compared):
    """Each step against its cheapest step of a demonstration, of all of it or of the segment at the same part of it."""

    config: MinimumDistanceConfig | SegmentMatchingConfig

    def label(self, data: EpisodeDataset) -> Labels:
        """See `Fitted.label`. Per episode: the demonstration."""
        rows = self.rows(data)
        costs = np.empty((len(self.demos), data.num_steps), np.float32)
        for start, end in zip(data.episode_starts.tolist(), data.episode_ends.tolist(), strict=True):
            one = rows.select(slice(start, end))
            for k, demo in enumerate(self.demos):
                costs[k, start:end] = self._matched(one, demo)
        rewards = squash(costs, self.config.squash, self.divisor)
        rewards, chosen = aggregate(rewards, data.episode_starts, self.config.aggregate)
        return Labels(rewards, {"demonstration": chosen})

    def _matched(self, rows: Rows, demo: Rows) -> np.ndarray:
        C = cost_matrix(rows, demo)
        if isinstance(self.config, SegmentMatchingConfig):
            first, last = segments(*C.shape, self.config.half_width)
            j = np.arange(C.shape[1])
            C = np.where((j >= first[:, None]) & (j <= last[:, None]), C, np.inf)
        return C.min(axis=1)
