"""What a fine-tuning run lost and won: collapse, recovery and area of its learning curve.

A learning curve is a vector of steps [T] and scores [..., T] at them. The score at index 0 is that of the pre-trained
policy, before the first online update; without it no drop can be told. Leading axes are runs.

    kept       (min_{t>0} J_t - J_random) / (J_0 - J_random), what was left at worst; undefined where J_0 <= J_random
    collapse   kept < 1/2 already within the first fifth of the steps

Collapse here is the "policy collapse" of Luo, Kay, Grefenstette and Deisenroth 2023, "Finetuning from Offline
Reinforcement Learning: Challenges, Trade-offs and Practical Solutions": a severe deterioration at the beginning of
online learning. The two constants of the flag are a convention of this package.

An undefined number is NaN, never an exception, so that one odd run does not cost the others.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from paperloop.errors import UserError

__all__ = ["COLLAPSE_THRESHOLD", "COLLAPSE_WINDOW", "CollapseMetrics", "collapse_metrics"]

#: Share of (start - random) above whose loss a run counts as collapsed.
COLLAPSE_THRESHOLD = 0.5

#: Share of the steps within which that drop must be seen.
COLLAPSE_WINDOW = 0.2


@dataclasses.dataclass(frozen=True)
class CollapseMetrics:
    """Metrics of curves (..., T). Each field is an array of shape (...); NaN says undefined.

    Attributes:
        start: J_0, the score before the first update.
        minimum: the lowest score after the start (J_0 itself where the curve is one point).
        final: the last score.
        auc: area under the curve over the range of steps (trapezoid), that is the mean over steps.
        time_to_recover: steps from the first to the first evaluation after the minimum whose score is at least the
            start; 0 where the curve never fell below the start, NaN where it never came back. Where the minimum is
            attained several times the last time counts: before it the fall was not over.
        recovered: whether time_to_recover is a number, bool.
        collapsed: whether more than the threshold was lost within the window, bool; False where undefined.
        collapse_defined: where start > random and the window holds an evaluation after the start, bool.
        min_over_start: minimum / start; NaN where start <= 0, as a ratio to a negative return has no meaning.
        kept: (minimum - random) / (start - random); NaN where start <= random. 1 says that nothing was lost, 0 that
            the policy fell to a random one's score; above 1 it never came down to the start, below 0 it got worse than
            random. Unlike min_over_start it does not change when a constant is added to all scores.
    """

    start: np.ndarray
    minimum: np.ndarray
    final: np.ndarray
    auc: np.ndarray
    time_to_recover: np.ndarray
    recovered: np.ndarray
    collapsed: np.ndarray
    collapse_defined: np.ndarray
    min_over_start: np.ndarray
    kept: np.ndarray

    def as_dict(self) -> dict[str, Any]:
        """Return plain numbers, or lists where there are several runs; NaN stays NaN, which JSON has no word for."""
        return {field.name: getattr(self, field.name).tolist() for field in dataclasses.fields(self)}


def collapse_metrics(steps: ArrayLike, scores: ArrayLike, *, random: ArrayLike = 0.0) -> CollapseMetrics:
    """Return the collapse metrics of learning curves.

    >>> float(collapse_metrics([0, 1, 2, 10], [100, 20, 60, 110]).kept)
    0.2

    Args:
        steps: (T,) of the evaluations, finite and strictly increasing.
        scores: (..., T); scores[..., 0] was taken before the first update. A curve with a NaN in it has NaN metrics.
        random: score of a random policy, broadcast against the leading shape.

    Raises:
        UserError: the shapes do not fit, or the steps do not increase.
    """
    where, curve = np.asarray(steps, float), np.asarray(scores, float)
    if where.ndim != 1 or not where.size or not np.isfinite(where).all() or not (np.diff(where) > 0).all():
        raise UserError("steps must be a vector of finite numbers that increase strictly.")
    if curve.ndim == 0 or curve.shape[-1] != len(where):
        raise UserError(f"scores of shape {curve.shape} must have one value for each of the {len(where)} steps.")
    floor = np.broadcast_to(np.asarray(random, float), curve.shape[:-1])
    curve = np.where(np.isfinite(curve).all(axis=-1, keepdims=True), curve, np.nan)
    valid = ~np.isnan(curve[..., 0])
    start, final = curve[..., 0], curve[..., -1]
    later = curve[..., 1:] if len(where) > 1 else curve
    minimum = later.min(axis=-1)
    drop_defined = valid & (start > floor)
    scale = np.where(drop_defined, start - floor, np.nan)
    # A scale of a few denormals may overflow: infinitely more was lost than had been learned, and that is what it says.
    with np.errstate(over="ignore"):
        early = (where - where[0] <= COLLAPSE_WINDOW * (where[-1] - where[0])) & (np.arange(len(where)) > 0)
        seen = drop_defined & bool(early.any())
        lowest = np.where(early, curve, np.inf).min(axis=-1)
        collapsed = seen & (np.maximum(0.0, start - lowest) / scale > COLLAPSE_THRESHOLD)
        ratio = minimum / np.where(valid & (start > 0), start, np.nan)
        kept = (minimum - floor) / scale
    time = _time_to_recover(where, curve, start, minimum)
    return CollapseMetrics(
        start=start, minimum=minimum, final=final, auc=_area(where, curve), time_to_recover=time,
        recovered=~np.isnan(time), collapsed=collapsed, collapse_defined=seen, min_over_start=ratio, kept=kept,
    )  # fmt: skip


def _area(steps: np.ndarray, curve: np.ndarray) -> np.ndarray:
    """Return the mean of scores (..., T) over the range of steps by the trapezoid rule; of one point, its score."""
    if len(steps) == 1:
        return curve[..., 0]
    weights = np.zeros(len(steps))  # of each evaluation: half of the way to its neighbours
    weights[:-1] += np.diff(steps) / 2
    weights[1:] += np.diff(steps) / 2
    return curve @ (weights / weights.sum())


def _time_to_recover(steps: np.ndarray, curve: np.ndarray, start: np.ndarray, minimum: np.ndarray) -> np.ndarray:
    last = len(steps) - 1 - np.argmax(curve[..., ::-1] == minimum[..., None], axis=-1)  # the minimum's last index
    back = (curve >= start[..., None]) & (np.arange(len(steps)) > last[..., None])
    time = np.where(back.any(axis=-1), steps[np.argmax(back, axis=-1)] - steps[0], np.nan)
    return np.where(np.isnan(start), np.nan, np.where(minimum >= start, 0.0, time))
