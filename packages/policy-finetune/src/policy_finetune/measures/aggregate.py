"""Learning curves of many runs together: aligned, and summarised with intervals over runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from paperloop.errors import UserError
from paperloop_lab.stats import Interval, flat_scores, stratified_bootstrap
from policy_finetune.measures.arguments import Curve, checked_curve
from policy_finetune.measures.collapse import (
    COLLAPSE_THRESHOLD,
    COLLAPSE_WINDOW,
    CollapseMetrics,
    collapse_metrics,
    normalise,
)

__all__ = ["AlignedCurves", "MetricSummary", "Summary", "align", "summarise"]

#: Metrics in the units of the scores; `summarise` normalises them where it is given an expert's score.
_SCORES = ("start", "minimum", "final", "best", "auc")


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
    checked = {name: checked_curve(name, curve) for name, curve in named.items()}
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
            # A NaN at a step that the others lack is still a failed run.
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


def _of_task(value: float | Mapping[str, float], task: str, name: str) -> float:
    if not isinstance(value, Mapping):
        return float(value)
    if task not in value:
        raise UserError(f"{name} has no score for task {task!r}; it has {_listed(sorted(value))}.")
    return float(value[task])


def _listed(names: Sequence[str], limit: int = 8) -> str:
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")
