"""What several labellers share."""

from __future__ import annotations

import numpy as np

from otr.config import SquashConfig
from paperloop.errors import UserError
from paperloop_data import EpisodeDataset

__all__ = ["divisor"]


def divisor(config: SquashConfig, data: EpisodeDataset, width: int) -> float:
    """Return D of the squashing.

    Args:
        config: which.
        data: what is labelled; demonstrations may lack actions.
        width: of the compared vectors.

    Raises:
        UserError: the dimension is 0.
    """
    sizes = {
        "observation": int(np.prod(data.observations.shape[1:])),
        "action": int(np.prod(data.actions.shape[1:])),
        "feature": width,
        "none": 1,
    }
    if not sizes[config.divisor]:
        raise UserError(
            f"{data.where}: squash.divisor is {config.divisor!r}, and there are none in the data: choose another "
            "divisor."
        )
    return float(sizes[config.divisor])
