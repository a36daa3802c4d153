"""What several labellers share."""

from __future__ import annotations

import numpy as np

from otr.config import SquashConfig
from outerloop.data import EpisodeDataset

__all__ = ["divisor"]


def divisor(config: SquashConfig, data: EpisodeDataset, width: int) -> float:
    """Return D of the squashing.

    Args:
        config: which.
        data: any dataset of the environment.
        width: of the compared vectors.
    """
    sizes = {
        "observation": int(np.prod(data.observations.shape[1:])),
        "action": int(np.prod(data.actions.shape[1:])),
        "feature": width,
        "none": 1,
    }
    return float(sizes[config.divisor])
