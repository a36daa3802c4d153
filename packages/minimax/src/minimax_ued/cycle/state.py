"""What changes during training."""

from __future__ import annotations

from typing import Any, NamedTuple

from flax import struct
from jax import Array

from minimax_ued.cycle.totals import Totals
from minimax_ued.learning.ppo import Batch
from minimax_ued.replay.scores import EpisodeStatistics
from minimax_ued.teachers.teaching import TeacherState

__all__ = ["Keys", "Played", "TrainState"]


class TrainState(struct.PyTreeNode):
    """Everything that changes during training; every leaf has a leading seed axis.

    Attributes:
        params: the students' variables, `[seeds, students, ...]`. Student 0 is the one that is trained for: the
            protagonist, where there are several.
        opt_state: the optimisers' states, likewise.
        buffer: what the curator keeps: a level buffer for each student `[seeds, students, ...]`, or the state of
            another curator `[seeds, ...]`; None for methods that keep no levels.
        teacher: the teacher, None for methods without one.
        key: typed PRNG key, the only source of randomness.
        cycles: cycles done, u32 `[seeds]`, as the other counters.
        updates: cycles that updated the students.
        rollouts: rollouts of B x S steps by one student.
    """

    params: Any
    opt_state: Any
    buffer: Any
    teacher: TeacherState | None
    key: Array
    cycles: Array
    updates: Array
    rollouts: Array


class Keys(NamedTuple):
    """The randomness of one cycle."""

    decide: Array
    build: Array
    choose: Array
    play: Array
    learn: Array
    teach: Array
    explore: Array
    refresh: Array


class Played(struct.PyTreeNode):
    """What came of a rollout: one seed, one student."""

    content: Any
    batch: Batch | None
    statistics: EpisodeStatistics
    scores: Array
    totals: Totals
