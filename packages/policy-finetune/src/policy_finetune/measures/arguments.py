"""Arguments of measures as checked arrays of float64."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from paperloop.errors import UserError

__all__ = ["Curve", "checked_curve", "checked_reference", "checked_scores", "checked_steps"]


class Curve(NamedTuple):
    """One learning curve: steps (T,), strictly increasing, and scores (T,), the first before any update."""

    steps: ArrayLike
    scores: ArrayLike


def checked_steps(steps: ArrayLike) -> NDArray[np.float64]:
    """Return (T,) steps, or refuse what is not finite and strictly increasing."""
    array = _numbers(steps, "steps")
    if array.ndim != 1 or not array.size:
        raise UserError(f"steps must be a vector with one entry per evaluation; got shape {array.shape}.")
    if not np.isfinite(array).all() or not (np.diff(array) > 0).all():
        raise UserError("steps must be finite and strictly increasing.")
    return array


def checked_scores(scores: ArrayLike) -> NDArray[np.float64]:
    """Return (..., T) scores, or refuse what has no step."""
    array = _numbers(scores, "scores")
    if array.ndim == 0 or not array.shape[-1]:
        raise UserError(f"scores must have shape (..., T) with T at least 1; got {array.shape}.")
    return array


def checked_curve(name: str, curve: Curve) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (T,) steps and (T,) scores of one curve; errors begin with its name."""
    try:
        steps, scores = checked_steps(curve[0]), checked_scores(curve[1])
    except UserError as error:
        raise UserError(f"Curve {name}: {error}") from None
    if scores.shape != steps.shape:
        raise UserError(f"Curve {name} has {len(steps)} steps and scores of shape {scores.shape}; give one per step.")
    return steps, scores


def _numbers(values: ArrayLike, name: str) -> NDArray[np.float64]:
    try:
        return np.asarray(values, dtype=float)
    except (TypeError, ValueError):
        raise UserError(f"{name} must be an array of numbers with rows of equal length.") from None


def checked_reference(value: ArrayLike, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return a reference score for each run, broadcast to `shape`."""
    array = _numbers(value, name)
    if not np.isfinite(array).all():
        raise UserError(f"{name} is {value!r}; it must be finite.")
    try:
        return np.broadcast_to(array, shape)
    except ValueError:
        raise UserError(f"{name} has shape {array.shape}; it must broadcast to that of the runs, {shape}.") from None
