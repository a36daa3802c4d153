"""dm_control's tasks for the walker as functions of what the environment says of its state.

`rows` holds height, upright, speed and spin (`envs.walker`), arrays of one shape; so do the results.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

__all__ = ["WALKING", "flip", "run", "stand", "walk"]

HEIGHT, WALK, RUN, SPIN = 1.2, 1.0, 8.0, 5.0  # metres, m/s, m/s, kg m²/s

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


def walk(rows: Rows) -> np.ndarray:
    """Return the reward of moving forward at 1 m/s or faster, upright."""
    return _move(rows, WALK)


def run(rows: Rows) -> np.ndarray:
    """Return the reward of moving forward at 8 m/s or faster, upright."""
    return _move(rows, RUN)


def flip(rows: Rows) -> np.ndarray:
    """Return the angular momentum about the axis across as a share of 5, from 0 to 1, as the authors define it."""
    return np.clip(rows["spin"] / SPIN, 0.0, 1.0)


WALKING = {"stand": stand, "walk": walk, "run": run, "flip": flip}
