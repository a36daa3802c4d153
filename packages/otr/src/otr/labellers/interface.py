"""The interface of labellers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np

from paperloop_data import EpisodeDataset

__all__ = ["Fitted", "Labeller", "Labels"]


class Labels(NamedTuple):
    """What a labeller says about N steps in E episodes.

    Attributes:
        rewards: (N,) float32, before the scale of the dataset.
        steps: name -> (N,), further numbers for each step, such as "expected_cost".
        episodes: name -> (E, ...), further numbers for each episode, such as "demonstration", "marginal_error".
    """

    rewards: np.ndarray
    steps: Mapping[str, np.ndarray]
    episodes: Mapping[str, np.ndarray]


class Fitted(Protocol):
    """A labeller that has seen the demonstrations and, where it learns from it, the data.

    It may also have `describe() -> Mapping`: what the settings alone do not say, JSON-ready, such as the back end that
    "auto" chose. That goes into the labelled dataset's attributes.
    """

    def label(self, data: EpisodeDataset) -> Labels:
        """Label episodes. The labels of an episode depend on that episode alone, not on the others."""
        ...


class Labeller(Protocol):
    """One method bound to its configuration."""

    config: Any

    def fit(self, demos: EpisodeDataset, data: EpisodeDataset) -> Fitted:
        """Prepare for labelling.

        Args:
            demos: the demonstrations. Their rewards are not looked at, except by UDS.
            data: all of the data that will be labelled, for those that scale or learn by it; its rewards are not
                looked at.

        Raises:
            UserError: the two do not fit together, or lack what the method needs.
        """
        ...
