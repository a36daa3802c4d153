"""SEABO: rewards by the nearest demonstration step (Lyu et al. 2024, arXiv 2402.03807)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.spatial import KDTree

from otr.config import NearestNeighbourConfig
from otr.episodes.features import Scaler, check_compatible, features, fit_scaler
from otr.labellers.common import divisor
from otr.labellers.interface import Labels
from otr.labellers.rewards import squash
from otr.optimal_transport.solvers.threads import thread_count
from paperloop.errors import UserError
from paperloop_data import EpisodeDataset

__all__ = ["FittedNearest", "NearestNeighbourLabeller"]


class NearestNeighbourLabeller:
    """See the module.

    Args:
        config: what and how.
    """

    def __init__(self, config: NearestNeighbourConfig) -> None:
        self.config = config

    def fit(self, demos: EpisodeDataset, data: EpisodeDataset) -> FittedNearest:
        """See `Labeller.fit`."""
        check_compatible(data, demos, self.config.features)
        if self.config.neighbours > demos.num_steps:
            raise UserError(
                f"neighbours is {self.config.neighbours}, and the demonstrations have {demos.num_steps} steps."
            )
        scaler = fit_scaler(data, demos, self.config.features)
        return FittedNearest(self.config, demos, scaler, data)


class FittedNearest:
    """A k-d tree of the pooled demonstrations."""

    def __init__(
        self, config: NearestNeighbourConfig, demos: EpisodeDataset, scaler: Scaler | None, data: EpisodeDataset
    ) -> None:
        self.config = config
        self._scaler = scaler
        values = features(demos, config.features, scaler)
        self._tree = KDTree(values)
        self._episode = demos.episode_of_row
        self._divisor = divisor(config.squash, data, values.shape[1])

    def label(self, data: EpisodeDataset) -> Labels:
        """See `Fitted.label`. Per step: the distance; per episode: the demonstration that most steps are nearest to."""
        values = features(data, self.config.features, self._scaler)
        k = self.config.neighbours
        distance, index = self._tree.query(values, k=k, workers=thread_count(self.config.workers))
        nearest = index if k == 1 else index[:, 0]
        mean = distance if k == 1 else distance.mean(axis=1)
        votes = np.zeros((data.num_episodes, int(self._episode[-1]) + 1), np.int64)
        np.add.at(votes, (data.episode_of_row, self._episode[nearest]), 1)
        rewards = squash(mean, self.config.squash, self._divisor)
        return Labels(rewards, {"distance": mean.astype(np.float32)}, {"demonstration": votes.argmax(axis=1)})

    def describe(self) -> Mapping[str, Any]:
        """See `Fitted.describe`."""
        return {"solver": "k-d tree", "divisor": self._divisor, "demonstrations": int(self._episode[-1]) + 1}
