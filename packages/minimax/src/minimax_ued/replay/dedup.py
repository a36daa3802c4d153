"""Which levels of a batch are copies of one another or of levels in a buffer.

One sort of N + B hashes brings equal ones together; levels themselves are compared only where their hashes agree, B
comparisons against the buffer and B within the batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

__all__ = ["Copies", "find_copies"]


class Copies(NamedTuple):
    """What `find_copies` returns.

    Attributes:
        slot: i32[B], where an equal level lies in the buffer, or -1.
        first: i32[B], place in the batch of the first usable copy of the level; a level's own place where it is that,
            or is unusable.
    """

    slot: jax.Array
    first: jax.Array


def find_copies(
    same_level: Callable[[Any, Any], jax.Array],
    stored: Any,
    stored_hashes: jax.Array,
    filled: jax.Array,
    levels: Any,
    hashes: jax.Array,
    usable: jax.Array,
) -> Copies:
    """Look every level of a batch up in the buffer and in the batch.

    A hash that different levels share costs no correctness: the exact comparison decides. It can only hide a copy that
    stands behind such a stranger.

    Args:
        same_level: exact comparison of two levels, to a bool scalar.
        stored: the buffer's levels, leading axis N.
        stored_hashes: u32[N, 2].
        filled: bool[N].
        levels: the batch, leading axis B.
        hashes: u32[B, 2].
        usable: bool[B].
    """
    n, b = filled.shape[0], usable.shape[0]
    # Within equal hashes: buffered levels first, then usable ones of the batch, then the rest; each in its own order.
    kind = jnp.concatenate([jnp.where(filled, 0, 2), jnp.where(usable, 1, 2)]).astype(jnp.uint32)
    high, low = jnp.concatenate([stored_hashes, hashes]).T
    high, low, kind, order = jax.lax.sort((high, low, kind, jnp.arange(n + b)), num_keys=3, is_stable=True)

    place = jnp.arange(n + b)
    new_hash = jnp.concatenate([jnp.ones(1, bool), (high[1:] != high[:-1]) | (low[1:] != low[:-1])])
    new_kind = new_hash | jnp.concatenate([jnp.ones(1, bool), kind[1:] != kind[:-1]])
    hash_head = jax.lax.cummax(jnp.where(new_hash, place, 0))
    kind_head = jax.lax.cummax(jnp.where(new_kind, place, 0))

    where = jnp.zeros(n + b, place.dtype).at[order].set(place)[n:]  # the batch's places in the sorted order
    head = order[hash_head[where]]
    head_of_kind = order[kind_head[where]] - n

    def take(tree: Any, index: jax.Array) -> Any:
        return jax.tree.map(lambda x: x[index], tree)

    in_buffer = kind[hash_head[where]] == 0
    head = jnp.where(in_buffer, head, 0)
    found = in_buffer & jax.vmap(same_level)(levels, take(stored, head))
    own = jnp.arange(b)
    first = jnp.where(usable, head_of_kind, own)
    first = jnp.where(jax.vmap(same_level)(levels, take(levels, first)), first, own)
    return Copies(jnp.where(found, head, -1).astype(jnp.int32), first.astype(jnp.int32))
