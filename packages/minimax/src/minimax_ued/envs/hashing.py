"""Hashes of levels for `Environment.level_hash`."""

from __future__ import annotations

import jax
import jax.numpy as jnp

__all__ = ["hash_words"]


def hash_words(words: jax.Array) -> jax.Array:
    """Return u32[2], a 64-bit hash of u32[n] in which the place of each word counts.

    Every word is mixed with its place and then summed, so that the words need not wait for one another.
    """
    index = jnp.arange(words.shape[0], dtype=jnp.uint32)
    return jnp.stack(
        [jnp.sum(_mix(words ^ _mix(index + jnp.uint32(seed))), dtype=jnp.uint32) for seed in (0x9E3779B9, 0x7F4A7C15)]
    )


def _mix(word: jax.Array) -> jax.Array:
    """The finaliser of MurmurHash3 (A. Appleby, public domain): each input bit flips each output bit half the time."""
    word = (word ^ word >> 16) * jnp.uint32(0x85EBCA6B)
    word = (word ^ word >> 13) * jnp.uint32(0xC2B2AE35)
    return word ^ word >> 16
