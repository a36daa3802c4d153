"""The interface of labellers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

import numpy as np

from paperloop_data import EpisodeDataset

__all__ = ["Fitted", "Labels"]


class Labels(NamedTuple):
    """What a labeller says about N steps in E episodes.

    Attributes:
        rewards: (N,) float32, before the scale of the dataset.
        episodes: name -> (E, ...), numbers for each episode, such as "demonstration", "marginal_error".
    """

    rewards: np.ndarray
    episodes: Mapping[str, np.ndarray] = {}


class Fitted(Protocol):
    """A labeller that has seen the demonstrations and, where it scales or learns by it, all of the data.

    It may also have `describe() -> Mapping`: what the settings alone do not say, JSON-ready, such as the back end that
    "auto" chose. That goes into the labelled dataset's attributes.
    """

    def label(self, data: EpisodeDataset) -> Labels:
        """Label episodes. The labels of an episode depend on that episode alone, not on the others."""
        ...
