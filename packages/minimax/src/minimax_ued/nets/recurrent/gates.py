"""What gated recurrent units share: the initial kernels, and the mask of resets."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array

__all__ = ["keep_mask", "orthogonal_per_gate"]


def orthogonal_per_gate(gates: int) -> nn.initializers.Initializer:
    """Return an initialiser of kernels `[D, gates * H]`: an orthogonal one for each gate, side by side.

    One after the other, never by vmap: batched QR decompositions can block for good on a machine with few cores (seen
    with jaxlib 0.10 on two).
    """

    def init(key: Array, shape: tuple[int, int]) -> Array:
        orthogonal = nn.initializers.orthogonal()
        gate = (shape[0], shape[1] // gates)
        return jnp.concatenate([orthogonal(k, gate) for k in jax.random.split(key, gates)], axis=-1)

    return init


def keep_mask(resets: Array, like: Array) -> Array:
    """Return 0 where `resets` is true, else 1: `[...]` -> `[..., 1]`, in the type of `like`."""
    return (~resets)[..., None].astype(like.dtype)
