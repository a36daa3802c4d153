"""How ACCEL turns replayed levels into new ones: which of them are edited, and the edits."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from minimax_ued.config import MutationConfig
from minimax_ued.curricula.choice import Choice

__all__ = ["choose_parents", "edit_levels"]


def edit_levels(config: MutationConfig, env: Any, key: Array, levels: Any, n_mutations: Array) -> tuple[Any, Array]:
    """Return the edited levels (leading axis B), one generation further from their random ancestors.

    Args:
        config: the operator and the number of edits.
        env: has the operator in its `mutations`.
        key: randomness of the edits.
        levels: leading axis B.
        n_mutations: i32[B], generations so far.
    """
    mutate = env.mutations[config.operator]
    keys = jax.random.split(key, n_mutations.shape[0])
    return jax.vmap(lambda key, level: mutate(key, level, config.n_edits))(keys, levels), n_mutations + 1


def choose_parents(config: MutationConfig, choice: Choice, ease: Array, n: int) -> Choice:
    """Return the `n` levels to edit: all of `choice`, or those with the most or the least `ease` (f32[n])."""
    if config.parents == "batch":
        return choice
    order = jnp.argsort(-ease if config.parents == "easy" else ease, stable=True)
    chosen = jnp.repeat(order[: config.n_parents], n // config.n_parents)
    return jax.tree.map(lambda x: x[chosen], choice.replace(replay=None)).replace(replay=choice.replay)
