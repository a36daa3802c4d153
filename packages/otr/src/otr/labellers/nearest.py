"""SEABO: rewards by the nearest demonstration step (Lyu et al. 2024, arXiv 2402.03807)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.spatial import KDTree

from otr.config import NearestNeighbourConfig
from otr.episodes.features import Features
from otr.labellers.interface import Labels
from otr.labellers.rewards import divisor, squash
from otr.optimal_transport.solvers.problem import thread_count
from paperloop.errors import UserError
from paperloop_data import EpisodeDataset

__all__ = ["FittedNearest"]


class FittedNearest:
    """A k-d tree of the pooled demonstrations."""

    def __init__(self, config: NearestNeighbourConfig, demos: EpisodeDataset, data: EpisodeDataset) -> None:
        if config.neighbours > demos.num_steps:
            raise UserError(f"neighbours is {config.neighbours}, and the demonstrations have {demos.num_steps} steps.")
        self.config = config
        self._features = Features(config.features, demos, data)
        values = self._features(demos)
        self._tree = KDTree(values)
        self._episode = demos.episode_of_row
        self._divisor = divisor(config.squash, data, values.shape[1])

    def label(self, data: EpisodeDataset) -> Labels:
        """See `Fitted.label`. Per episode: the demonstration that most steps are nearest to."""
        k = self.config.neighbours
        distance, index = self._tree.query(self._features(data), k=k, workers=thread_count())
        nearest = index if k == 1 else index[:, 0]
        mean = distance if k == 1 else distance.mean(axis=1)
        votes = np.zeros((data.num_episodes, int(self._episode[-1]) + 1), np.int64)
        np.add.at(votes, (data.episode_of_row, self._episode[nearest]), 1)
        return Labels(squash(mean, self.config.squash, self._divisor), {"demonstration": votes.argmax(axis=1)})

    def describe(self) -> Mapping[str, Any]:
        """See `Fitted.describe`."""
        return {"divisor": self._divisor, "demonstrations": int(self._episode[-1]) + 1}
