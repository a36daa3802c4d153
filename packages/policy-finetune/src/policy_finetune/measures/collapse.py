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
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from paperloop.errors import UserError
from paperloop_lab.stats import Interval, flat_scores, stratified_bootstrap

__all__ = [
    "COLLAPSE_THRESHOLD",
    "COLLAPSE_WINDOW",
    "AlignedCurves",
    "CollapseMetrics",
    "Curve",
    "MetricSummary",
    "Summary",
    "align",
    "area_under_curve",
    "collapse_metrics",
    "normalise",
    "regret",
    "summarise",
]

#: Relative drop above which a run counts as collapsed.
COLLAPSE_THRESHOLD = 0.5
#: Fraction of the steps within which that drop must be seen.
COLLAPSE_WINDOW = 0.2

#: Metrics in the units of the scores; `summarise` normalises them where it is given an expert's score.
_SCORES = ("start", "minimum", "final", "best", "auc")


class Curve(NamedTuple):
    """One learning curve: steps (T,), strictly increasing, and scores (T,), the first before any update."""

    steps: ArrayLike
    scores: ArrayLike


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
    where, curve = _steps(steps), _scores(scores)
    if curve.shape[-1] != len(where):
        raise UserError(f"scores must have one value per step in their last axis: {curve.shape[-1]} for {len(where)}.")
    if not threshold >= 0:
        raise UserError(f"threshold is {threshold!r}; it must be at least 0.")
    if not 0 < window <= 1:
        raise UserError(f"window is {window!r}; it must be in (0, 1].")
    floor = _reference(random, "random", curve.shape[:-1])
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
    where, curve = _steps(steps), _scores(scores)
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
    return 1.0 - normalise(_scores(scores).mean(axis=-1), random, expert)


# ------------------------------------------------------------------------------------------------------- aggregation


class AlignedCurves(NamedTuple):
    """Several curves on one grid.

    Attributes:
        steps: (T,), the common grid.
        scores: (runs, T).
        note: what was done to make the grids equal; empty where they were equal already.
    """

    steps: np.ndarray
    scores: np.ndarray
    note: str


def align(curves: Sequence[Curve] | Mapping[str, Curve], method: str = "common") -> AlignedCurves:
    """Put curves with unequal grids on one grid, by step and not by index.

    Metrics of different grids do not compare: the denser the grid, the lower the minimum that it sees.

    Args:
        curves: at least one.
        method: "common" keeps the steps that all curves have and changes no score. "linear" interpolates at all steps
            of all curves within the range that they share; an interpolated curve dips no deeper than its own points.

    Raises:
        UserError: a curve is malformed, or the curves have no two steps in common.
    """
    named = dict(curves) if isinstance(curves, Mapping) else {str(i): curve for i, curve in enumerate(curves)}
    if not named:
        raise UserError("There is no curve to align: give at least one.")
    if method not in ("common", "linear"):
        raise UserError(f'method is {method!r}; it must be "common" or "linear".')
    checked = {name: _curve(name, curve) for name, curve in named.items()}
    grids = [steps for steps, _ in checked.values()]
    if all(np.array_equal(grid, grids[0]) for grid in grids):
        return AlignedCurves(grids[0], np.stack([scores for _, scores in checked.values()]), "")
    lengths = ", ".join(map(str, sorted({len(grid) for grid in grids})))
    grid: NDArray[np.float64] = grids[0]
    if method == "common":
        for other in grids[1:]:
            grid = np.intersect1d(grid, other)
        if len(grid) < 2 or any(grid[0] != other[0] for other in grids):
            raise UserError(
                f"The curves {_listed(list(named))} do not share the first and one more step, so they cannot be "
                'compared step by step; evaluate them on one grid, or use method "linear".'
            )
        rows = [scores[np.searchsorted(steps, grid)] for steps, scores in checked.values()]
        note = f"unequal grids ({lengths} steps): kept the {len(grid)} steps that all {len(grids)} curves have"
    else:
        low, high = max(steps[0] for steps in grids), min(steps[-1] for steps in grids)
        every = np.unique(np.concatenate(grids))
        grid = every[(every >= low) & (every <= high)]
        if len(grid) < 2 or any(steps[0] != low for steps in grids):
            raise UserError(f"The curves {_listed(list(named))} do not begin at the same step or do not overlap.")
        rows = [np.interp(grid, steps, scores) for steps, scores in checked.values()]
        note = f"unequal grids ({lengths} steps): interpolated at the {len(grid)} steps from {low:g} to {high:g}"
    return AlignedCurves(grid, np.stack(rows), note)


class MetricSummary(NamedTuple):
    """One metric over runs and tasks.

    Attributes:
        iqm: interquartile mean with its interval; NaN where no run has the metric.
        median: the median run with its interval.
        mean: of all runs (the fraction of runs, for a flag).
        runs: how many runs have the metric.
        undefined: names "task/run" of those that have not, such as "never recovered".
    """

    iqm: Interval
    median: Interval
    mean: float
    runs: int
    undefined: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Summary:
    """Collapse metrics of several runs of several tasks.

    Attributes:
        metrics: metric -> its aggregate. Flags ("collapsed", "recovered") count as 0 and 1.
        runs: "task/run" -> its metrics.
        nan_curves: names "task/run" of the curves that hold NaN or infinity and are in no aggregate. They are runs that
            failed; a good aggregate of the others does not excuse them.
        notes: task -> what was done to unequal grids.
    """

    metrics: dict[str, MetricSummary]
    runs: dict[str, CollapseMetrics]
    nan_curves: tuple[str, ...]
    notes: dict[str, str]

    def __str__(self) -> str:
        rows = [f"{'metric':<16} {'IQM':<24} {'median':<24} runs"]
        for name, item in self.metrics.items():
            rows.append(f"{name:<16} {item.iqm!s:<24} {item.median!s:<24} {item.runs}")
        rows += [f"{task}: {note}" for task, note in self.notes.items()]
        if self.nan_curves:
            rows.append(f"left out, with NaN or infinite scores: {_listed(list(self.nan_curves))}")
        return "\n".join(rows)


def summarise(
    curves: Mapping[str, Mapping[str, Curve]],
    *,
    random: float | Mapping[str, float] = 0.0,
    expert: float | Mapping[str, float] | None = None,
    threshold: float = COLLAPSE_THRESHOLD,
    window: float = COLLAPSE_WINDOW,
    method: str = "common",
    reps: int = 2_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Summary:
    """Return the collapse metrics of runs of tasks: interquartile mean and median with stratified bootstrap intervals.

    The curves of one task are aligned first (`align`), so that all its metrics are of the same steps. A metric that is
    undefined in a run is aggregated over the runs that have it, and the summary names the others.

    Args:
        curves: task -> run -> curve.
        random: score of a random policy, of all tasks or task by task.
        expert: score of an expert, likewise. Where it is given, start, minimum, final, best, auc and max_drawdown are
            normalised by the two, which several tasks need to have one unit; min_over_start stays that of raw returns.
        threshold: see `collapse_metrics`.
        window: see `collapse_metrics`.
        method: see `align`.
        reps: bootstrap resamples.
        confidence: coverage of the intervals.
        seed: of the resampling.

    Raises:
        UserError: there is no run, a task lacks a reference score, or the curves of a task cannot be aligned.
    """
    if not curves or not all(curves.values()):
        raise UserError("There is nothing to summarise: give at least one task, and at least one curve for each.")
    runs: dict[str, CollapseMetrics] = {}
    values: dict[str, dict[str, dict[str, float]]] = {}  # metric -> task -> run -> value
    nan_curves: list[str] = []
    notes: dict[str, str] = {}
    for task, named in curves.items():
        aligned = align({f"{task}/{run}": curve for run, curve in named.items()}, method)
        if aligned.note:
            notes[task] = aligned.note
        low, high = _of_task(random, task, "random"), None if expert is None else _of_task(expert, task, "expert")
        for (run, given), scores in zip(named.items(), aligned.scores, strict=True):
            name = f"{task}/{run}"
            # A NaN at a step that the others lack is a failed run all the same.
            bad = not np.isfinite(np.asarray(given[1], float)).all()
            scores = np.full_like(scores, np.nan) if bad else scores
            item = collapse_metrics(aligned.steps, scores, random=low, expert=high, threshold=threshold, window=window)
            runs[name] = item
            if bad:
                nan_curves.append(name)
                continue
            for metric, value in _values(item, low, high).items():
                values.setdefault(metric, {}).setdefault(task, {})[name] = value
    metrics = {
        metric: _aggregate(tasks, reps=reps, confidence=confidence, seed=seed) for metric, tasks in values.items()
    }
    return Summary(metrics, runs, tuple(nan_curves), notes)


def _values(item: CollapseMetrics, low: float, high: float | None) -> dict[str, float]:
    """The numbers of one run that are aggregated."""
    out = {field.name: float(getattr(item, field.name)) for field in dataclasses.fields(item)}
    if high is not None:
        out |= {name: float(normalise(out[name], low, high)) for name in _SCORES}
        out["max_drawdown"] /= high - low
    if not item.collapse_defined:
        out["collapsed"] = np.nan
    if high is None:
        del out["regret"]
    del out["drop_defined"], out["collapse_defined"]
    return out


def _aggregate(tasks: dict[str, dict[str, float]], *, reps: int, confidence: float, seed: int) -> MetricSummary:
    # An infinite relative drop is not a number to average; it is undefined as well.
    undefined = tuple(name for runs in tasks.values() for name, value in runs.items() if not np.isfinite(value))
    kept = {task: [v for v in runs.values() if np.isfinite(v)] for task, runs in tasks.items()}
    kept = {task: column for task, column in kept.items() if column}
    if not kept:
        nothing = Interval(np.nan, np.nan, np.nan)
        return MetricSummary(nothing, nothing, np.nan, 0, undefined)

    # SciPy, which resamples a function of the scores, refuses a task of one run; it is the same in every resample.
    single = [value for column in kept.values() if len(column) == 1 for value in column]
    varied = {task: column for task, column in kept.items() if len(column) > 1}

    def median_run(scores: Any) -> float:
        return float(np.median(np.concatenate([flat_scores(scores), single])))

    iqm = stratified_bootstrap(kept, "iqm", reps=reps, confidence=confidence, seed=seed)
    if varied:
        median = stratified_bootstrap(varied, median_run, reps=reps, confidence=confidence, seed=seed)
    else:
        median = Interval(*[float(np.median(single))] * 3)
    every = np.concatenate([*kept.values()])
    return MetricSummary(iqm, median, float(every.mean()), len(every), undefined)


# --------------------------------------------------------------------------------------------------------- arguments


def _time_to_recover(steps: np.ndarray, curve: np.ndarray, start: np.ndarray, minimum: np.ndarray) -> np.ndarray:
    last = len(steps) - 1 - np.argmax(curve[..., ::-1] == minimum[..., None], axis=-1)  # the minimum's last index
    back = (curve >= start[..., None]) & (np.arange(len(steps)) > last[..., None])
    time = np.where(back.any(axis=-1), steps[np.argmax(back, axis=-1)] - steps[0], np.nan)
    return np.where(np.isnan(start), np.nan, np.where(minimum >= start, 0.0, time))


def _steps(steps: ArrayLike) -> NDArray[np.float64]:
    array = _numbers(steps, "steps")
    if array.ndim != 1 or not array.size:
        raise UserError(f"steps must be a vector with one entry per evaluation; got shape {array.shape}.")
    if not np.isfinite(array).all() or not (np.diff(array) > 0).all():
        raise UserError("steps must be finite and strictly increasing.")
    return array


def _scores(scores: ArrayLike) -> NDArray[np.float64]:
    array = _numbers(scores, "scores")
    if array.ndim == 0 or not array.shape[-1]:
        raise UserError(f"scores must have shape (..., T) with T at least 1; got {array.shape}.")
    return array


def _curve(name: str, curve: Curve) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    try:
        steps, scores = _steps(curve[0]), _scores(curve[1])
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


def _reference(value: ArrayLike, name: str, shape: tuple[int, ...]) -> np.ndarray:
    array = _numbers(value, name)
    if not np.isfinite(array).all():
        raise UserError(f"{name} is {value!r}; it must be finite.")
    try:
        return np.broadcast_to(array, shape)
    except ValueError:
        raise UserError(f"{name} has shape {array.shape}; it must broadcast to that of the runs, {shape}.") from None


def _of_task(value: float | Mapping[str, float], task: str, name: str) -> float:
    if not isinstance(value, Mapping):
        return float(value)
    if task not in value:
        raise UserError(f"{name} has no score for task {task!r}; it has {_listed(sorted(value))}.")
    return float(value[task])


def _listed(names: Sequence[str], limit: int = 8) -> str:
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")
