"""dm_control's tasks for its planar bodies as functions of what the environment says of its state.

`rows` holds height, upright, speed and spin (`envs.planar`), arrays of one shape; so do the results.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

__all__ = ["TASKS"]

HEIGHT, WALK, RUN, GALLOP, SPIN = 1.2, 1.0, 8.0, 10.0, 5.0  # metres, m/s (three), kg m²/s

Rows = Mapping[str, np.ndarray]


def stand(rows: Rows) -> np.ndarray:
    """Return (3 · standing + upright) / 4; below 1.2 m standing falls off as a Gaussian that is .1 at half of it."""
    short = np.maximum(HEIGHT - rows["height"], 0.0) / (HEIGHT / 2)
    standing = np.exp(np.log(0.1) * np.square(short))
    return (3.0 * standing + (1.0 + rows["upright"]) / 2.0) / 4.0


def _move(rows: Rows, speed: float) -> np.ndarray:
    """Return stand · (5 · move + 1) / 6, where move grows linearly from 0 at rest to 1 at the speed."""
    missing = np.maximum(speed - rows["speed"], 0.0) / (speed / 2)
    return stand(rows) * (5.0 * np.maximum(1.0 - 0.5 * missing, 0.0) + 1.0) / 6.0


def _share(value: np.ndarray, whole: float) -> np.ndarray:
    """Return a value as a share of what is rewarded in full, from 0 to 1."""
    return np.clip(value / whole, 0.0, 1.0)


#: Body -> task -> its reward. Flips and the cheetah's way back are the authors' tasks, the others dm_control's.
TASKS = {
    "walker": {
        "stand": stand,
        "walk": lambda rows: _move(rows, WALK),
        "run": lambda rows: _move(rows, RUN),
        "flip": lambda rows: _share(rows["spin"], SPIN),
    },
    "cheetah": {
        "run": lambda rows: _share(rows["speed"], GALLOP),
        "run_backward": lambda rows: _share(-rows["speed"], GALLOP),
        "flip": lambda rows: _share(rows["spin"], SPIN),
        "flip_backward": lambda rows: _share(-rows["spin"], SPIN),
    },
}
