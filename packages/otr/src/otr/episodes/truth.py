"""The true rewards of a dataset, whether it was labelled before or not."""

from __future__ import annotations

import numpy as np

from paperloop.errors import UserError
from paperloop_data import EpisodeDataset

__all__ = ["ORIGINAL_REWARDS", "known_truth", "true_rewards", "with_true_rewards"]

#: The extra in which labelling keeps the rewards that were there before.
ORIGINAL_REWARDS = "infos/original_rewards"


def true_rewards(data: EpisodeDataset) -> np.ndarray:
    """Return (N,) the rewards that the data had before it was labelled for the first time, if it was.

    Raises:
        UserError: what is kept in their name is not one finite number for each step.
    """
    kept = data.extras.get(ORIGINAL_REWARDS)
    if kept is None:
        return data.rewards
    if kept.shape != (data.num_steps,) or kept.dtype.kind not in "biuf" or not np.isfinite(kept).all():
        raise UserError(
            f"{data.where}: {ORIGINAL_REWARDS}, of shape {kept.shape} and type {kept.dtype}, is not a finite number "
            "for each step, as true rewards are: drop or restore it."
        )
    return kept


def with_true_rewards(data: EpisodeDataset) -> EpisodeDataset:
    """Return the data with the rewards of `true_rewards`; the same object where it was not labelled.

    Raises:
        UserError: see `true_rewards`.
    """
    if ORIGINAL_REWARDS not in data.extras:
        return data
    return data.replace(rewards=true_rewards(data), provenance=data.provenance)


def known_truth(data: EpisodeDataset) -> np.ndarray | None:
    """Return the rewards that labelling kept; None without them, or where all are 0, as where a file had none.

    Raises:
        UserError: see `true_rewards`.
    """
    truth = true_rewards(data) if ORIGINAL_REWARDS in data.extras else None
    return None if truth is None or not truth.any() else truth
