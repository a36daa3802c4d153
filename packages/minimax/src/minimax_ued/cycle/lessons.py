"""What a cycle does with what was played: the students learn, the teacher is taught, edits of levels are explored.

Each function is for one seed: (wanted, state, ...) -> state, totals. Next to it is what comes instead of it where no
seed wants it, with a leading seed axis; None where some seed always does.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from minimax_ued.config import PPOConfig, TaughtConfig, TrainConfig
from minimax_ued.curricula.choice import Choice, edited
from minimax_ued.curricula.edits import choose_parents, edit_levels
from minimax_ued.cycle.playing import Playing
from minimax_ued.cycle.state import Played, TrainState
from minimax_ued.cycle.totals import Totals, mean_total
from minimax_ued.learning.axes import over_axis
from minimax_ued.learning.layout import Constraint
from minimax_ued.learning.ppo import PPO_METRICS, Batch, ppo_update
from minimax_ued.nets.students import Student
from minimax_ued.replay.buffer import BufferState
from minimax_ued.replay.scores import EpisodeStatistics
from minimax_ued.teachers.regret import teacher_rewards
from minimax_ued.teachers.teaching import Construction, Teaching

__all__ = ["annealed", "explore", "learn", "nothing_explored", "nothing_learned", "nothing_taught", "teach"]


def annealed(ppo: PPOConfig, cycles: Array, total: int) -> Array:
    """Return the learning rate of the cycle that is number `cycles` from 1 on, of `total`, f32[]."""
    if not ppo.anneal_lr:
        return jnp.float32(ppo.lr)
    # Held at 0 in a run that is continued beyond its length, where it would turn negative.
    return ppo.lr * jnp.maximum(1 - (cycles - 1).astype(jnp.float32) / total, 0)


def _where(mask: Array, new: Any, old: Any) -> Any:
    return jax.tree.map(lambda x, y: jnp.where(mask, x, y), new, old)


def learn(
    wanted: Array, state: TrainState, batch: Batch, key: Array, *, config: TrainConfig, student: Student,
    constrain: Constraint,
) -> tuple[TrainState, Totals]:  # fmt: skip
    """Update every student by PPO."""
    lr = annealed(config.ppo, state.cycles, config.total_cycles)

    def update(params: Any, opt_state: Any, batch: Batch, key: Array) -> tuple[Any, Any, dict[str, Array]]:
        return ppo_update(config.ppo, student, params, opt_state, batch, key, lr=lr, constrain=constrain)

    keys = jax.random.split(key, config.n_students)
    params, opt_state, metrics = over_axis(config.n_students, update)(state.params, state.opt_state, batch, keys)
    params, opt_state = _where(wanted, (params, opt_state), (state.params, state.opt_state))
    weight = jnp.broadcast_to(wanted.astype(jnp.float32), (config.n_students,))
    totals = {name: (weight * value, weight) for name, value in metrics.items()}
    return state.replace(params=params, opt_state=opt_state), totals


def nothing_learned(config: TrainConfig, state: TrainState) -> Any:
    """Return what comes instead of `learn`."""
    if config.method.always_learns:
        return None
    zeros = jnp.zeros((config.seeds, config.n_students))
    return state, {name: (zeros, zeros) for name in PPO_METRICS}


def teach(
    wanted: Array, state: TrainState, record: Construction, statistics: EpisodeStatistics, key: Array, *,
    config: TrainConfig, teaching: Teaching,
) -> tuple[TrainState, Totals]:  # fmt: skip
    """Update the teacher, rewarded by how the students fared on its levels."""
    method = config.method
    assert isinstance(method, TaughtConfig)
    assert state.teacher is not None
    rewards = teacher_rewards(method.objective, statistics)
    lr = annealed(method.teacher.ppo, state.cycles, config.total_cycles)
    teacher, metrics = teaching.learn(state.teacher, record, rewards, key, lr)
    weight = wanted.astype(jnp.float32)
    totals = {f"teacher/{name}": (weight * value, weight) for name, value in metrics.items()}
    totals |= mean_total("teacher/reward", rewards, jnp.broadcast_to(wanted, rewards.shape))
    return state.replace(teacher=_where(wanted, teacher, state.teacher)), totals


def nothing_taught(config: TrainConfig, state: TrainState) -> Any:
    """Return what comes instead of `teach`."""
    if not config.method.alternates:
        return None
    zeros = jnp.zeros(config.seeds)
    return state, {f"teacher/{name}": (zeros, zeros) for name in (*PPO_METRICS, "reward")}


def explore(
    wanted: Array, state: TrainState, choice: Choice, statistics: EpisodeStatistics, scores: Array, key: Array, *,
    config: TrainConfig, playing: Playing,
) -> tuple[TrainState, Totals]:  # fmt: skip
    """Edit the levels that were replayed, play the results without learning from them, offer them to the buffer."""
    buffer, mutation = playing.buffer, config.method.mutation
    assert buffer is not None
    assert mutation is not None

    def one(params: Any, content: BufferState, choice: Choice, ease: Array, key: Array) -> Played:
        edit_key, play_key = jax.random.split(key)
        parents = choose_parents(mutation, choice, ease, config.n_envs)
        edits = edit_levels(mutation, playing.env, edit_key, parents.levels, parents.n_mutations)
        children = edited(buffer, content, *edits)
        played = playing.one(params, content, children, play_key)
        return played.replace(batch=None, totals={"mutation/score": played.totals["level/score"]})

    # An unfinished level has score -inf: infinitely easy or hard would both be wrong, so that it counts as neither.
    ease = statistics.mean_return - jnp.where(jnp.isfinite(scores), scores, 0.0)
    keys = jax.random.split(key, config.n_students)
    played = over_axis(config.n_students, one)(state.params, state.buffer, choice, ease, keys)
    weight = wanted.astype(jnp.float32)
    totals = {name: (weight * total[0], weight * count[0]) for name, (total, count) in played.totals.items()}
    content = _where(wanted, played.content, state.buffer)
    rollouts = jnp.where(wanted, config.n_students, 0)
    return state.replace(buffer=content, rollouts=state.rollouts + rollouts.astype(jnp.uint32)), totals


def nothing_explored(config: TrainConfig, state: TrainState) -> Any:
    """Return what comes instead of `explore`."""
    zeros = jnp.zeros(config.seeds)
    return state, {"mutation/score": (zeros, zeros)}
