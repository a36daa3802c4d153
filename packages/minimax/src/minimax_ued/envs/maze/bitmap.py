"""Sets of cells as bits: one 32-bit word holds up to 32 cells of a row.

A bitmap of a map with W columns is u32[..., ceil(W / 32)]; column x is bit x % 32 of word x // 32. A 13 x 13 map is 13
words, so that a breadth-first search or a draw of a random level touches a tenth of the memory of a boolean map and no
index at all.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

__all__ = [
    "bit_rows", "count_bits", "map_bits", "pack_bits", "select_bit", "set_of_cells", "shift_columns", "shift_rows",
    "unpack_bits", "window",
]  # fmt: skip


def pack_bits(cells: jax.Array) -> jax.Array:
    """Turn bool[..., W] into u32[..., ceil(W / 32)]."""
    width = cells.shape[-1]
    words = []
    for start in range(0, width, 32):
        part = cells[..., start : start + 32]
        weight = jnp.uint32(1) << jnp.arange(part.shape[-1], dtype=jnp.uint32)
        words.append(jnp.sum(jnp.where(part, weight, jnp.uint32(0)), axis=-1, dtype=jnp.uint32))
    return jnp.stack(words, axis=-1)


def unpack_bits(words: jax.Array, width: int) -> jax.Array:
    """Turn u32[..., ceil(width / 32)] into bool[..., width]."""
    column = jnp.arange(width, dtype=jnp.uint32)
    spread = jnp.repeat(words, 32, axis=-1)[..., :width] if words.shape[-1] > 1 else words
    return (spread >> (column & 31)) & 1 == 1


def bit_rows(x: jax.Array, y: jax.Array, height: int, width: int) -> jax.Array:
    """Return the bitmap u32[height, ceil(width / 32)] with the one cell (x, y) set."""
    rows = jnp.arange(height)[:, None] == y
    words = jnp.arange(-(-width // 32))[None, :] == x >> 5
    return jnp.where(rows & words, jnp.uint32(1) << (x & 31).astype(jnp.uint32), jnp.uint32(0))


def set_of_cells(cells: jax.Array, chosen: jax.Array, height: int, width: int) -> jax.Array:
    """Return the bitmap u32[height, ceil(width / 32)] of several cells, numbered row by row; some may be equal.

    Args:
        cells: i32[k].
        chosen: bool[k], which of them count.
        height: H.
        width: W.
    """
    x, y = cells % width, cells // width
    row = (y[:, None, None] == jnp.arange(height)[None, :, None]) & chosen[:, None, None]
    word = (x >> 5)[:, None, None] == jnp.arange(-(-width // 32))
    bit = (jnp.uint32(1) << (x & 31).astype(jnp.uint32))[:, None, None]
    return lax.reduce(jnp.where(row & word, bit, jnp.uint32(0)), jnp.uint32(0), lax.bitwise_or, (0,))


def map_bits(width: int) -> jax.Array:
    """Return u32[ceil(width / 32)], a row with every cell set and no bit beyond the last column."""
    return pack_bits(jnp.ones((width,), bool))


def count_bits(words: jax.Array) -> jax.Array:
    """Return i32[], the number of set bits."""
    return jnp.sum(lax.population_count(words).astype(jnp.int32))


def shift_columns(words: jax.Array, by: int) -> jax.Array:
    """Move every cell one column to the right (`by` 1) or to the left (-1). What leaves on the left is lost.

    What leaves on the right may stay as a bit beyond the last column: mask the result with a map.
    """
    margin = [(0, 0, 0)] * (words.ndim - 1)
    zero = jnp.uint32(0)
    if by == 1:
        return (words << 1) | lax.pad(words, zero, [*margin, (1, -1, 0)]) >> 31
    return (words >> 1) | lax.pad(words, zero, [*margin, (-1, 1, 0)]) << 31


def shift_rows(words: jax.Array, by: int) -> jax.Array:
    """Move every cell of u32[..., H, n] one row down (`by` 1) or up (-1)."""
    margin = [(0, 0, 0)] * (words.ndim - 2)
    return lax.pad(words, jnp.uint32(0), [*margin, (by, -by, 0), (0, 0, 0)])


def window(words: jax.Array, start: jax.Array) -> jax.Array:
    """Return u32[...], the 32 bits from bit `start` on of u32[..., n]; `start` is i32[], and n > start // 32."""
    n = words.shape[-1]
    shift = (start & 31).astype(jnp.uint32)
    if n == 1:
        return words[..., 0] >> shift
    low = lax.dynamic_index_in_dim(words, start >> 5, axis=-1, keepdims=False)
    high = lax.dynamic_index_in_dim(words, jnp.minimum((start >> 5) + 1, n - 1), axis=-1, keepdims=False)
    return (low >> shift) | (high << (31 - shift)) << 1  # two shifts: one by 32 is undefined


def select_bit(words: jax.Array, rank: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Find the set bit that has `rank` set bits before it, counting row by row.

    Args:
        words: u32[H, n].
        rank: i32[], in [0, number of set bits).

    Returns:
        (x, y), i32[] each.
    """
    height, n = words.shape
    flat = words.reshape(height * n)
    count = lax.population_count(flat).astype(jnp.int32)
    # The word is the number of words at whose end the count is still at or below the rank.
    ends = jnp.cumsum(count)
    index = jnp.sum((ends <= rank).astype(jnp.int32))
    before = jnp.sum(jnp.where(jnp.arange(height * n) < index, count, 0))
    word = jnp.sum(jnp.where(jnp.arange(height * n) == index, flat, jnp.uint32(0)), dtype=jnp.uint32)
    # Within the word, halve the range five times: skip the low half when the rank lies beyond its set bits.
    rank = rank - before
    bit = jnp.int32(0)
    for half in (16, 8, 4, 2, 1):
        low = lax.population_count((word >> bit.astype(jnp.uint32)) & jnp.uint32((1 << half) - 1)).astype(jnp.int32)
        skip = rank >= low
        rank = jnp.where(skip, rank - low, rank)
        bit = jnp.where(skip, bit + half, bit)
    return (index % n) * 32 + bit, index // n
