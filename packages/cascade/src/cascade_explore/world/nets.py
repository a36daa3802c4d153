"""Networks of the world model, in flax linen. Parameters and outputs are float32; layers may compute in bfloat16."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from cascade_explore.config import WorldModel
from cascade_explore.world.categorical import mix_uniform

__all__ = ["MLP", "RSSM", "ImageDecoder", "ImageEncoder", "LayerNormGRU", "apply", "block_by_block", "dense"]


def apply(module: nn.Module, params: Any, *inputs: Array, method: Any = None) -> Any:
    """Return what a module makes of its inputs, as `module.apply` does where nothing is mutable."""
    return module.apply(params, *inputs, method=method)


#: Rows whose activations stay in the cache of a processor's core.
BLOCK = 256


def block_by_block(function: Callable[..., Array], *inputs: Array) -> Array:
    """Return what a function of rows makes of inputs `[..., n]`, on a CPU in blocks of rows.

    What lies between the layers is then read from the cache, and made again for a gradient. The numbers are those of
    all rows at once but for rounding, and the ensemble's take half the time. Other devices take all rows at once.

    Args:
        function: one row of each input, `[n]`, or rows of any leading shape -> an array for each row.
        inputs: with the same leading shape.
    """
    shape = inputs[0].shape[:-1]
    if jax.default_backend() != "cpu" or math.prod(shape) <= BLOCK:
        return function(*inputs)
    flat = [x.reshape(-1, x.shape[-1]) for x in inputs]
    found = jax.lax.map(jax.checkpoint(lambda row: function(*row)), flat, batch_size=BLOCK)
    return found.reshape(*shape, *found.shape[1:])


def dense(width: int, dtype: str = "float32") -> nn.Dense:
    """Return a linear layer with the initial weights of DreamerV2's, uniform after Glorot and Bengio (2010)."""
    return nn.Dense(width, kernel_init=nn.initializers.glorot_uniform(), dtype=jnp.dtype(dtype))


class MLP(nn.Module):
    """Dense layers with ELU, then a linear one unless `out` is 0. LayerNorm is computed in float32."""

    out: int
    units: int
    layers: int
    norm: bool = False
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Return the output, `[..., out]`."""
        for _ in range(self.layers):
            x = dense(self.units, self.dtype)(x)
            x = nn.elu(nn.LayerNorm(dtype=jnp.float32)(x) if self.norm else x)
        return (dense(self.out, self.dtype)(x) if self.out else x).astype(jnp.float32)


class ImageEncoder(nn.Module):
    """DreamerV2's four convolutions of stride 2, 64 x 64 to 2 x 2, and a dense layer; `[..., 64 · 64 · C]` flat."""

    channels: int
    depth: int
    units: int
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Return the embedding, `[..., units]`."""
        shape, dtype = x.shape[:-1], jnp.dtype(self.dtype)
        x = x.reshape(-1, 64, 64, self.channels)
        for i in range(4):
            x = nn.elu(nn.Conv(self.depth * 2**i, (4, 4), 2, padding="VALID", dtype=dtype)(x))
        x = nn.elu(dense(self.units, self.dtype)(x.reshape(*shape, -1)))
        return x.astype(jnp.float32)


class ImageDecoder(nn.Module):
    """DreamerV2's four transposed convolutions, 1 x 1 to 5, 13, 30 and 64."""

    channels: int
    depth: int
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Return the mean image, flat, `[..., 64 · 64 · C]`."""
        shape, dtype, last = x.shape[:-1], jnp.dtype(self.dtype), 3
        x = dense(32 * self.depth, self.dtype)(x).reshape(-1, 1, 1, 32 * self.depth)
        widths = (4 * self.depth, 2 * self.depth, self.depth, self.channels)
        for i, (width, kernel) in enumerate(zip(widths, (5, 5, 6, 6), strict=True)):
            x = nn.ConvTranspose(width, (kernel, kernel), (2, 2), padding="VALID", dtype=dtype)(x)
            x = x if i == last else nn.elu(x)
        return x.reshape(*shape, -1).astype(jnp.float32)


class LayerNormGRU(nn.Module):
    """The GRU of DreamerV2.

    `r, c, u = split(LayerNorm(W [x, h] + b))`, `c' = tanh(σ(r) c)`, `u' = σ(u - 1)`, `h' = u' c' + (1 - u') h`: the
    reset gate multiplies the candidate, and the bias -1 makes the state persist at first.
    """

    width: int
    dtype: str = "float32"

    @nn.compact
    def __call__(self, h: Array, x: Array) -> Array:
        """Return the next state `[..., width]`."""
        parts = dense(3 * self.width, self.dtype)(jnp.concatenate([x, h], -1))
        reset, candidate, update = jnp.split(nn.LayerNorm(dtype=jnp.float32)(parts), 3, -1)
        candidate = jnp.tanh(jax.nn.sigmoid(reset) * candidate)
        update = jax.nn.sigmoid(update - 1.0)
        return update * candidate + (1.0 - update) * h


class RSSM(nn.Module):
    """h' = f(h, z, a); prior p(z | h); posterior q(z | h, e). Latents are `groups` one-hot vectors of `classes`."""

    config: WorldModel

    def setup(self) -> None:
        """Make the parts."""
        c = self.config
        self.enter = MLP(0, c.hidden, 1, c.norm, c.precision)
        self.cell = LayerNormGRU(c.deter, c.precision)
        self.prior_net = MLP(c.groups * c.classes, c.hidden, 1, c.norm, c.precision)
        self.post_net = MLP(c.groups * c.classes, c.hidden, 1, c.norm, c.precision)

    def advance(self, h: Array, z: Array, action: Array) -> tuple[Array, Array]:
        """Return the next recurrent state `[..., D]` and the logits of its prior `[..., G, C]`; z is flat."""
        h = self.cell(h, self.enter(jnp.concatenate([z, action], -1)))
        return h, self._logits(self.prior_net(h))

    def posterior(self, h: Array, embedded: Array) -> Array:
        """Return the logits of the latent given an encoded observation, `[..., G, C]`."""
        return self._logits(self.post_net(jnp.concatenate([h, embedded], -1)))

    def _logits(self, flat: Array) -> Array:
        c = self.config
        return mix_uniform(flat.reshape(*flat.shape[:-1], c.groups, c.classes), c.unimix)

    def __call__(self, h: Array, z: Array, action: Array, embedded: Array) -> Array:
        """Touch every parameter, for initialisation."""
        h, _ = self.advance(h, z, action)
        return self.posterior(h, embedded)
