"""Metrics of a cycle as sums and counts, which stay exact means over many cycles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from jax import Array

from minimax_ued.learning.rollout import Trajectory
from minimax_ued.replay.scores import EpisodeStatistics, episode_sums

__all__ = ["Totals", "by_student", "episode_totals", "finish_metrics", "learned_totals", "level_totals", "mean_total"]

#: Name -> (sum, count), each f32[]: sums over cycles stay exact means, also where a cycle had nothing to count.
Totals = dict[str, tuple[Array, Array]]


def mean_total(name: str, values: Array, counted: Array | None = None) -> Totals:
    """Return name -> (sum, count) of the values that are counted, all where `counted` is None."""
    counted = jnp.ones(jnp.shape(values), bool) if counted is None else counted
    return {name: (jnp.where(counted, values, 0).sum(dtype=jnp.float32), counted.sum(dtype=jnp.float32))}


def finish_metrics(totals: Totals) -> dict[str, Array]:
    """Return name -> mean from totals stacked over cycles on axis 0; 0 where nothing was counted."""
    return {
        name: (total.sum(0) / jnp.maximum(count.sum(0), 1)).astype(jnp.float32)
        for name, (total, count) in totals.items()
    }


def by_student(totals: dict[str, Any], students: int) -> Totals:
    """Name what each student did, of totals [seeds, students]: student 0 plainly, the others with their number."""

    def named(i: int, name: str) -> str:
        return name if i == 0 else f"student{i}/{name}"

    return {
        named(i, name): (total[:, i], count[:, i]) for i in range(students) for name, (total, count) in totals.items()
    }


def episode_totals(trajectory: Trajectory, success_return: float) -> Totals:
    """Return, length and solve rate of the episodes that were finished in a rollout."""
    dones = trajectory.dones
    returns, lengths = episode_sums(trajectory.rewards, dones)
    episodes = dones.sum(dtype=jnp.float32)
    return {
        "episodes": (episodes, jnp.ones(())),
        **mean_total("return", returns, dones),
        **mean_total("solve_rate", returns > success_return, dones),
        **mean_total("episode_length", lengths, dones),
        **mean_total("value", trajectory.values),
    }


def learned_totals(seen: EpisodeStatistics, learn: Array) -> Totals:
    """Return and solve rate on levels that the students learn from, where others are played as well.

    Args:
        seen: what came of these levels.
        learn: bool[], whether the students learn in this cycle.
    """
    weight = seen.count * learn

    def total(name: str, mean: Array) -> Totals:
        return {f"learned/{name}": ((weight * mean).sum(dtype=jnp.float32), weight.sum(dtype=jnp.float32))}

    return total("return", seen.mean_return) | total("solve_rate", seen.success_rate)


def level_totals(metrics: Mapping[str, Array], learn: Array) -> Totals:
    """What the levels are like that the students learn from.

    Args:
        metrics: name -> [B], of these levels.
        learn: bool[], whether the students learn in this cycle.
    """
    return {
        key: total
        for name, value in metrics.items()
        for key, total in mean_total(f"level/{name}", value, jnp.broadcast_to(learn, value.shape)).items()
    }
