"""Playing the chosen levels of one seed: rollouts, what they are worth, and the buffer after them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from minimax_ued.config import TrainConfig
from minimax_ued.curricula.choice import Choice
from minimax_ued.cycle.columns import learned_columns, learned_levels
from minimax_ued.cycle.state import Played
from minimax_ued.cycle.totals import episode_totals, learned_totals, level_totals, mean_total
from minimax_ued.envs.autoreset import AutoReset
from minimax_ued.envs.base import Environment, success_return
from minimax_ued.learning.axes import over_axis
from minimax_ued.learning.gae import generalized_advantages
from minimax_ued.learning.layout import Constraint, unconstrained
from minimax_ued.learning.ppo import Batch
from minimax_ued.learning.rollout import Trajectory, rollout
from minimax_ued.nets.students import Student
from minimax_ued.replay.buffer import BufferState, LevelBuffer
from minimax_ued.replay.scores import episode_statistics, get_score

__all__ = ["Playing"]


@dataclass(frozen=True)
class Playing:
    """Rollouts of one configuration; all arrays are of one seed.

    Attributes:
        config: the run.
        env: the environment.
        student: the network of every student.
        buffer: the rules of the level buffer, None for methods without one.
        constrain: `constrain(tree, axis)` says how the environment axis of arrays is laid out over devices.
    """

    config: TrainConfig
    env: Environment
    student: Student
    buffer: LevelBuffer | None
    constrain: Constraint = unconstrained

    @property
    def auto(self) -> AutoReset:
        """The environment, and what follows an episode."""
        # A level that is kept, or that somebody made, is played again and again: its score is about that level.
        return AutoReset(self.env, fresh=self.config.method.type == "dr", ahead=self.config.levels_ahead)

    def all_students(self, params: Any, content: Any, choice: Choice, key: Array, learn: Array) -> Played:
        """Play, score and keep: every student on its levels."""
        students, method = self.config.n_students, self.config.method
        learned = partial(learned_levels, parts=method.learned_parts, n=self.config.n_envs)
        buffers = content if self.buffer is not None else None  # other curators keep one content for all students

        def one(params: Any, choice: Choice, key: Array, content: Any) -> Played:
            played = self.one(params, content, choice, key)
            totals = played.totals | level_totals(jax.vmap(self.env.level_metrics)(learned(choice.levels)), learn)
            if self.buffer is not None:
                totals |= learned_totals(learned(played.statistics), learn)
            return played.replace(totals=totals)

        keys = jax.random.split(key, students)
        return over_axis(students, one)(params, choice, keys, buffers)

    def one(self, params: Any, content: BufferState | None, choice: Choice, key: Array) -> Played:
        """Play, score and keep: one student."""
        config, buffer = self.config, self.buffer
        trajectory = rollout(
            self.auto,
            self.student,
            params,
            key,
            choice.levels,
            steps=config.rollout_steps,
            chunks=config.ppo.chunks,
            truncation_values=config.ppo.bootstrap_timeouts,
            constrain=self.constrain,
        )
        advantages, targets = generalized_advantages(
            trajectory.rewards,
            trajectory.values,
            trajectory.last_value,
            terminated=trajectory.terminated,
            truncated=trajectory.truncated,
            truncation_values=trajectory.truncation_values,
            gamma=config.ppo.gamma,
            gae_lambda=config.ppo.gae_lambda,
        )
        totals = episode_totals(trajectory, success_return(self.env))
        statistics = episode_statistics(trajectory.rewards, trajectory.dones, success_return(self.env))
        scores = jnp.zeros_like(choice.seen)
        if buffer is not None and content is not None:
            scores, max_returns = self._score(choice, trajectory, advantages)
            content = buffer.insert(content, choice.levels, scores, max_returns, choice.slots, choice.n_mutations)
            totals |= mean_total("level/score", scores, jnp.isfinite(scores))
        parts = config.method.learned_parts
        batch = Batch.from_trajectory(*learned_columns(trajectory, advantages, targets, parts, config.n_envs))
        return Played(content=content, batch=batch, statistics=statistics, scores=scores, totals=totals)

    def _score(self, choice: Choice, trajectory: Trajectory, advantages: Array) -> tuple[Array, Array]:
        buffer = self.config.method.buffer
        assert buffer is not None
        score, optimal = get_score(buffer.score), None
        if score.needs_optimum:
            env: Any = self.env  # that it has this was checked before
            optimal = jax.vmap(env.optimal_return)(choice.levels)
        return score(
            trajectory.rewards,
            trajectory.dones,
            trajectory.values,
            advantages,
            choice.seen,
            optimal_returns=optimal,
            success_return=success_return(self.env),
        )
