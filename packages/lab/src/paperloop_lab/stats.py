"""Statistics of a few runs on a few tasks: aggregates with bootstrap intervals, comparisons, curves and tails.

Scores are a matrix of shape (runs, tasks): one row a seed, one column a task (an environment, a test maze, a data
set). A vector is several runs of one task. A mapping task -> vector holds tasks with different numbers of runs.

The bootstrap is stratified: every resample draws, within each task, as many runs as the task has, with replacement
(Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical Precipice"). Tasks are not
resampled, so an interval speaks about other seeds on the same tasks. It is a function of its `seed` argument alone.

With one run in every task each resample equals the data, so the interval is the point itself, [point, point]. That
says that nothing is known about the spread, not that the spread is zero.

Inside, scores are columns: for each task an array (..., runs). A statistic takes columns and returns an array (...), so
that one call computes it for every resample, and for every step of a curve.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from paperloop.errors import UserError
from paperloop.seeds import check_seed

__all__ = [
    "STATISTICS", "Interval", "curve_interval", "cvar", "flat_scores", "iqm", "mean", "median", "optimality_gap",
    "probability_of_improvement", "stratified_bootstrap",
]  # fmt: skip

Scores = ArrayLike | Mapping[str, ArrayLike]
Columns = Sequence[np.ndarray]
#: Names that `stratified_bootstrap` and `curve_interval` know.
STATISTICS = ("iqm", "mean", "median", "optimality_gap")

CELLS = 1 << 17  # values of a block of resamples; the block and its temporaries stay in a core's cache


class Interval(NamedTuple):
    """An estimate and the two ends of its confidence interval: floats, or arrays of one shape."""

    point: Any
    low: Any
    high: Any

    def __str__(self) -> str:
        if np.ndim(self.point):
            return f"Interval of shape {np.shape(self.point)}"
        return f"{self.point:.3g} [{self.low:.3g}, {self.high:.3g}]"


# Aggregates


def iqm(scores: Scores) -> float:
    """Return the interquartile mean: the mean of the middle half of all runs of all tasks together.

    With N scores, floor(N / 4) are cut at each end (`scipy.stats.trim_mean(scores, .25, axis=None)`), so with fewer
    than four scores it is the mean.

    Raises:
        UserError: a score is NaN or infinite, or there is none.
    """
    return float(_iqm([*_columns(scores).values()]))


def mean(scores: Scores) -> float:
    """Return the mean over tasks of the mean over runs."""
    return float(_mean([*_columns(scores).values()]))


def median(scores: Scores) -> float:
    """Return the median over tasks of the mean over runs (not the median run)."""
    return float(_median([*_columns(scores).values()]))


def optimality_gap(scores: Scores, gamma: float = 1.0) -> float:
    """Return how far the runs fall short of `gamma` on average, where a score above `gamma` counts as `gamma`."""
    return float(_gap([*_columns(scores).values()], gamma))


def flat_scores(scores: Scores) -> np.ndarray:
    """Return the scores of all runs of all tasks, checked, as a vector: task after task."""
    return np.concatenate([*_columns(scores).values()])


def stratified_bootstrap(
    scores: Scores,
    statistic: str | Callable[[Any], float] = "iqm",
    *,
    reps: int = 50_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Return a statistic of the scores and its stratified bootstrap interval (percentile).

    Args:
        scores: (runs, tasks), or (runs,), or a mapping task -> (runs,).
        statistic: one of `STATISTICS`, each computed for many resamples at once; or a function of scores in the form
            given (matrix, vector or mapping), which is called once per resample.
        reps: resamples.
        confidence: coverage, in (0, 1).
        seed: of the resampling.

    Raises:
        UserError: a score is NaN or infinite (the message names its index), or an argument is out of range.
    """
    columns = _columns(scores)
    if isinstance(statistic, str):
        compute = _named(statistic)
        point = float(compute([*columns.values()]))
    else:
        compute, point = _one_by_one(statistic, scores, list(columns)), float(statistic(scores))
    interval = _interval(point, [*columns.values()], compute, reps, confidence, seed)
    return Interval(*map(float, interval))


# Comparison, curves, tail


def probability_of_improvement(
    x: Scores, y: Scores, *, reps: int = 10_000, confidence: float = 0.95, seed: int = 0
) -> Interval:
    """Return P(X > Y): how probably a run of `x` beats a run of `y` on the same task, averaged over tasks.

    Per task it is the Mann-Whitney U statistic over the number of pairs, which may be of different numbers of runs; a
    tie counts half. The interval resamples the runs of `x` and of `y` independently (percentile), as
    `stratified_bootstrap` does.

    Raises:
        UserError: the tasks differ, or a score is NaN or infinite.
    """
    a, b = _columns(x, "x"), _columns(y, "y")
    if odd := a.keys() ^ b.keys():
        named = isinstance(x, Mapping) and isinstance(y, Mapping)
        told = (
            f"{', '.join(map(str, sorted(odd)))} is in one of them only"
            if named
            else f"x has {len(a)} and y has {len(b)}"
        )
        raise UserError(f"x and y must have the same tasks; {told}.")

    def wins(columns: Columns) -> np.ndarray:
        pairs = [(p[..., :, None], q[..., None, :]) for p, q in zip(columns[: len(a)], columns[len(a) :], strict=True)]
        return np.mean([((p > q).mean((-2, -1)) + (p >= q).mean((-2, -1))) / 2 for p, q in pairs], axis=0)

    columns = [*a.values(), *(b[task] for task in a)]
    return Interval(*map(float, _interval(wins(columns), columns, wins, reps, confidence, seed)))


def curve_interval(
    values: ArrayLike,
    statistic: str = "iqm",
    *,
    reps: int = 2_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Return a statistic at every step of a learning curve with its pointwise interval (sample efficiency).

    Whole curves are resampled: a run that is drawn is drawn at every step. The mean of `scores[..., None] > thresholds`
    is a performance profile.

    Args:
        values: (runs, steps), or (runs, tasks, steps); the fields of the interval returned have shape (steps,).
        statistic: one of `STATISTICS`.
        reps: resamples.
        confidence: pointwise coverage, in (0, 1).
        seed: of the resampling.
    """
    array = _finite(values, "values")
    if array.ndim == 2:
        array = array[:, None]
    if array.ndim != 3 or not array.size:
        raise UserError(f"values must have shape (runs, steps) or (runs, tasks, steps); got {np.shape(values)}.")
    columns, compute = [*array.transpose(1, 2, 0)], _named(statistic)  # (steps, runs) each
    return _interval(compute(columns), columns, compute, reps, confidence, seed)


def cvar(values: ArrayLike, alpha: float, *, rank_by: ArrayLike | None = None) -> Any:
    """Return the mean of the worst fraction `alpha` of the values: the conditional value at risk of the lower tail.

    Where alpha * n is not a whole number, the next value counts with the remaining weight (Rockafellar and Uryasev
    2002). Choosing the worst values by the very measurement that is averaged biases the tail downwards; `rank_by`
    chooses by an independent one (Rutherford et al. 2024). Values that tie in it share their weight.

    The values are (n,), or (..., n) for several samples at once, such as one per seed. An `alpha` of 1 gives the mean.

    Raises:
        UserError: alpha is out of range, the shapes differ, or a value is NaN or infinite.
    """
    array = _finite(values, "values")
    ranks = array if rank_by is None else _finite(rank_by, "rank_by")
    if not 0 < alpha <= 1:
        raise UserError(f"alpha is {alpha!r}; it must be in (0, 1].")
    if array.ndim == 0 or not array.size:
        raise UserError(f"values must hold at least one value; got shape {array.shape}.")
    if ranks.shape != array.shape:
        raise UserError(f"rank_by has shape {ranks.shape}; it must have the shape of values, {array.shape}.")
    n = array.shape[-1]
    weights = np.clip(alpha * n - np.arange(n), 0, 1)  # of the worst value, the second worst ...
    tails = np.empty(array.shape[:-1])
    for index in np.ndindex(tails.shape):
        _, group, size = np.unique(ranks[index], return_inverse=True, return_counts=True)
        shared = np.add.reduceat(weights, np.cumsum(size) - size) / size
        tails[index] = shared[group] @ array[index] / (alpha * n)
    return tails if tails.ndim else float(tails)


# Statistics of columns


def _iqm(columns: Columns) -> np.ndarray:
    values = np.sort(np.concatenate(columns, axis=-1), axis=-1)
    cut = values.shape[-1] // 4
    return values[..., cut : values.shape[-1] - cut].mean(axis=-1)


def _mean(columns: Columns) -> np.ndarray:
    return np.mean([column.mean(axis=-1) for column in columns], axis=0)


def _median(columns: Columns) -> np.ndarray:
    return np.median([column.mean(axis=-1) for column in columns], axis=0)


def _gap(columns: Columns, gamma: float = 1.0) -> np.ndarray:
    return gamma - np.minimum(np.concatenate(columns, axis=-1), gamma).mean(axis=-1)


def _named(statistic: str) -> Callable[[Columns], np.ndarray]:
    if statistic not in STATISTICS:
        raise UserError(f"statistic is {statistic!r}; it must be one of {', '.join(STATISTICS)}, or a function.")
    return {"iqm": _iqm, "mean": _mean, "median": _median, "optimality_gap": _gap}[statistic]


def _one_by_one(function: Callable[[Any], float], scores: Scores, tasks: list[str]) -> Callable[[Columns], np.ndarray]:
    """Return a function of scores in the form given as one of columns, called for one resample after the other."""

    def form(one: Columns) -> Any:
        if isinstance(scores, Mapping):
            return dict(zip(tasks, one, strict=True))
        return np.stack(one, axis=1) if np.ndim(scores) == 2 else one[0]

    return lambda columns: np.array([function(form(one)) for one in zip(*columns, strict=True)], float)


# The bootstrap


def _interval(
    point: Any, columns: Columns, statistic: Callable[[Columns], np.ndarray], reps: int, confidence: float, seed: int
) -> Interval:
    """The percentile interval of a statistic of columns."""
    _check(reps, confidence)
    check_seed(seed)
    if all(column.shape[-1] == 1 for column in columns):
        return Interval(point, point, point)
    tails = (1 - confidence) / 2, (1 + confidence) / 2
    return Interval(point, *np.quantile(_resampled(columns, statistic, reps, seed), tails, axis=-1))


def _resampled(columns: Columns, statistic: Callable[[Columns], np.ndarray], reps: int, seed: int) -> np.ndarray:
    """Return a statistic of `reps` resamples, (..., reps): of each task (..., runs) as many runs as it has."""
    rng = np.random.default_rng(seed)
    block = max(1, CELLS // sum(column.size for column in columns))
    parts = []
    for start in range(0, reps, block):
        shape = min(block, reps - start)
        drawn = [rng.integers(0, column.shape[-1], (shape, column.shape[-1])) for column in columns]
        parts.append(statistic([column[..., index] for column, index in zip(columns, drawn, strict=True)]))
    return np.concatenate(parts, axis=-1)


# Arguments


def _columns(scores: Scores, name: str = "scores") -> dict[Any, np.ndarray]:
    """Return task -> its scores (runs,), float64; the tasks of a matrix are numbered."""
    if isinstance(scores, Mapping):
        columns = {str(task): _finite(runs, f"{name}[{task!r}]") for task, runs in scores.items()}
        for task, column in columns.items():
            if column.ndim != 1 or not column.size:
                raise UserError(f"{name}[{task!r}] must be a vector with a score per run; got shape {column.shape}.")
        if not columns:
            raise UserError(f"{name} is empty: give at least one task.")
        return columns
    array = _finite(scores, name)
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2 or not array.size:
        raise UserError(f"{name} must have shape (runs, tasks) or (runs,), with at least one run; got {array.shape}.")
    return dict(enumerate(array.T))


def _finite(values: ArrayLike, name: str) -> np.ndarray:
    try:
        array = np.asarray(values, dtype=float)
    except (TypeError, ValueError):
        raise UserError(f"{name} must be an array of numbers with rows of equal length.") from None
    bad = np.argwhere(~np.isfinite(array))
    if len(bad):
        index = ", ".join(map(str, bad[0]))
        more = f" ({len(bad)} such values)" if len(bad) > 1 else ""
        raise UserError(f"{name}[{index}] is {array[tuple(bad[0])]}{more}: remove or replace it first.")
    return array


def _check(reps: int, confidence: float) -> None:
    try:
        enough = operator.index(reps) >= 1
    except TypeError:
        enough = False
    if not enough:
        raise UserError(f"reps is {reps!r}; it must be a whole number from 1.")
    if not 0 < confidence < 1:
        raise UserError(f"confidence is {confidence!r}; it must be between 0 and 1, such as .95.")
