"""What a dataset and a policy are like, in numbers: NumPy alone, each measure a function of arrays.

N rows, Q queries, d dimensions. Observations are standardised before they come here, actions canonical, in [-1, 1].
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import t as student

from paperloop.errors import UserError

__all__ = [
    "Estimate",
    "Optimism",
    "TwoKinds",
    "action_spread",
    "beyond_the_data",
    "difference_of_means",
    "effective_rank",
    "mean_of",
    "nearest",
    "q_optimism",
    "two_kinds",
    "vendi_score",
]

#: Uniform actions in [-1, 1] have this standard deviation: the widest that `action_spread` can sensibly be.
UNIFORM_SPREAD = 3**-0.5

#: A step counts for `q_optimism` where the critic's value at the end of its episode weighs at most this much.
LARGEST_TAIL = 0.5

#: Cells of a block of distances: 32 MB.
CELLS = 1 << 22


class Estimate(NamedTuple):
    """A mean with the two ends of its 95 % interval."""

    point: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.point:.1f} [{self.low:.1f}, {self.high:.1f}]"


def mean_of(groups: Sequence[np.ndarray], confidence: float = 0.95) -> Estimate:
    """Return the mean over groups of the mean within each, with Student's interval.

    The groups (agents) are those at hand and no sample: the interval speaks of other episodes of the same agents.

    Args:
        groups: the values of each group; a group of one value has no spread and gives none to the interval.
        confidence: coverage.
    """
    point, variance, freedom = _moments(groups)
    half = _half(variance, freedom, confidence)
    return Estimate(point, point - half, point + half)


def difference_of_means(
    first: Sequence[np.ndarray], second: Sequence[np.ndarray], confidence: float = 0.95
) -> Estimate:
    """Return mean_of(first) - mean_of(second) with Welch's interval, which lets the variances differ."""
    x, x_variance, x_freedom = _moments(first)
    y, y_variance, y_freedom = _moments(second)
    variance = x_variance + y_variance
    freedom = variance**2 / (x_variance**2 / x_freedom + y_variance**2 / y_freedom) if variance > 0 else 1.0
    half = _half(variance, freedom, confidence)
    return Estimate(x - y, x - y - half, x - y + half)


def _moments(groups: Sequence[np.ndarray]) -> tuple[float, float, float]:
    """Return the mean of means, its variance, and the degrees of freedom (Welch and Satterthwaite)."""
    groups = [np.asarray(group, np.float64).ravel() for group in groups]
    if not groups or not all(map(len, groups)):
        raise UserError("A mean needs at least one value in each group.")
    mean = float(np.mean([group.mean() for group in groups]))
    parts = [(group.var(ddof=1) / len(group), len(group) - 1) for group in groups if len(group) > 1]
    variance = sum(v for v, _ in parts)
    if variance <= 0:
        return mean, 0.0, 1.0
    freedom = variance**2 / sum(v**2 / f for v, f in parts)
    return mean, variance / len(groups) ** 2, freedom


def _half(variance: float, freedom: float, confidence: float) -> float:
    return float(student.ppf((1 + confidence) / 2, freedom) * variance**0.5) if variance > 0 else 0.0


def effective_rank(rows: np.ndarray) -> float:
    """Return exp of the entropy of the normalised singular values (Roy and Vetterli 2007), from 1 to d.

    Args:
        rows: (N, d), centred and standardised; a dimension that does not vary counts nothing.
    """
    values = np.linalg.svd(np.asarray(rows, np.float64), compute_uv=False)
    total = values.sum()
    if total <= 0:
        return 1.0
    p = values[values > 0] / total
    return float(np.exp(-(p * np.log(p)).sum()))


def vendi_score(features: np.ndarray) -> float:
    """Return how many different items there effectively are: the Vendi score (Friedman and Dieng 2023), from 1 to n.

    It is exp of the entropy of the eigenvalues of K/n; here K_ij = exp(-|x_i - x_j|² / 2d), 1 on the diagonal.

    Args:
        features: (n, d), in units in which a difference of 1 in every dimension is a difference.
    """
    x = np.asarray(features, np.float64)
    square = np.square(x).sum(1)
    distance = np.maximum(square[:, None] + square - 2 * x @ x.T, 0) / x.shape[1]
    values = np.linalg.eigvalsh(np.exp(-distance / 2) / len(x))
    p = values[values > 1e-12]
    return float(np.exp(-(p * np.log(p)).sum()))


def nearest(
    queries: np.ndarray,
    reference: np.ndarray,
    query_group: np.ndarray | None = None,
    reference_group: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the distance of each query to the nearest reference row, and that row, by trying them all.

    Distances are root mean squares over dimensions, so that they mean the same in any number of them.

    Args:
        queries: (Q, d).
        reference: (N, d).
        query_group: (Q,), with `reference_group`: rows of a query's own group (episode) do not count.
        reference_group: (N,).

    Returns:
        (Q,) distances, infinite where every row is of the query's group; (Q,) rows.
    """
    queries, reference = np.asarray(queries, np.float64), np.asarray(reference, np.float64)
    square = np.square(reference).sum(1)
    distance, row = np.empty(len(queries)), np.empty(len(queries), np.int64)
    size = max(1, CELLS // len(reference))
    for first in range(0, len(queries), size):
        part = slice(first, first + size)
        q = queries[part]
        between = np.square(q).sum(1)[:, None] + square - 2 * q @ reference.T
        if query_group is not None and reference_group is not None:
            between[query_group[part, None] == reference_group] = np.inf
        row[part] = between.argmin(1)
        distance[part] = np.take_along_axis(between, row[part, None], 1)[:, 0]
    return np.sqrt(np.maximum(distance, 0) / queries.shape[1]), row


def action_spread(observations: np.ndarray, actions: np.ndarray, group: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Return how much the data's actions vary where the state is the same: a standard deviation a dimension, (act,).

    The variance is half the mean squared difference between the action at a state and that at the nearest state of
    another episode, the nearest-neighbour estimate of the residual variance E[Var(a | s)] (Devroye, Györfi, Lugosi and
    Walk 2018). Where neighbours are far apart it also counts how the policy changes between them, so it errs upwards;
    any function's mean squared error on the actions is an upper bound too.

    Args:
        observations: (N, obs) standardised.
        actions: (N, act) canonical.
        group: (N,) the episode of each row.
        queries: (Q,) the rows to start from.

    Raises:
        UserError: there is one group only.
    """
    distance, row = nearest(observations[queries], observations, group[queries], group)
    if not np.isfinite(distance).all():
        raise UserError("The spread of actions needs data of at least two episodes.")
    difference = np.asarray(actions, np.float64)[queries] - np.asarray(actions, np.float64)[row]
    return np.sqrt(0.5 * np.square(difference).mean(0))


def beyond_the_data(own: np.ndarray, visited: np.ndarray, level: float = 0.95) -> float:
    """Return the share of visited states that lie farther from the data than `level` of the data's states.

    It is 1 - level for a policy that visits what the data hold (nearest-neighbour novelty detection, with the
    threshold that Sun et al. 2022, arXiv 2204.06507, use).

    Args:
        own: distances of the data's states to states of other episodes.
        visited: distances of the visited states to the data.
        level: the quantile of `own` that is the threshold.
    """
    return float((visited > np.quantile(own, level)).mean())


class Optimism(NamedTuple):
    """What critics promise against what came of it.

    Attributes:
        bias: mean of Q(s, π(s)) minus the discounted return that the policy then got ...
        relative: ... the same divided by `scale`.
        spread: standard deviation of that difference over steps, divided by `scale`.
        scale: the larger of |mean| and standard deviation of the returns.
        steps: on how many steps it rests.
    """

    bias: float
    relative: float
    spread: float
    scale: float
    steps: int


def q_optimism(
    episodes: Sequence[tuple[np.ndarray, np.ndarray, bool]], discount: float
) -> tuple[Optimism | None, np.ndarray, np.ndarray]:
    """Compare critics with the returns of the policy that they judge.

    The mean and spread of Q - Q^π divided by |E Q^π| are REDQ's measures of the bias (Chen et al. 2021, section 4);
    here the divisor is not smaller than the standard deviation, so that tasks whose returns cross 0 have one too.

    An episode that a time limit cut is completed by the critic's own value: G = Σ γ^k r + γ^n Q(s_n, π(s_n)). With a
    constant bias b that hides γ^n b of it, so the difference is divided by 1 - γ^n; steps with γ^n above
    1/2 are left out.

    Args:
        episodes: (rewards (T,), values (T + 1,), terminated): the critics' values of the policy's actions at every
            state including the last one.
        discount: γ.

    Returns:
        The optimism, or None where no step is far enough from a time limit; and for those steps (S,) the returns that
        came and (S,) the values that were promised.
    """
    returns, promised, difference = [], [], []
    for rewards, values, terminated in episodes:
        rewards, values = np.asarray(rewards, np.float64), np.asarray(values, np.float64)
        to_go = np.empty(len(rewards))
        running = 0.0 if terminated else values[-1]
        for step in range(len(rewards) - 1, -1, -1):
            running = to_go[step] = rewards[step] + discount * running
        weight = np.zeros(len(rewards)) if terminated else discount ** np.arange(len(rewards), 0.0, -1)
        good = weight <= LARGEST_TAIL
        error = (values[:-1] - to_go)[good] / (1 - weight[good])
        returns.append(values[:-1][good] - error)
        promised.append(values[:-1][good])
        difference.append(error)
    g, q, error = (np.concatenate(parts) if parts else np.zeros(0) for parts in (returns, promised, difference))
    if not len(g):
        return None, g, q
    scale = max(abs(float(g.mean())), float(g.std()), 1e-12)
    bias = float(error.mean())
    return Optimism(bias, bias / scale, float(error.std()) / scale, scale, len(g)), g, q


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
