"""Statistics of a few runs on a few tasks: aggregates with bootstrap intervals, comparisons, profiles and tails.

Scores are a matrix of shape (runs, tasks): one row a seed, one column a task (an environment, a test maze, a data
set). A vector is several runs of one task. A mapping task -> vector holds tasks with different numbers of runs.

The bootstrap is stratified: every resample draws, within each task, as many runs as the task has, with replacement
(Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical Precipice"). Tasks are not
resampled, so an interval speaks about other seeds on the same tasks. It is a function of its `seed` argument alone.

With one run in every task each resample equals the data, so the interval is the point itself, [point, point]. That
says that nothing is known about the spread, not that there is none.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from paperloop.errors import UserError
from paperloop.seeds import check_seed

__all__ = [
    "STATISTICS",
    "Interval",
    "curve_interval",
    "cvar",
    "flat_scores",
    "iqm",
    "mean",
    "median",
    "optimality_gap",
    "performance_profile",
    "probability_of_improvement",
    "stratified_bootstrap",
]

Scores = ArrayLike | Mapping[str, ArrayLike]
#: Names that `stratified_bootstrap` and `curve_interval` resample in vectorised form.
STATISTICS = ("iqm", "mean", "median", "optimality_gap")

CELLS = 1 << 18  # of a block of resamples; the block and its temporaries stay in a core's cache


class Interval(NamedTuple):
    """An estimate and the two ends of its confidence interval: floats, or arrays of one shape."""

    point: Any
    low: Any
    high: Any

    def __str__(self) -> str:
        if np.ndim(self.point):
            return f"Interval of shape {np.shape(self.point)}"
        return f"{self.point:.3g} [{self.low:.3g}, {self.high:.3g}]"


class _Strata(NamedTuple):
    """Scores task after task."""

    values: np.ndarray  # (N,) float64
    sizes: tuple[int, ...]  # runs in each task; they sum to N
    names: tuple[str, ...] | None  # of the tasks, where the scores came as a mapping

    @property
    def columns(self) -> list[np.ndarray]:
        return np.split(self.values, np.cumsum(self.sizes)[:-1])


# Aggregates


def iqm(scores: Scores) -> float:
    """Return the interquartile mean: the mean of the middle half of all runs of all tasks together.

    With N scores, floor(N / 4) are cut at each end (`scipy.stats.trim_mean(scores, .25, axis=None)`), so with fewer
    than four scores it is the mean.

    Raises:
        UserError: a score is NaN or infinite, or there is none.
    """
    values = np.sort(_strata(scores).values)
    cut = len(values) // 4
    return float(values[cut : len(values) - cut].mean())


def mean(scores: Scores) -> float:
    """Return the mean over tasks of the mean over runs."""
    return float(np.mean([column.mean() for column in _strata(scores).columns]))


def median(scores: Scores) -> float:
    """Return the median over tasks of the mean over runs (not the median run)."""
    return float(np.median([column.mean() for column in _strata(scores).columns]))


def optimality_gap(scores: Scores, gamma: float = 1.0) -> float:
    """Return how far the runs fall short of `gamma` on average, where a score above `gamma` counts as `gamma`."""
    return float(gamma - np.minimum(_strata(scores).values, gamma).mean())


def flat_scores(scores: Scores) -> np.ndarray:
    """Return the scores of all runs of all tasks, checked, as a vector: task after task."""
    return _strata(scores).values


def stratified_bootstrap(
    scores: Scores,
    statistic: str | Callable[[Any], float] = "iqm",
    *,
    reps: int = 50_000,
    confidence: float = 0.95,
    seed: int = 0,
    gamma: float = 1.0,
) -> Interval:
    """Return a statistic of the scores and its stratified bootstrap interval (percentile).

    Args:
        scores: (runs, tasks), or (runs,), or a mapping task -> (runs,).
        statistic: one of `STATISTICS`, which are resampled in vectorised form; or a function of scores in the form
            given (matrix, vector or mapping), which `scipy.stats.bootstrap` calls once per resample.
        reps: resamples.
        confidence: coverage, in (0, 1).
        seed: of the resampling.
        gamma: of the optimality gap.

    Raises:
        UserError: a score is NaN or infinite (the message names its index), or an argument is out of range.
    """
    strata = _strata(scores)
    _check(reps, confidence)
    if isinstance(statistic, str):
        _check_statistic(statistic)
        point = _point(scores, statistic, gamma)
    else:
        point = float(statistic(scores))
    if max(strata.sizes) == 1:
        return Interval(point, point, point)
    if not isinstance(statistic, str):
        return _scipy_interval(strata, scores, statistic, point, reps, confidence, seed)
    rng = np.random.default_rng(check_seed(seed))
    compute = _resampled(strata, statistic, gamma)
    distribution = np.concatenate([compute(counts) for counts in _resamples(rng, strata.sizes, reps)])
    low, high = np.quantile(distribution, _tails(confidence))
    return Interval(point, float(low), float(high))


# Comparison, profile, tail


def probability_of_improvement(
    x: Scores, y: Scores, *, reps: int = 10_000, confidence: float = 0.95, seed: int = 0
) -> Interval:
    """Return P(X > Y): how probably a run of `x` beats a run of `y` on the same task, averaged over tasks.

    Per task it is the Mann-Whitney U statistic over the number of pairs; a tie counts half. The interval resamples
    the runs of `x` and of `y` independently (percentile).

    Args:
        x: (runs of x, tasks), or (runs of x,), or a mapping task -> (runs of x,).
        y: the same tasks; the number of runs may differ.
        reps: resamples.
        confidence: coverage, in (0, 1).
        seed: of the resampling.

    Raises:
        UserError: the tasks differ, or a score is NaN or infinite.
    """
    a, b = _strata(x, "x"), _strata(y, "y")
    _check(reps, confidence)
    if a.names is not None and b.names is not None and set(a.names) != set(b.names):
        odd = sorted(set(a.names) ^ set(b.names))
        raise UserError(f"x and y must have the same tasks; {', '.join(odd)} is in one of them only.")
    if len(a.sizes) != len(b.sizes) or (a.names is None) != (b.names is None):
        raise UserError(f"x and y must have the same tasks; x has {len(a.sizes)} and y has {len(b.sizes)}.")
    if a.names is not None and b.names is not None and a.names != b.names:
        b = _strata({name: dict(zip(b.names, b.columns, strict=True))[name] for name in a.names}, "y")
    wins = [  # per task (runs of x, runs of y): 1 where x wins, .5 at a tie
        (xs[:, None] > ys) + 0.5 * (xs[:, None] == ys) for xs, ys in zip(a.columns, b.columns, strict=True)
    ]
    point = float(np.mean([w.mean() for w in wins]))
    if max(a.sizes) == max(b.sizes) == 1:
        return Interval(point, point, point)
    rng = np.random.default_rng(check_seed(seed))
    starts_x, starts_y = np.cumsum((0, *a.sizes)), np.cumsum((0, *b.sizes))
    parts = []
    # Both sides are drawn in blocks of equal size, whichever has more runs.
    for block in _blocks(reps, max(len(a.values), len(b.values))):
        cx, cy = _counts(rng, a.sizes, block).astype(float), _counts(rng, b.sizes, block).astype(float)
        total = np.zeros(block)
        for t, w in enumerate(wins):  # a resample's U statistic is counts of x, times wins, times counts of y
            rows = w.T @ cx[starts_x[t] : starts_x[t + 1]]  # (runs of y, block)
            total += np.einsum("rb,rb->b", rows, cy[starts_y[t] : starts_y[t + 1]]) / w.size
        parts.append(total / len(wins))
    low, high = np.quantile(np.concatenate(parts), _tails(confidence))
    return Interval(point, float(low), float(high))


def performance_profile(
    scores: Scores, taus: ArrayLike, *, reps: int = 2_000, confidence: float = 0.95, seed: int = 0
) -> Interval:
    """Return, for every threshold in `taus`, the fraction of runs of all tasks that score above it.

    Args:
        scores: (runs, tasks), or (runs,), or a mapping task -> (runs,).
        taus: (T,) thresholds.
        reps: resamples.
        confidence: pointwise coverage, in (0, 1).
        seed: of the resampling.

    Returns:
        An interval whose three fields have shape (T,).
    """
    strata = _strata(scores)
    _check(reps, confidence)
    thresholds = np.asarray(taus, float)
    if thresholds.ndim != 1 or not thresholds.size:
        raise UserError(f"taus must be a vector of thresholds; got shape {thresholds.shape}.")
    above = (strata.values > thresholds[:, None]).astype(float)  # (T, N)
    rng = np.random.default_rng(check_seed(seed))
    parts = [above @ counts for counts in _resamples(rng, strata.sizes, reps)]
    low, high = np.quantile(np.concatenate(parts, axis=1), _tails(confidence), axis=1) / len(strata.values)
    return Interval(above.mean(axis=1), low, high)


def curve_interval(
    values: ArrayLike,
    statistic: str = "iqm",
    *,
    reps: int = 2_000,
    confidence: float = 0.95,
    seed: int = 0,
    gamma: float = 1.0,
) -> Interval:
    """Return a statistic at every step of a learning curve with its pointwise interval (sample efficiency).

    Whole curves are resampled: a run that is drawn is drawn at every step.

    Args:
        values: (runs, steps), or (runs, tasks, steps).
        statistic: one of `STATISTICS`.
        reps: resamples.
        confidence: pointwise coverage, in (0, 1).
        seed: of the resampling.
        gamma: of the optimality gap.

    Returns:
        An interval whose three fields have shape (steps,).
    """
    array = _finite(values, "values")
    if array.ndim == 2:
        array = array[:, None]
    if array.ndim != 3 or not array.size:
        raise UserError(f"values must have shape (runs, steps) or (runs, tasks, steps); got {np.shape(values)}.")
    _check(reps, confidence)
    _check_statistic(statistic)
    runs, tasks, steps = array.shape
    per_step = [_Strata(array[:, :, s].T.reshape(-1), (runs,) * tasks, None) for s in range(steps)]
    point = np.array([_point(array[:, :, s], statistic, gamma) for s in range(steps)])
    if runs == 1:
        return Interval(point, point.copy(), point.copy())
    rng = np.random.default_rng(check_seed(seed))
    computes = [_resampled(strata, statistic, gamma) for strata in per_step]
    parts = [np.stack([compute(counts) for compute in computes]) for counts in _resamples(rng, per_step[0].sizes, reps)]
    low, high = np.quantile(np.concatenate(parts, axis=1), _tails(confidence), axis=1)
    return Interval(point, low, high)


def cvar(values: ArrayLike, alpha: float, *, rank_by: ArrayLike | None = None) -> Any:
    """Return the mean of the worst fraction `alpha` of the values: the conditional value at risk of the lower tail.

    Where alpha * n is not a whole number, the next value counts with the remaining weight (Rockafellar and Uryasev
    2002). Choosing the worst values by the very measurement that is averaged biases the tail downwards; `rank_by`
    chooses by an independent one (Rutherford et al. 2024). Values that tie in it share their weight.

    Args:
        values: (n,), or (..., n) for several samples at once, such as one per seed.
        alpha: the fraction, in (0, 1]; 1 gives the mean.
        rank_by: of the shape of `values`; worst means lowest in it. By default `values` itself.

    Returns:
        A float, or an array of shape (...).

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


# The resampling


def _blocks(reps: int, width: int) -> Iterator[int]:
    """Split `reps` into blocks of about `CELLS` cells."""
    size = max(1, CELLS // width)
    for start in range(0, reps, size):
        yield min(size, reps - start)


def _resamples(rng: np.random.Generator, sizes: tuple[int, ...], reps: int) -> Iterator[np.ndarray]:
    """Yield blocks (N, block) of resamples, `reps` in all, as how often each run was drawn."""
    for block in _blocks(reps, sum(sizes)):
        yield _counts(rng, sizes, block)


def _counts(rng: np.random.Generator, sizes: tuple[int, ...], block: int) -> np.ndarray:
    """Draw `block` resamples; return (N, block) how often each run was drawn, task after task.

    A resample is stored as counts because every statistic here is a function of them, and because counting needs no
    gather and no sort: with runs in the leading axes all inner loops go over resamples, on small integers.
    """
    if len(set(sizes)) > 1:
        return np.concatenate([_counts(rng, (n,), block) for n in sizes])
    n, tasks = sizes[0], len(sizes)
    kind = np.uint8 if n < 256 else np.uint16 if n < 65536 else np.int64
    drawn = rng.integers(0, n, (n, tasks, block), dtype=kind)
    if n <= 64:  # n comparisons of bytes beat one scattered increment
        counts = np.empty((tasks, n, block), kind)
        for run in range(n):
            np.sum(drawn == run, axis=0, dtype=kind, out=counts[:, run])
        return counts.reshape(tasks * n, block)
    where = drawn.astype(np.intp)
    where += n * np.arange(tasks)[:, None]
    where *= block
    where += np.arange(block)
    return np.bincount(where.ravel(), minlength=tasks * n * block).reshape(tasks * n, block)


def _resampled(strata: _Strata, statistic: str, gamma: float) -> Callable[[np.ndarray], np.ndarray]:
    """Return the function from counts (N, block) to the statistic of each resample (block,)."""
    values, total = strata.values, len(strata.values)
    if statistic == "iqm":
        # In the order of the values, the running count says which places of the sorted resample a value takes; the
        # places left after cutting floor(N / 4) at each end are its weight.
        order = np.argsort(values, kind="stable")
        ordered, cut = values[order], total // 4
        kind = np.int16 if total < 2**15 else np.int64

        def trimmed(counts: np.ndarray) -> np.ndarray:
            places = np.cumsum(counts[order], axis=0, dtype=kind)
            np.clip(places, cut, total - cut, out=places)
            weights = np.diff(places, axis=0, prepend=kind(cut))
            return ordered @ weights / (total - 2 * cut)

        return trimmed
    if statistic == "optimality_gap":
        capped = np.minimum(values, gamma)
        return lambda counts: gamma - capped @ counts / total
    starts = np.cumsum((0, *strata.sizes))
    tasks = np.zeros((len(strata.sizes), total))  # (tasks, N): from counts to the means of the tasks
    for t, n in enumerate(strata.sizes):
        tasks[t, starts[t] : starts[t + 1]] = values[starts[t] : starts[t + 1]] / n
    if statistic == "mean":
        weights = tasks.mean(axis=0)
        return lambda counts: weights @ counts
    return lambda counts: np.median(tasks @ counts, axis=0)


def _scipy_interval(
    strata: _Strata,
    scores: Scores,
    statistic: Callable[[Any], float],
    point: float,
    reps: int,
    confidence: float,
    seed: int,
) -> Interval:
    """The interval of any statistic by `scipy.stats.bootstrap`, one call a resample."""
    from scipy.stats import bootstrap  # the import takes half a second, and the vectorised path does without

    two_axes = not isinstance(scores, Mapping) and np.ndim(scores) == 2

    def rebuilt(*columns: np.ndarray) -> float:
        if strata.names is not None:
            return statistic(dict(zip(strata.names, columns, strict=True)))
        return statistic(np.stack(columns, axis=1) if two_axes else columns[0])

    result = bootstrap(
        strata.columns, rebuilt, n_resamples=reps, confidence_level=confidence, method="percentile", vectorized=False,
        rng=np.random.default_rng(check_seed(seed)),
    )  # fmt: skip
    return Interval(point, float(result.confidence_interval.low), float(result.confidence_interval.high))


# Arguments


def _point(scores: Scores, statistic: str, gamma: float) -> float:
    if statistic == "optimality_gap":
        return optimality_gap(scores, gamma)
    return {"iqm": iqm, "mean": mean, "median": median}[statistic](scores)


def _strata(scores: Scores, name: str = "scores") -> _Strata:
    if isinstance(scores, Mapping):
        columns = {str(task): _finite(runs, f"{name}[{task!r}]") for task, runs in scores.items()}
        for task, column in columns.items():
            if column.ndim != 1 or not column.size:
                raise UserError(f"{name}[{task!r}] must be a vector with a score per run; got shape {column.shape}.")
        if not columns:
            raise UserError(f"{name} is empty: give at least one task.")
        return _Strata(np.concatenate([*columns.values()]), tuple(map(len, columns.values())), tuple(columns))
    array = _finite(scores, name)
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2 or not array.size:
        raise UserError(f"{name} must have shape (runs, tasks) or (runs,), with at least one run; got {array.shape}.")
    return _Strata(array.T.reshape(-1), (array.shape[0],) * array.shape[1], None)


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


def _check_statistic(statistic: str) -> None:
    if statistic not in STATISTICS:
        raise UserError(f"statistic is {statistic!r}; it must be one of {', '.join(STATISTICS)}, or a function.")


def _tails(confidence: float) -> tuple[float, float]:
    return (1 - confidence) / 2, (1 + confidence) / 2
