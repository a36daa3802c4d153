"""Labels that were made before, as `otr train --labels FILE` takes them: the rewards of a file with the same steps."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from otr.episodes.files import read_dataset
from otr.labels.labelling import ATTRIBUTE, add_arrays
from paperloop.errors import UserError
from paperloop_data import EpisodeDataset

__all__ = ["GivenLabels", "content_digest", "read_labels"]


class GivenLabels(NamedTuple):
    """The labels of a file.

    Attributes:
        rewards: (N,) one for each step of the data.
        about: what `otr label` wrote about them; {} of a file that something else labelled.
        digest: of the contents of the file.
    """

    rewards: np.ndarray
    about: Mapping[str, Any]
    digest: str

    def on(self, data: EpisodeDataset, original: str) -> EpisodeDataset:
        """Return the data with these rewards; its own become the extra `original`."""
        about = {ATTRIBUTE: dict(self.about)} if self.about else {}
        return data.replace(
            rewards=self.rewards,
            extras={**data.extras, original: data.rewards},
            attributes={**data.attributes, **about},
            provenance=data.provenance,
        )


def read_labels(path: str, data: EpisodeDataset, name: str) -> GivenLabels:
    """Return the labels of a file, which must hold the steps of the data, in their order.

    Args:
        path: a D4RL file, a Minari folder or an npz file.
        data: what was labelled.
        name: the path of `data`, for messages.

    Raises:
        UserError: it cannot be read, or its episodes, observations or actions are others.
    """
    found = read_dataset(path)
    differs = None
    if found.num_steps != data.num_steps:
        differs = f"it has {found.num_steps} steps, and the data {data.num_steps}"
    elif not np.array_equal(found.episode_starts, data.episode_starts):
        differs = "its episodes are others"
    elif not np.array_equal(found.observations, data.observations):
        differs = "its observations are others"
    elif not np.array_equal(found.actions, data.actions):
        differs = "its actions are others"
    elif not np.array_equal(found.terminated, data.terminated):
        differs = "other episodes of it are terminated"
    if differs is not None:
        raise UserError(
            f"{path}: these are not labels of {name}: {differs}. Label that file, with the same options for reading it."
        )
    about = found.attributes.get(ATTRIBUTE)
    return GivenLabels(found.rewards, dict(about) if isinstance(about, Mapping) else {}, content_digest(found))


def content_digest(data: EpisodeDataset) -> str:
    """Return 32 hexadecimal digits that depend on the contents of a dataset."""
    digest = hashlib.sha256()
    arrays = (
        data.episode_starts, data.observations, data.actions, data.rewards, data.terminated, data.truncated,
        data.next_observations, data.final_observations,
    )  # fmt: skip
    add_arrays(digest, arrays)
    return digest.hexdigest()[:32]
