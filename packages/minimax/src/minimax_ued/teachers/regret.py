"""What a teacher is rewarded by: numbers made of the returns of several students on the levels it built.

Student 0 is the protagonist, student 1 the antagonist. R are undiscounted returns of finished episodes, e numbers the
episodes of one student on one level. Every function takes the mean and the maximal return of each student on each
level, f32[students, B], and returns f32[B].
"""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
from jax import Array

from minimax_ued.replay.scores import EpisodeStatistics
from minimax_ued.support.registry import look_up

__all__ = ["OBJECTIVES", "population_regret", "relative_regret", "teacher_rewards"]


def relative_regret(mean: Array, best: Array) -> Array:
    """max(0, max_e R^antagonist - mean_e R^protagonist) (Dennis et al. 2020, arXiv 2012.02096, section 4).

    The maximum over the antagonist's episodes is the choice of the implementations. In Jiang et al. 2023 (minimax) it
    starts at 0, here it is the maximum itself: the same wherever returns are not negative, as in mazes.
    """
    return jnp.maximum(best[1] - mean[0], 0.0)


def mean_relative_regret(mean: Array, best: Array) -> Array:
    """max(0, mean_e R^antagonist - mean_e R^protagonist)."""
    del best
    return jnp.maximum(mean[1] - mean[0], 0.0)


def population_regret(mean: Array, best: Array) -> Array:
    """max_i max_e R^i - mean_i mean_e R^i over students i (Dennis et al. 2020, section 4, "flexible PAIRED").

    Never negative. In Jiang et al. 2023 (minimax) the maximum starts at 0, here it is the maximum itself.
    """
    return best.max(0) - mean.mean(0)


def mean_return(mean: Array, best: Array) -> Array:
    """mean_i mean_e R^i: a teacher that helps."""
    del best
    return mean.mean(0)


def negative_return(mean: Array, best: Array) -> Array:
    """-mean_i mean_e R^i: the minimax adversary."""
    del best
    return -mean.mean(0)


#: Name -> objective; those of regret need two students, or more.
OBJECTIVES: dict[str, Callable[[Array, Array], Array]] = {
    "relative_regret": relative_regret,
    "mean_relative_regret": mean_relative_regret,
    "population_regret": population_regret,
    "return": mean_return,
    "neg_return": negative_return,
}


def teacher_rewards(objective: str, statistics: EpisodeStatistics) -> Array:
    """Return the teacher's reward for each level, f32[B].

    A student that finished no episode on a level counts as one with return 0 there.

    Args:
        objective: a key of `OBJECTIVES`.
        statistics: of all students on the same B levels; every array is [students, B].

    Raises:
        UserError: the objective is unknown; the message names the nearest.
    """
    finished = statistics.count > 0
    mean = jnp.where(finished, statistics.mean_return, 0.0)
    best = jnp.where(finished, statistics.max_return, 0.0)
    return look_up("teacher's objective", objective, OBJECTIVES)(mean, best)
