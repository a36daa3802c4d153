"""Leaving out the steps that D4RL's loader leaves out, for labels that are the published ones to the last digit.

`d4rl.qlearning_dataset`, through which the authors of OTR, SEABO and others read both data and demonstrations, drops
every step that times out (and the last row of a file, which is kept here). An episode of 1000 steps is 999 vectors
there and 1000 here, which moves the rewards of OTR by up to 2e-3.
"""

from __future__ import annotations

import numpy as np

from otr.labellers.interface import Labels
from paperloop_data import EpisodeDataset, next_rows

__all__ = ["kept_rows", "repeated", "without_time_outs"]


def kept_rows(data: EpisodeDataset) -> np.ndarray:
    """Return (M,) the rows that do not time out, and of every episode at least the first."""
    keep = ~data.truncated
    keep[data.episode_starts] = True
    return np.flatnonzero(keep)


def without_time_outs(data: EpisodeDataset) -> EpisodeDataset:
    """Return the dataset without the steps that time out; every episode keeps at least its first. Twice is as once."""
    rows = kept_rows(data)
    if len(rows) == data.num_steps:
        return data
    following = next_rows(data)
    return data.replace(
        observations=data.observations[rows],
        actions=data.actions[rows],
        rewards=data.rewards[rows],
        terminated=data.terminated[rows],
        truncated=data.truncated[rows],
        episode_starts=np.searchsorted(rows, data.episode_starts),
        next_observations=None if following is None else following[rows],
        final_observations=None,
        extras={name: values[rows] for name, values in data.extras.items()},
        provenance=(*data.provenance, {"action": "drop time-outs", "steps": data.num_steps - len(rows)}),
    )


def repeated(labels: Labels, compared: EpisodeDataset, data: EpisodeDataset) -> Labels:
    """Return the labels of all steps: one that was left out repeats those of the step before it.

    Args:
        labels: of `compared`.
        compared: what `without_time_outs` made of `data`.
        data: the whole.
    """
    rows = kept_rows(data)
    assert len(rows) == compared.num_steps
    source = np.searchsorted(rows, np.arange(data.num_steps), side="right") - 1
    return Labels(labels.rewards[source], labels.episodes)
