"""Curators: what keeps levels and refreshes its choice by playing them, apart from training.

    curator = make_curator(config, env, student)
    state = curator.init(key, example_level)
    every `config.method.refresh_every` cycles, and before the first:
        state = curator.refresh(state, key, params)
    slots, levels = curator.sample(key, state, n)

The scored level buffer of prioritised level replay is not a curator of this kind: it learns of its levels from the
rollouts of training (`minimax_ued.replay.buffer`).
"""

from __future__ import annotations

from typing import Any, Protocol

from jax import Array

from minimax_ued.config import NCCConfig, SFLConfig, TrainConfig
from minimax_ued.curricula.distribution import LevelDistribution
from minimax_ued.curricula.learnable import LearnableSet
from minimax_ued.envs.base import Environment
from minimax_ued.learning.layout import Constraint, unconstrained
from minimax_ued.nets.students import Student

__all__ = ["Curator", "make_curator"]


class Curator(Protocol):
    """Keeps N levels for one seed and one student.

    All methods are pure, and work under `jit`, `scan`, and `vmap` over a leading seed axis of state, key and params.
    Curators are hashable and equal by value, so that they can be static arguments. A state is a pytree with at least

        levels      leading axis N
        scores      f32[N], finite
        filled      bool[N], the slot holds a level
    """

    def init(self, key: Array, example_level: Any) -> Any:
        """Return the state before the first refresh, for levels shaped like `example_level`."""
        ...

    def refresh(self, state: Any, key: Array, params: Any) -> Any:
        """Play levels with the student and choose again. Takes `TrainConfig.steps_per_refresh` environment steps."""
        ...

    def sample(self, key: Array, state: Any, n: int) -> tuple[Array, Any]:
        """Draw `n` levels to learn from, with replacement: i32[n] slots, and levels with leading axis n."""
        ...

    def metrics(self, state: Any) -> dict[str, Array]:
        """Return name -> f32[], finite, the same names always."""
        ...


def make_curator(
    config: TrainConfig, env: Environment, student: Student, constrain: Constraint = unconstrained
) -> Curator | None:
    """Return the curator of `config.method`, None where it has none or the scored level buffer."""
    method = config.method
    if isinstance(method, SFLConfig):
        return LearnableSet(method, env, student, constrain)
    if isinstance(method, NCCConfig):
        return LevelDistribution(method, config.n_envs, config.rollout_steps, env, student, constrain)
    return None
