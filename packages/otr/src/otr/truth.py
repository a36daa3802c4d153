"""The true rewards of a dataset, whether it was labelled before or not."""

from __future__ import annotations

import numpy as np

from paperloop_data import EpisodeDataset

__all__ = ["ORIGINAL_REWARDS", "true_rewards", "with_true_rewards"]

#: The extra in which labelling keeps the rewards that were there before.
ORIGINAL_REWARDS = "infos/original_rewards"


def true_rewards(data: EpisodeDataset) -> np.ndarray:
    """Return (N,) the rewards that the data had before it was labelled for the first time, if it was."""
    return data.extras.get(ORIGINAL_REWARDS, data.rewards)


def with_true_rewards(data: EpisodeDataset) -> EpisodeDataset:
    """Return the data with the rewards of `true_rewards`; the same object where it was not labelled."""
    if ORIGINAL_REWARDS not in data.extras:
        return data
    return data.replace(rewards=data.extras[ORIGINAL_REWARDS], provenance=data.provenance)
