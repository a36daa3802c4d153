"""What a level buffer holds, and how a batch of scored levels changes it: updates, then insertions.

N is the capacity, B the size of the batch. Everything is pure and works under `jit` and `vmap`.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

__all__ = ["BufferState", "Offer", "insert_new", "update_known"]

Level = Any


class BufferState(struct.PyTreeNode):
    """The content of a level buffer.

    Attributes:
        levels: the levels, a pytree with leading axis N.
        hashes: u32[N, 2], `level_hash` of each level.
        scores: f32[N], -inf in empty slots. Filled slots hold finite scores.
        ages: i32[N], B for each cycle, or one for each draw of it, since this level was last drawn, or inserted; stops
            at 2**31 - 1.
        max_returns: f32[N], highest return ever seen on the level; -inf in empty slots.
        filled: bool[N].
        n_mutations: i32[N], edits between the level and its random ancestor, in generations.
        invalid_scores: i32[], how many scores that are NaN or +inf were offered and refused so far.
    """

    levels: Level
    hashes: jax.Array
    scores: jax.Array
    ages: jax.Array
    max_returns: jax.Array
    filled: jax.Array
    n_mutations: jax.Array
    invalid_scores: jax.Array


class Offer(struct.PyTreeNode):
    """A batch of B levels offered to the buffer, resolved.

    Attributes:
        levels: leading axis B.
        hashes: u32[B, 2].
        scores: f32[B].
        max_returns: f32[B], the highest return seen on any copy in the batch.
        n_mutations: i32[B].
        slot: i32[B], where an equal level lies in the buffer, or -1.
        replayed: bool[B], the caller named the slot.
        usable: bool[B], the score is finite and the level is the first copy in the batch.
    """

    levels: Level
    hashes: jax.Array
    scores: jax.Array
    max_returns: jax.Array
    n_mutations: jax.Array
    slot: jax.Array
    replayed: jax.Array
    usable: jax.Array


def update_known(state: BufferState, offer: Offer) -> BufferState:
    """Give the levels that lie in the buffer their new scores; those that were found, not replayed, get age 0."""
    n, batch = state.scores.shape[0], offer.scores.shape[0]
    position = jnp.arange(batch)
    update = jnp.where(offer.usable & (offer.slot >= 0), offer.slot, n)
    # A replayed level can be in the batch twice: the later one wins.
    last = jnp.full(n, -1).at[update].max(position, mode="drop")
    final = last[jnp.minimum(update, n - 1)] == position
    state = state.replace(max_returns=state.max_returns.at[update].max(offer.max_returns, mode="drop"))
    slot = jnp.where(final, update, n)
    return state.replace(
        scores=state.scores.at[slot].set(offer.scores, mode="drop"),
        max_returns=state.max_returns.at[slot].max(offer.max_returns, mode="drop"),
        ages=state.ages.at[jnp.where(offer.replayed, n, slot)].set(0, mode="drop"),
    )


def insert_new(state: BufferState, offer: Offer, weights: jax.Array) -> BufferState:
    """Put new levels into free slots in order, then into those of the smallest weight; `weights` is P, f32[N]."""
    n, batch = state.scores.shape[0], offer.scores.shape[0]
    targets = jax.lax.top_k(-jnp.where(state.filled, weights, -1.0), batch)[1]
    new = offer.usable & (offer.slot < 0)
    ranking = jnp.argsort(-jnp.where(new, offer.scores, -jnp.inf), stable=True)
    fits = new[ranking] & (~state.filled[targets] | (offer.scores[ranking] >= state.scores[targets]))
    accepted = jnp.zeros(batch, bool).at[ranking].set(jnp.cumprod(fits).astype(bool))
    # Which of the accepted levels goes into which of the slots makes no difference: the order of the batch.
    slot = jnp.where(accepted, targets[jnp.cumsum(accepted) - 1], n)

    def put(old: jax.Array, new: jax.Array | float) -> jax.Array:
        return old.at[slot].set(new, mode="drop")

    return state.replace(
        levels=jax.tree.map(put, state.levels, offer.levels),
        hashes=put(state.hashes, offer.hashes),
        scores=put(state.scores, offer.scores),
        ages=put(state.ages, 0),
        max_returns=put(state.max_returns, offer.max_returns),
        filled=put(state.filled, True),
        n_mutations=put(state.n_mutations, offer.n_mutations),
    )
