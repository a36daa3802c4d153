"""The levels that a method would train on now: those it keeps with their weights, or those that its teacher builds."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from minimax_ued.cycle.state import TrainState
from minimax_ued.envs.base import Environment
from minimax_ued.replay.buffer import LevelBuffer
from minimax_ued.trainer import UEDTrainer
from paperloop.seeds import fold_seed

__all__ = ["Kept", "KeptLevels", "find_kept"]

_BUILT = 64  # levels that a teacher is asked for where nothing is kept


class Kept(NamedTuple):
    """Levels that student 0 would train on now, for every seed.

    Attributes:
        levels: leading axes `[seeds, N]`.
        weights: f32 `[seeds, N]`, probability of each; all zero where nothing is kept yet.
    """

    levels: Any
    weights: Array


class KeptLevels:
    """An evaluator that looks at the levels a run trains on: the emergent-complexity curves of the UED literature.

    Calling it with `(state, seed)` returns, f32 `[seeds]` each, the expectations of the environment's `level_metrics`
    under the probability with which each level would be trained on now (for mazes `n_walls`, `solvable` and
    `path_length`; the mean path of solvable levels is `path_length` / `solvable`), and `kept`, the number of levels
    with a probability above zero. All are 0 while nothing is kept, as it always is for domain randomisation.
    """

    def __init__(self, trainer: UEDTrainer) -> None:
        """Bind a trainer, whose states are looked at."""
        self._trainer = trainer

    def __call__(self, state: TrainState, seed: int) -> Mapping[str, Array]:
        """Return the metrics that the class names."""
        found = find_kept(self._trainer, state, seed)
        return {} if found is None else _expectations(self._trainer.env, found)


@partial(jax.jit, static_argnums=0)
def _expectations(env: Environment, found: Kept) -> dict[str, Array]:
    metrics = jax.vmap(jax.vmap(env.level_metrics))(found.levels)
    kept = {"kept": (found.weights > 0).sum(-1, dtype=jnp.float32)}
    return kept | {name: (found.weights * value).sum(-1) for name, value in metrics.items()}


def find_kept(trainer: UEDTrainer, state: TrainState, seed: int = 0) -> Kept | None:
    """Return the levels that student 0 would train on now; None for domain randomisation, which has none.

    They are those of its level buffer with the replay distribution; the learnable ones, equally likely; those of NCC
    with the learned distribution; or, where nothing is kept, fresh ones of the teacher, which follow from `seed`.
    """
    method, seeds = trainer.config.method, trainer.config.seeds
    if method.buffer is not None:
        buffer = LevelBuffer(method.buffer, trainer.env.level_hash, trainer.env.same_level)
        content = jax.tree.map(lambda x: x[:, 0], state.buffer)
        return Kept(content.levels, _replay_weights(buffer, content))
    if method.curator == "distribution":
        return Kept(state.buffer.levels, state.buffer.probabilities)
    if method.curator == "learnable":
        filled = state.buffer.filled.astype(jnp.float32)
        return Kept(state.buffer.levels, filled / jnp.maximum(filled.sum(-1, keepdims=True), 1))
    if trainer.teaching is None or state.teacher is None:
        return None
    keys = jax.random.split(jax.random.key(fold_seed(seed, "teacher")), seeds)
    return Kept(_build(trainer.teaching, state.teacher.params, keys), jnp.full((seeds, _BUILT), 1 / _BUILT))


@partial(jax.jit, static_argnums=0)
def _replay_weights(buffer: LevelBuffer, content: Any) -> Array:
    return jax.vmap(buffer.weights)(content)


@partial(jax.jit, static_argnums=0)
def _build(teaching: Any, params: Any, keys: Array) -> Any:
    return jax.vmap(lambda p, key: teaching.build(p, key, _BUILT)[0])(params, keys)
