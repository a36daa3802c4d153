"""D4RL's normalised score: 0 for a random policy, 100 for an expert."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from paperloop.errors import UserError

__all__ = ["REFERENCE_SCORES", "normalised_score"]

#: Environment -> (return of a random policy, return of an expert). D4RL, `d4rl/infos.py`, the same for v0, v1 and v2;
#: the maze2d rows are the sparse-reward v1 tasks.
REFERENCE_SCORES: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "halfcheetah": (-280.178953, 12135.0),
        "hopper": (-20.272305, 3234.3),
        "walker2d": (1.629008, 4592.3),
        "ant": (-325.6, 3879.7),
        "antmaze": (0.0, 1.0),
        "kitchen": (0.0, 4.0),
        "pen": (96.262799, 3076.8331017826877),
        "hammer": (-274.856578, 12794.134825156867),
        "relocate": (-6.425911, 4233.877797728884),
        "door": (-56.512833, 2880.5693087298737),
        "maze2d-umaze": (23.85, 161.86),
        "maze2d-medium": (13.13, 277.39),
        "maze2d-large": (6.7, 273.99),
    }
)


def normalised_score(returns: Any, environment: str) -> Any:
    """Return 100 · (return − random) / (expert − random), which is what papers print.

    Args:
        returns: undiscounted returns of any shape.
        environment: a key of `REFERENCE_SCORES`, or a D4RL name that starts with one, such as "hopper-medium-v2".

    Raises:
        UserError: no reference scores are known for it.
    """
    name = environment.lower()
    keys = [key for key in REFERENCE_SCORES if name == key or name.startswith(f"{key}-")]
    if not keys or ("maze2d" in name and "dense" in name):
        raise UserError(
            f"There are no reference scores for {environment!r}; the known ones are {', '.join(REFERENCE_SCORES)}."
        )
    low, high = REFERENCE_SCORES[max(keys, key=len)]
    return 100.0 * (np.asarray(returns, np.float64) - low) / (high - low)
