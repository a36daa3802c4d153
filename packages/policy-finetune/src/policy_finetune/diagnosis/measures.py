"""What a dataset and a policy are like, in numbers: each measure a function of arrays.

N rows, Q queries. Observations are standardised before they come here, actions canonical, in [-1, 1].
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import t as student

from paperloop.errors import UserError
from paperloop_lab.stats import Interval

__all__ = ["TwoKinds", "action_spread", "difference_of_means", "mean_of", "nearest", "two_kinds"]

#: Cells of a block of distances: 32 MB.
CELLS = 1 << 22


def mean_of(groups: Sequence[np.ndarray]) -> Interval:
    """Return the mean over groups of the mean within each, with Student's interval.

    The groups (agents) are those at hand and no sample: the interval speaks of other episodes of the same agents. A
    group of one value has no spread and gives none to the interval.
    """
    return _estimate(*_moments(groups))


def difference_of_means(first: Sequence[np.ndarray], second: Sequence[np.ndarray]) -> Interval:
    """Return mean_of(first) - mean_of(second) with Welch's interval, which lets the variances differ."""
    x, x_variance, x_freedom = _moments(first)
    y, y_variance, y_freedom = _moments(second)
    variance = x_variance + y_variance
    freedom = variance**2 / (x_variance**2 / x_freedom + y_variance**2 / y_freedom) if variance > 0 else 1.0
    return _estimate(x - y, variance, freedom)


def _moments(groups: Sequence[np.ndarray]) -> tuple[float, float, float]:
    """Return the mean of means, its variance, and the degrees of freedom (Welch and Satterthwaite)."""
    groups = [np.asarray(group, np.float64).ravel() for group in groups]
    mean = float(np.mean([group.mean() for group in groups]))
    parts = [(group.var(ddof=1) / len(group), len(group) - 1) for group in groups if len(group) > 1]
    variance = sum(v for v, _ in parts)
    if variance <= 0:
        return mean, 0.0, 1.0
    return mean, variance / len(groups) ** 2, variance**2 / sum(v**2 / f for v, f in parts)


def _estimate(point: float, variance: float, freedom: float) -> Interval:
    half = float(student.ppf(0.975, freedom) * variance**0.5) if variance > 0 else 0.0
    return Interval(point, point - half, point + half)


def nearest(queries: np.ndarray, rows: np.ndarray, group: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the distance of some rows to the nearest row of another group, and that row, by trying them all.

    Distances are root mean squares over dimensions, so that they mean the same in any number of them.

    Args:
        queries: (Q,) the rows to start from.
        rows: (N, d).
        group: (N,) the group (episode) of each row.

    Returns:
        (Q,) distances, infinite where every row is of the query's group; (Q,) rows.
    """
    rows = np.asarray(rows, np.float64)
    square = np.square(rows).sum(1)
    distance, found = np.empty(len(queries)), np.empty(len(queries), np.int64)
    size = max(1, CELLS // len(rows))
    for first in range(0, len(queries), size):
        at = queries[first : first + size]
        between = square[at, None] + square - 2 * rows[at] @ rows.T
        between[group[at, None] == group] = np.inf
        part = slice(first, first + size)
        found[part] = between.argmin(1)
        distance[part] = np.take_along_axis(between, found[part, None], 1)[:, 0]
    return np.sqrt(np.maximum(distance, 0) / rows.shape[1]), found


def action_spread(observations: np.ndarray, actions: np.ndarray, group: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Return how much the data's actions vary where the state is the same: a standard deviation a dimension, (act,).

    The variance is half the mean squared difference between the action at a state and that at the nearest state of
    another episode, the nearest-neighbour estimate of the residual variance E[Var(a | s)] (Devroye, Györfi, Lugosi and
    Walk 2018). Where neighbours are far apart it also counts how the policy changes between them, so it errs upwards;
    any function's mean squared error on the actions is an upper bound too. Uniform actions have 3^-1/2 = 0.58.

    Args:
        observations: (N, obs) standardised.
        actions: (N, act) canonical.
        group: (N,) the episode of each row.
        queries: (Q,) the rows to start from.

    Raises:
        UserError: there is one group only.
    """
    distance, row = nearest(queries, observations, group)
    if not np.isfinite(distance).all():
        raise UserError("The spread of actions needs data of at least two episodes.")
    difference = np.asarray(actions, np.float64)[queries] - np.asarray(actions, np.float64)[row]
    return np.sqrt(0.5 * np.square(difference).mean(0))


class TwoKinds(NamedTuple):
    """Returns that fall into two groups: the mean of each, and the share of episodes in the lower one."""

    low: float
    high: float
    share: float


def two_kinds(returns: np.ndarray) -> TwoKinds | None:
    """Return the two groups that returns (E,) fall into, or None where they do not.

    They do where the best split explains at least nine tenths of the variance (0.64 for a normal distribution, 0.75 for
    a uniform one), with a tenth of the episodes in each group.
    """
    values = np.sort(np.asarray(returns, float))
    total, count = values.var(), len(values)
    fewest = max(1, -(-count // 10))
    if count < 4 or total <= 0:
        return None
    best, at = 0.0, 0
    for i in range(fewest, count - fewest + 1):
        between = i * (count - i) / count**2 * (values[i:].mean() - values[:i].mean()) ** 2
        if between > best:
            best, at = between, i
    if best < 0.9 * total:
        return None
    return TwoKinds(float(values[:at].mean()), float(values[at:].mean()), at / count)
