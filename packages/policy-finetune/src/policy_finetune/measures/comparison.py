"""Means over agents, and differences between agents in pairs, with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from paperloop.errors import UserError
from paperloop_lab.stats import Interval, stratified_bootstrap

__all__ = ["Estimate", "mean_return", "paired_difference"]

#: Resamples of an interval.
REPS = 10_000


class Estimate(NamedTuple):
    """A mean with its interval, and what was resampled for it: "agents", or of a single agent its "episodes"."""

    interval: Interval
    over: str


def mean_return(returns: np.ndarray, *, confidence: float = 0.95, seed: int = 0) -> Estimate:
    """Return the mean return of agents (A, E) with its interval over agents; of one agent, over its episodes."""
    one = len(returns) == 1
    values = returns[0] if one else returns.mean(axis=1)
    interval = stratified_bootstrap(values, "mean", reps=REPS, confidence=confidence, seed=seed)
    return Estimate(interval, "episodes" if one else "agents")


def paired_difference(
    before: np.ndarray, after: np.ndarray, starts: ArrayLike, *, confidence: float = 0.95, seed: int = 0
) -> Estimate:
    """Return the mean difference between agents and those that they are paired with.

    Agents with the same partner are not independent: partners are resampled first, then the agents of each. With one
    partner in all, only its agents are resampled; with one pair, the episodes, which began in the same states.

    Args:
        before: (P, E) returns.
        after: (A, E) returns.
        starts: (A,) the partner of each agent, an index into `before`.
        confidence: coverage of the interval.
        seed: of the resampling.

    Raises:
        UserError: the shapes do not fit together.
    """
    partners = np.asarray(starts, int)
    if before.shape[1:] != after.shape[1:] or partners.shape != after.shape[:1] or partners.max() >= len(before):
        raise UserError(
            f"Returns {before.shape} and {after.shape} with {partners.shape} partners are not pairs: give a partner "
            "for each agent, and equally many episodes."
        )
    if len(partners) == 1:
        return mean_return(after - before[partners], confidence=confidence, seed=seed)
    difference = after.mean(axis=1) - before.mean(axis=1)[partners]
    groups = [difference[partners == partner] for partner in np.unique(partners)]
    point = float(np.mean([group.mean() for group in groups]))
    tails = (1 - confidence) / 2, (1 + confidence) / 2
    low, high = np.quantile(_resampled(groups, np.random.default_rng(seed)), tails)
    return Estimate(Interval(point, float(low), float(high)), "agents")


def _resampled(groups: Sequence[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """Return (REPS,) means of resampled groups of resampled members."""
    total = np.zeros(REPS)
    for _ in groups:
        chosen = rng.integers(0, len(groups), REPS)
        for number, group in enumerate(groups):
            here = np.flatnonzero(chosen == number)
            total[here] += group[rng.integers(0, len(group), (len(here), len(group)))].mean(axis=1)
    return total / len(groups)
