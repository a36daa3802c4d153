"""One training cycle, the same for all methods.

    levels      fresh ones, or, when the method replays and the buffer so decides, replayed ones
    rollout     S steps of B environments from the start of an episode, the student's memory empty
    score       one score for each level; the buffer is updated                    (curated methods)
    update      PPO on the rollout, unless the method only looks at levels from this source

What a method makes of it is declared in `minimax_ued.methods`. All states here have a leading seed axis.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from minimax_ued.buffer import BufferState, LevelBuffer
from minimax_ued.config import TrainConfig
from minimax_ued.envs.autoreset import AutoReset
from minimax_ued.envs.base import Environment
from minimax_ued.gae import generalized_advantages
from minimax_ued.ppo import PPO_METRICS, Batch, make_optimizer, ppo_update
from minimax_ued.rollout import Trajectory, rollout
from minimax_ued.scores import episode_sums, get_score
from minimax_ued.students import Student

__all__ = ["Cycle", "TrainState", "finish_metrics"]

#: Name -> (sum, count), each f32[]: sums over cycles stay exact means, also where a cycle had nothing to count.
Totals = dict[str, tuple[Array, Array]]


class TrainState(struct.PyTreeNode):
    """Everything that changes during training; every leaf has a leading seed axis.

    Attributes:
        params: the student's variables.
        opt_state: the optimiser's state.
        buffer: the level buffer, None for methods that keep no levels.
        key: typed PRNG key, the only source of randomness.
        cycles: u32, cycles done.
        updates: u32, cycles that updated the student.
        rollouts: u32, rollouts of B x S steps; a count of steps would overflow 32 bits.
    """

    params: Any
    opt_state: Any
    buffer: BufferState | None
    key: Array
    cycles: Array
    updates: Array
    rollouts: Array


@dataclass(frozen=True)
class Cycle:
    """The cycle of one configuration.

    Attributes:
        config: the run.
        env: the environment.
        student: the network.
        buffer: the rules of the level buffer, None for methods that keep no levels.
        constrain: `constrain(tree, axis)` says how the environment axis of arrays is laid out over devices.
    """

    config: TrainConfig
    env: Environment
    student: Student
    buffer: LevelBuffer | None
    constrain: Callable[[Any, int], Any]

    def init(self, key: Array) -> TrainState:
        """Return the state of one seed (no seed axis) before the first cycle."""
        params_key, level_key, key = jax.random.split(key, 3)
        level = self.env.sample_level(level_key)
        observation = self.env.observe(level, self.env.reset(level_key, level))
        sequence = jax.tree.map(lambda x: x[None, None], observation)
        params = self.student.init(params_key, self.student.initial_carry(1), sequence, jnp.ones((1, 1), bool))
        zero = jnp.zeros((), jnp.uint32)
        return TrainState(
            params=params,
            opt_state=make_optimizer(self.config.ppo).init(params),
            buffer=self.buffer.init(level) if self.buffer else None,
            key=key,
            cycles=zero,
            updates=zero,
            rollouts=zero,
        )

    def __call__(self, state: TrainState) -> tuple[TrainState, Totals]:
        """Do one cycle of every seed. Totals have a leading seed axis."""
        state, batch, key, learn, totals = self._over_seeds(self._collect)(state)
        update = self._over_seeds(self._update)
        if self._always_learns:
            state, ppo = update(state, batch, key, learn)
        else:
            # Outside the vmap over seeds this stays a branch: a cycle in which no seed learns costs no update.
            def skip(state: TrainState, *_: Any) -> tuple[TrainState, dict[str, Array]]:
                return state, {name: jnp.zeros(self.config.seeds) for name in PPO_METRICS}

            state, ppo = jax.lax.cond(learn.any(), update, skip, state, batch, key, learn)
        weight = learn.astype(jnp.float32)
        return state, totals | {name: (weight * value, weight) for name, value in ppo.items()}

    @property
    def _always_learns(self) -> bool:
        method = self.config.method_spec
        return "fresh" in method.gradient and ("replay" in method.gradient or not method.curated)

    @property
    def _auto(self) -> AutoReset:
        # A curated level is played again and again, so that its score is about that level.
        return AutoReset(self.env, fresh=not self.config.method_spec.curated, ahead=self.config.levels_ahead)

    def _over_seeds(self, function: Callable[..., Any]) -> Callable[..., Any]:
        if self.config.seeds > 1:
            return jax.vmap(function)

        # No vmap over one seed: it would turn every branch inside into a choice that pays for both sides.
        def single(*args: Any) -> Any:
            return jax.tree.map(lambda x: x[None], function(*jax.tree.map(lambda x: x[0], args)))

        return single

    # --- one seed ---

    def _collect(self, state: TrainState) -> tuple[TrainState, Batch, Array, Array, Totals]:
        """Choose levels, roll out, score. Returns also the key of the update, and whether to make it."""
        config, method = self.config, self.config.method_spec
        key, level_key, rollout_key, update_key = jax.random.split(state.key, 4)
        buffer, content = self.buffer, state.buffer
        if buffer is not None and content is not None:
            content, levels, indices, seen, replay = self._choose_levels(buffer, level_key, content)
            learn = jnp.where(replay, "replay" in method.gradient, "fresh" in method.gradient)
        else:
            levels, learn = self._auto.sample_levels(level_key, config.n_envs), jnp.ones((), bool)

        trajectory = rollout(
            self._auto,
            self.student,
            state.params,
            rollout_key,
            levels,
            steps=config.rollout_steps,
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
        totals = _episode_totals(trajectory) | self._level_totals(levels, learn)
        if buffer is not None and content is not None:
            score = get_score(config.score)
            scores, max_returns = score(trajectory.rewards, trajectory.dones, trajectory.values, advantages, seen)
            n_mutations = jnp.where(indices >= 0, content.n_mutations[indices], 0)
            content = buffer.insert(content, levels, scores, max_returns, indices, n_mutations)
            state = state.replace(buffer=content)
            totals |= _mean_total("replay", replay) | _mean_total("level/score", scores, jnp.isfinite(scores))

        state = state.replace(
            key=key,
            cycles=state.cycles + 1,
            updates=state.updates + learn,
            rollouts=state.rollouts + 1,
        )
        return state, Batch.from_trajectory(trajectory, advantages, targets), update_key, learn, totals

    def _choose_levels(
        self, buffer: LevelBuffer, key: Array, content: BufferState
    ) -> tuple[BufferState, Any, Array, Array, Array]:
        """Choose the levels of a rollout.

        Returns:
            The buffer with new ages; B levels; the slots they were replayed from, -1 for fresh ones; the highest return
            that was ever seen on each, -inf for those that are new; whether they are replayed.
        """
        decide_key, key = jax.random.split(key)
        n_envs = self.config.n_envs

        def replayed(key: Array, content: BufferState) -> tuple[BufferState, Any, Array, Array]:
            content, indices, levels = buffer.sample(key, content, n_envs)
            return content, levels, indices.astype(jnp.int32), content.max_returns[indices]

        def fresh(key: Array, content: BufferState) -> tuple[BufferState, Any, Array, Array]:
            levels = self._auto.sample_levels(key, n_envs)
            return buffer.age(content, n_envs), levels, jnp.full(n_envs, -1, jnp.int32), buffer.seen(content, levels)

        replay = buffer.replay_decision(decide_key, content)
        return (*jax.lax.cond(replay, replayed, fresh, key, content), replay)

    def _update(self, state: TrainState, batch: Batch, key: Array, learn: Array) -> tuple[TrainState, dict[str, Array]]:
        config = self.config
        lr = jnp.float32(config.ppo.lr)
        if config.ppo.anneal_lr:
            # Held at 0 in a run that goes on beyond its length, where it would turn negative.
            lr *= jnp.maximum(1 - (state.cycles - 1).astype(jnp.float32) / config.total_cycles, 0)
        params, opt_state, metrics = ppo_update(
            config.ppo, self.student, state.params, state.opt_state, batch, key, lr=lr
        )
        if not self._always_learns:  # another seed learns in this cycle, this one perhaps not
            params, opt_state = jax.tree.map(
                lambda new, old: jnp.where(learn, new, old), (params, opt_state), (state.params, state.opt_state)
            )
        return state.replace(params=params, opt_state=opt_state), metrics

    def _level_totals(self, levels: Any, learn: Array) -> Totals:
        metrics = jax.vmap(self.env.level_metrics)(levels)
        return {
            key: total
            for name, value in metrics.items()
            for key, total in _mean_total(f"level/{name}", value, jnp.broadcast_to(learn, value.shape)).items()
        }


def _mean_total(name: str, values: Array, counted: Array | None = None) -> Totals:
    counted = jnp.ones(jnp.shape(values), bool) if counted is None else counted
    return {name: (jnp.where(counted, values, 0).sum(dtype=jnp.float32), counted.sum(dtype=jnp.float32))}


def _episode_totals(trajectory: Trajectory) -> Totals:
    """Return, length and solve rate of the episodes that were finished in a rollout."""
    dones = trajectory.dones
    returns, lengths = episode_sums(trajectory.rewards, dones)
    episodes = dones.sum(dtype=jnp.float32)
    return {
        "episodes": (episodes, jnp.ones(())),
        **_mean_total("return", returns, dones),
        **_mean_total("solve_rate", returns > 0, dones),
        **_mean_total("episode_length", lengths, dones),
        **_mean_total("value", trajectory.values),
    }


def finish_metrics(totals: Totals) -> dict[str, Array]:
    """Return name -> mean from totals stacked over cycles on axis 0; 0 where nothing was counted."""
    return {
        name: (total.sum(0) / jnp.maximum(count.sum(0), 1)).astype(jnp.float32)
        for name, (total, count) in totals.items()
    }
