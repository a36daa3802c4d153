"""What a fine-tuning run lost and won: collapse, recovery, area and regret of its learning curve.

A learning curve is a vector of steps [T] and scores [..., T] at them. The score at index 0 is that of the pre-trained
policy, before the first online update; without it no drop can be told. Leading axes are runs. `random` is the score of
a random policy and `expert` that of a good one, in the units of the scores (D4RL's two reference scores).

    drawdown   D = max_t max(0, J_0 - J_t)
    relative   D / (J_0 - J_random), 1 where everything that was learned is lost; undefined where J_0 <= J_random
    kept       (min_{t>0} J_t - J_random) / (J_0 - J_random), what was left of it at worst; undefined likewise
    collapse   a relative drop above 1/2 within the first fifth of the steps
    regret     1 - mean of (J - J_random) / (J_expert - J_random)

Collapse here is the "policy collapse" of Luo, Kay, Grefenstette and Deisenroth 2023, "Finetuning from Offline
Reinforcement Learning: Challenges, Trade-offs and Practical Solutions": a severe deterioration at the beginning of
online learning. The two constants of the flag are a convention of this package. Regret is that of Nakamoto et al. 2023
("Cal-QL") and of CORL (Tarasov et al. 2023).

An undefined number is NaN, never an exception, so that one odd run does not cost the others; `summarise` says which
runs it could not use.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from paperloop.errors import UserError
from policy_finetune.measures.arguments import checked_reference, checked_scores, checked_steps

__all__ = [
    "COLLAPSE_THRESHOLD",
    "COLLAPSE_WINDOW",
    "CollapseMetrics",
    "area_under_curve",
    "collapse_metrics",
    "normalise",
    "regret",
]

#: Relative drop above which a run counts as collapsed.
COLLAPSE_THRESHOLD = 0.5


#: Fraction of the steps within which that drop must be seen.
COLLAPSE_WINDOW = 0.2


@dataclasses.dataclass(frozen=True)
class CollapseMetrics:
    """Metrics of curves (..., T). Each field is an array of shape (...); NaN says undefined.

    Attributes:
        start: J_0, the score before the first update.
        minimum: the lowest score after the start (J_0 itself where the curve is one point).
        final: the last score.
        best: the highest score, the start included.
        auc: area under the curve over the range of steps (trapezoid), that is the mean over steps.
        max_drawdown: max(0, start - minimum).
        relative_drop: max_drawdown / (start - random); NaN where start <= random.
        drop_defined: where start > random, bool.
        time_to_recover: steps from the first to the first evaluation after the minimum whose score is at least the
            start; 0 where the curve never fell below the start, NaN where it never came back. Where the minimum is
            attained several times the last time counts: before it the fall was not over.
        recovered: whether time_to_recover is a number, bool.
        collapsed: whether the relative drop is above the threshold within the window, bool; False where undefined.
        collapse_defined: where the drop is defined and the window holds an evaluation after the start, bool.
        min_over_start: minimum / start; NaN where start <= 0, as a ratio to a negative return has no meaning.
        kept: (minimum - random) / (start - random); NaN where start <= random. 1 says that nothing was lost, 0 that
            the policy fell to a random one's score; above 1 it never came down to the start, below 0 it got worse than
            random. Unlike min_over_start it does not change when a constant is added to all scores.
        regret: 1 - (auc - random) / (expert - random); NaN where no expert's score was given. The mean is over steps,
            so that a dense grid at the beginning does not count double; `regret` takes the plain mean.
    """

    start: np.ndarray
    minimum: np.ndarray
    final: np.ndarray
    best: np.ndarray
    auc: np.ndarray
    max_drawdown: np.ndarray
    relative_drop: np.ndarray
    drop_defined: np.ndarray
    time_to_recover: np.ndarray
    recovered: np.ndarray
    collapsed: np.ndarray
    collapse_defined: np.ndarray
    min_over_start: np.ndarray
    kept: np.ndarray
    regret: np.ndarray

    def as_dict(self) -> dict[str, Any]:
        """Return plain numbers, or nested lists where there are several runs; undefined values are None (JSON)."""

        def plain(value: Any) -> Any:
            if isinstance(value, list):
                return [plain(item) for item in value]
            return None if isinstance(value, float) and not np.isfinite(value) else value

        return {field.name: plain(getattr(self, field.name).tolist()) for field in dataclasses.fields(self)}


def collapse_metrics(
    steps: ArrayLike,
    scores: ArrayLike,
    *,
    random: ArrayLike = 0.0,
    expert: ArrayLike | None = None,
    threshold: float = COLLAPSE_THRESHOLD,
    window: float = COLLAPSE_WINDOW,
) -> CollapseMetrics:
    """Return the collapse metrics of learning curves.

    >>> collapse_metrics([0, 1, 2, 10], [100, 20, 60, 110]).as_dict()["relative_drop"]
    0.8

    Args:
        steps: (T,) of the evaluations, finite and strictly increasing.
        scores: (..., T); scores[..., 0] was taken before the first update. A curve with a NaN in it has NaN metrics.
        random: score of a random policy, broadcast against the leading shape.
        expert: score of an expert, likewise; needed for `regret` only.
        threshold: relative drop above which a curve counts as collapsed.
        window: fraction of the range of steps, in (0, 1], in which a collapse is looked for.

    Raises:
        UserError: the shapes do not fit, the steps do not increase, or an argument is out of range.
    """
    where, curve = checked_steps(steps), checked_scores(scores)
    if curve.shape[-1] != len(where):
        raise UserError(f"scores must have one value per step in their last axis: {curve.shape[-1]} for {len(where)}.")
    if not threshold >= 0:
        raise UserError(f"threshold is {threshold!r}; it must be at least 0.")
    if not 0 < window <= 1:
        raise UserError(f"window is {window!r}; it must be in (0, 1].")
    floor = checked_reference(random, "random", curve.shape[:-1])
    curve = np.where(np.isfinite(curve).all(axis=-1, keepdims=True), curve, np.nan)
    valid = ~np.isnan(curve[..., 0])
    start, final = curve[..., 0], curve[..., -1]
    later = curve[..., 1:] if len(where) > 1 else curve
    minimum, auc = later.min(axis=-1), area_under_curve(where, curve)
    drawdown = np.maximum(0.0, start - minimum)
    drop_defined = valid & (start > floor)
    scale = np.where(drop_defined, start - floor, np.nan)
    # A scale of a few denormals may overflow: infinitely more was lost than had been learned, and that is what it says.
    with np.errstate(over="ignore"):
        relative = drawdown / scale
        early = (where - where[0] <= window * (where[-1] - where[0])) & (np.arange(len(where)) > 0)
        seen = drop_defined & bool(early.any())
        lowest = np.where(early, curve, np.inf).min(axis=-1)
        collapsed = seen & (np.maximum(0.0, start - lowest) / scale > threshold)
        ratio = minimum / np.where(valid & (start > 0), start, np.nan)
        kept = (minimum - floor) / scale
    time = _time_to_recover(where, curve, start, minimum)
    missed = np.full(start.shape, np.nan)
    if expert is not None:
        missed = 1.0 - normalise(auc, floor, expert)
    return CollapseMetrics(
        start=start,
        minimum=minimum,
        final=final,
        best=curve.max(axis=-1),
        auc=auc,
        max_drawdown=drawdown,
        relative_drop=relative,
        drop_defined=drop_defined,
        time_to_recover=time,
        recovered=~np.isnan(time),
        collapsed=collapsed,
        collapse_defined=seen,
        min_over_start=ratio,
        kept=kept,
        regret=missed,
    )


def area_under_curve(steps: ArrayLike, scores: ArrayLike) -> np.ndarray:
    """Return the mean of scores (..., T) over the range of steps (T,) by the trapezoid rule, as an array (...).

    The score itself where the curve is one point.
    """
    where, curve = checked_steps(steps), checked_scores(scores)
    if len(where) == 1:
        return curve[..., 0]
    weights = np.zeros(len(where))  # of each evaluation: half of the way to its neighbours
    weights[:-1] += np.diff(where) / 2
    weights[1:] += np.diff(where) / 2
    return curve @ (weights / weights.sum())


def normalise(scores: ArrayLike, random: ArrayLike, expert: ArrayLike) -> np.ndarray:
    """Return (scores - random) / (expert - random): 0 is a random policy and 1 an expert (D4RL's score over 100).

    Raises:
        UserError: expert and random are equal or not finite.
    """
    low, high = np.asarray(random, float), np.asarray(expert, float)
    if not (np.isfinite(low).all() and np.isfinite(high).all() and (low != high).all()):
        raise UserError(f"random and expert must be finite and differ; got {random!r} and {expert!r}.")
    return (np.asarray(scores, float) - low) / (high - low)


def regret(scores: ArrayLike, *, random: ArrayLike = 0.0, expert: ArrayLike = 1.0) -> np.ndarray:
    """Return 1 - the plain mean over the last axis of the normalised scores.

    CORL and Cal-QL take the scores of the training episodes, noise and all, not those of evaluations.

    Args:
        scores: (..., T), one per training episode or evaluation.
        random: score of a random policy, broadcast against the leading shape.
        expert: score of an expert, likewise.
    """
    return 1.0 - normalise(checked_scores(scores).mean(axis=-1), random, expert)


def _time_to_recover(steps: np.ndarray, curve: np.ndarray, start: np.ndarray, minimum: np.ndarray) -> np.ndarray:
    last = len(steps) - 1 - np.argmax(curve[..., ::-1] == minimum[..., None], axis=-1)  # the minimum's last index
    back = (curve >= start[..., None]) & (np.arange(len(steps)) > last[..., None])
    time = np.where(back.any(axis=-1), steps[np.argmax(back, axis=-1)] - steps[0], np.nan)
    return np.where(np.isnan(start), np.nan, np.where(minimum >= start, 0.0, time))
