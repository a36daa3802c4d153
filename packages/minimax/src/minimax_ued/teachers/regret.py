"""What a teacher is rewarded by: numbers made of the returns of several students on the levels it built.

Student 0 is the protagonist, student 1 the antagonist. R are undiscounted returns of finished episodes, e numbers the
episodes of one student on one level. A student that finished no episode on a level counts as one with return 0 there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import jax.numpy as jnp
from jax import Array

from minimax_ued.replay.scores import EpisodeStatistics
from minimax_ued.support.registry import add, look_up
from paperloop.errors import UserError

__all__ = ["OBJECTIVES", "Objective", "get_objective", "register_objective"]


@dataclass(frozen=True)
class Objective:
    """A named reward of a teacher: `OBJECTIVES[name](statistics) -> f32[B]`.

    Attributes:
        name: its name in `OBJECTIVES`.
        min_students: students it needs.
        function: (mean returns f32[students, B], maximal returns f32[students, B]) -> f32[B].
        max_students: students it can use; None for any number.
    """

    name: str
    min_students: int
    function: Callable[[Array, Array], Array]
    max_students: int | None = None

    def check(self, n_students: int) -> None:
        """Refuse a number of students that the objective is not defined for.

        Raises:
            UserError: too few or too many.
        """
        if n_students < self.min_students or (self.max_students is not None and n_students > self.max_students):
            exactly = "exactly" if self.min_students == self.max_students else "at least"
            raise UserError(
                f"The objective '{self.name}' needs {exactly} {self.min_students} students, but there "
                f"{'is' if n_students == 1 else 'are'} {n_students}: choose a method with another number, or one of "
                f"{', '.join(sorted(_fitting(n_students)))}."
            )

    def __call__(self, statistics: EpisodeStatistics) -> Array:
        """Return the teacher's reward for each level, f32[B].

        Args:
            statistics: of all students on the same B levels; every array is [students, B].

        Raises:
            UserError: the arrays have other axes, or the number of students does not fit.
        """
        if statistics.mean_return.ndim != 2:
            raise UserError(
                f"The objective '{self.name}' got statistics of shape {statistics.mean_return.shape}, but needs "
                "[students, B]: stack those of the students along a first axis."
            )
        self.check(statistics.mean_return.shape[0])
        finished = statistics.count > 0
        mean = jnp.where(finished, statistics.mean_return, 0.0)
        return self.function(mean, jnp.where(finished, statistics.max_return, 0.0))


#: Name -> objective. `register_objective` adds to it.
OBJECTIVES: dict[str, Objective] = {}


def _fitting(n_students: int) -> list[str]:
    return [
        name
        for name, entry in OBJECTIVES.items()
        if n_students >= entry.min_students and (entry.max_students is None or n_students <= entry.max_students)
    ]


def register_objective(
    name: str, *, min_students: int = 1, max_students: int | None = None
) -> Callable[[Callable[[Array, Array], Array]], Callable[[Array, Array], Array]]:
    """Register the decorated function of mean and maximal returns, each f32[students, B], as a teacher's objective."""

    def register(function: Callable[[Array, Array], Array]) -> Callable[[Array, Array], Array]:
        add("teacher's objective", name, Objective(name, min_students, function, max_students), OBJECTIVES)
        return function

    return register


def get_objective(name: str) -> Objective:
    """Return the objective called `name`.

    Raises:
        UserError: there is none; the message names the nearest.
    """
    return look_up("teacher's objective", name, OBJECTIVES)


@register_objective("relative_regret", min_students=2, max_students=2)
def relative_regret(mean: Array, best: Array) -> Array:
    """max(0, max_e R^antagonist - mean_e R^protagonist) (Dennis et al. 2020, arXiv 2012.02096, section 4).

    The maximum over the antagonist's episodes is the choice of the implementations. In Jiang et al. 2023 (minimax) it
    starts at 0, here it is the maximum itself: the same wherever returns are not negative, as in mazes.
    """
    return jnp.maximum(best[1] - mean[0], 0.0)


@register_objective("mean_relative_regret", min_students=2, max_students=2)
def mean_relative_regret(mean: Array, best: Array) -> Array:
    """max(0, mean_e R^antagonist - mean_e R^protagonist)."""
    del best
    return jnp.maximum(mean[1] - mean[0], 0.0)


@register_objective("population_regret", min_students=2)
def population_regret(mean: Array, best: Array) -> Array:
    """max_i max_e R^i - mean_i mean_e R^i over students i (Dennis et al. 2020, section 4, "flexible PAIRED").

    Never negative. In Jiang et al. 2023 (minimax) the maximum starts at 0, here it is the maximum itself.
    """
    return best.max(0) - mean.mean(0)


@register_objective("return")
def mean_return(mean: Array, best: Array) -> Array:
    """mean_i mean_e R^i: a teacher that helps."""
    del best
    return mean.mean(0)


@register_objective("neg_return")
def negative_return(mean: Array, best: Array) -> Array:
    """-mean_i mean_e R^i: the minimax adversary."""
    del best
    return -mean.mean(0)
