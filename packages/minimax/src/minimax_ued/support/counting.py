"""Counters of 64 bits on devices whose integers have 32: long runs of many environments pass 2**32.

A counter is u32 `[..., 2]`, the low word first.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

__all__ = ["add", "as_float", "before", "remainder", "value", "zero"]

_BITS = 32


def zero() -> Array:
    """Return a counter at 0, u32[2]."""
    return jnp.zeros(2, jnp.uint32)


def add(counter: Array, n: Array | int) -> Array:
    """Return the counter after `n` more, integers or bools below 2**32 whose shape broadcasts to the counters'."""
    low = counter[..., 0] + jnp.asarray(n).astype(jnp.uint32)
    return jnp.stack([low, counter[..., 1] + (low < counter[..., 0])], -1)


def before(counter: Array) -> Array:
    """Return the counter one count earlier; it is not at 0."""
    return jnp.stack([counter[..., 0] - 1, counter[..., 1] - (counter[..., 0] == 0)], -1)


def as_float(counter: Array) -> Array:
    """Return the count, rounded to f32."""
    return counter[..., 1].astype(jnp.float32) * 2.0**_BITS + counter[..., 0].astype(jnp.float32)


def remainder(counter: Array, n: int) -> Array:
    """Return the count modulo `n`, u32; 1 <= n <= 2**31."""
    divisor = jnp.uint32(n)
    rest = counter[..., 1] % divisor
    for bit in reversed(range(_BITS)):  # long division: twice the rest is below 2**32
        rest = (2 * rest + (counter[..., 0] >> bit & 1)) % divisor
    return rest


def value(counter: Array) -> np.ndarray:
    """Return the counts on the host, u64 without the last axis."""
    words = np.asarray(jax.device_get(counter)).astype(np.uint64)
    return words[..., 0] + (words[..., 1] << np.uint64(_BITS))
