"""Means over agents, and differences between agents in pairs, with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from paperloop.errors import UserError
from paperloop_lab.stats import Interval, stratified_bootstrap
from policy_finetune.measures.collapse import CollapseMetrics

__all__ = ["Estimate", "clustered_interval", "collapse_intervals", "mean_return", "paired_difference"]

#: Resamples of an interval.
REPS = 4000


class Estimate(NamedTuple):
    """A mean with its interval, and what was resampled for it: "agents", or of a single agent its "episodes"."""

    interval: Interval
    over: str


def clustered_interval(
    groups: Sequence[np.ndarray], statistic: Callable[[Any], Any] = np.mean, *, reps: int = REPS, seed: int = 0
) -> Interval:
    """Return a statistic of all values with its 95 % bootstrap interval; NaN without values.

    Agents that share a pre-trained agent are not independent runs: whole groups are drawn with replacement first, then
    agents within each. With fewer than about ten groups even that interval is too narrow.

    Args:
        groups: the values of each group.
        statistic: of all values together.
        reps: resamples.
        seed: of the resampling.
    """
    if not groups:
        return Interval(np.nan, np.nan, np.nan)
    rng = np.random.default_rng(seed)
    drawn = np.empty(reps)
    for rep in range(reps):
        chosen = [groups[i] for i in rng.integers(0, len(groups), len(groups))]
        drawn[rep] = statistic(np.concatenate([group[rng.integers(0, len(group), len(group))] for group in chosen]))
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Interval(float(statistic(np.concatenate(groups))), float(low), float(high))


#: What is said of an arm: all of `CollapseMetrics` that is a number.
MEASURES = ("start", "min_over_start", "kept", "collapsed", "time_to_recover", "auc", "final")


def collapse_intervals(
    measured: Sequence[CollapseMetrics], starts: Sequence[Hashable], names: Sequence[str] = MEASURES
) -> dict[str, Interval]:
    """Return medians over agents with their intervals (`clustered_interval`), by measure; of `collapsed` the share.

    Agents of which a measure is undefined do not count for it.

    Args:
        measured: of each agent.
        starts: the pre-trained agent that each went out from.
        names: of the measures.
    """
    out = {}
    for name in names:
        clusters: dict[Hashable, list[float]] = {}
        for one, start in zip(measured, starts, strict=True):
            undefined = name == "collapsed" and not one.collapse_defined
            value = np.nan if undefined else float(getattr(one, name))
            if np.isfinite(value):
                clusters.setdefault(start, []).append(value)
        groups = [np.array(group) for group in clusters.values()]
        out[name] = clustered_interval(groups, np.mean if name == "collapsed" else np.median)
    return out


def mean_return(returns: np.ndarray) -> Estimate:
    """Return the mean return of agents (A, E) with its interval over agents; of one agent, over its episodes."""
    one = len(returns) == 1
    values = returns[0] if one else returns.mean(axis=1)
    return Estimate(stratified_bootstrap(values, "mean", reps=REPS), "episodes" if one else "agents")


def paired_difference(before: np.ndarray, after: np.ndarray, starts: ArrayLike) -> Estimate:
    """Return the mean difference between agents and those that they are paired with.

    Agents with the same partner are not independent, which the interval knows (`clustered_interval`). With one pair in
    all, the episodes are resampled, which began in the same states.

    Args:
        before: (P, E) returns.
        after: (A, E) returns.
        starts: (A,) the partner of each agent, an index into `before`.

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
        return mean_return(after - before[partners])
    difference = after.mean(axis=1) - before.mean(axis=1)[partners]
    return Estimate(clustered_interval([difference[partners == p] for p in np.unique(partners)]), "agents")
