"""Blocks that autoencoder and prior share."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

__all__ = ["AttentionBlock", "Cache", "ConvolutionBlock", "JoinedDense", "attend", "draw_parameters", "empty_cache"]


def draw_parameters(module: nn.Module, key: Array, *inputs: Array) -> Any:
    """Return a module's parameters as the paper initialises them: N(0, 0.02) for matrices, scales 1, the rest 0.

    All numbers come from one draw, which compiles many times faster than an initialiser for each layer.
    """
    shapes = jax.eval_shape(module.init, jax.random.key(0), *inputs)
    flat, structure = jax.tree_util.tree_flatten_with_path(shapes)
    sizes = [math.prod(leaf.shape) for _, leaf in flat]
    normal = jnp.split(0.02 * jax.random.normal(key, (sum(sizes),)), np.cumsum(sizes)[:-1])
    drawn = []
    for (path, leaf), numbers in zip(flat, normal, strict=True):
        kind = path[-1].key
        matrix = numbers.reshape(leaf.shape) if kind in ("kernel", "embedding") else jnp.zeros(leaf.shape)
        drawn.append(jnp.ones(leaf.shape) if kind == "scale" else matrix)
    return jax.tree_util.tree_unflatten(structure, drawn)


class Cache(NamedTuple):
    """Keys and values of the tokens so far.

    Attributes:
        keys: [B, H, T, d / H]; tokens that have not come yet hold zeros.
        values: likewise.
    """

    keys: Array
    values: Array


def empty_cache(batch: int, heads: int, length: int, width: int) -> Cache:
    """Return the cache before the first token."""
    zeros = jnp.zeros((batch, heads, length, width // heads))
    return Cache(zeros, zeros)


def attend(queries: Array, keys: Array, values: Array, mask: Array) -> Array:
    """Return softmax(Q K' / sqrt(d)) V where `mask` allows.

    Args:
        queries: [B, H, Q, d].
        keys: [B, H, T, d].
        values: [B, H, T, d].
        mask: booleans [Q, T], True where a query sees a key.
    """
    scores = jnp.einsum("bhqd,bhtd->bhqt", queries, keys) / jnp.sqrt(queries.shape[-1])
    weights = jax.nn.softmax(jnp.where(mask, scores, -jnp.inf), axis=-1)
    return jnp.einsum("bhqt,bhtd->bhqd", weights, values)


class AttentionBlock(nn.Module):
    """Post-norm causal self-attention and a perceptron, as in the paper: x = LN(x + MHA(x)), x = LN(x + MLP(x)).

    Attributes:
        width: d.
        heads: H.
        dropout: on both branches.
    """

    width: int
    heads: int
    dropout: float = 0.0

    def setup(self) -> None:
        """Make the layers."""
        self.project = nn.Dense(3 * self.width)
        self.out = nn.Dense(self.width)
        self.up, self.down = nn.Dense(4 * self.width), nn.Dense(self.width)
        self.first, self.second = nn.LayerNorm(), nn.LayerNorm()
        self.drop = nn.Dropout(self.dropout)

    def __call__(self, x: Array, *, learn: bool = False) -> Array:
        """Return [B, T, d] of [B, T, d]; step t sees the steps up to t."""
        queries, keys, values = self._split(x)
        seen = jnp.tril(jnp.ones((x.shape[1], x.shape[1]), bool))
        return self._finish(x, attend(queries, keys, values, seen), learn)

    def step(self, x: Array, cache: Cache, at: Array) -> tuple[Array, Cache]:
        """Return the output for one more token [B, 1, d] at position `at`, and the cache with it."""
        queries, keys, values = self._split(x)
        start = (0, 0, at, 0)
        cache = Cache(
            jax.lax.dynamic_update_slice(cache.keys, keys, start),
            jax.lax.dynamic_update_slice(cache.values, values, start),
        )
        seen = (jnp.arange(cache.keys.shape[2]) <= at)[None]
        return self._finish(x, attend(queries, cache.keys, cache.values, seen), False), cache

    def _split(self, x: Array) -> tuple[Array, Array, Array]:
        parts = self.project(x).reshape(*x.shape[:2], 3, self.heads, -1)  # (B, T, 3, H, d / H)
        queries, keys, values = jnp.moveaxis(parts, (2, 3), (0, 2))  # each (B, H, T, d / H)
        return queries, keys, values

    def _finish(self, x: Array, attended: Array, learn: bool) -> Array:
        merged = jnp.moveaxis(attended, 1, 2).reshape(x.shape)
        x = self.first(x + self.drop(self.out(merged), deterministic=not learn))
        hidden = self.down(jax.nn.gelu(self.up(x), approximate=False))
        return self.second(x + self.drop(hidden, deterministic=not learn))


class JoinedDense(nn.Module):
    """One dense layer on several inputs side by side, each at its own rate: the sum is what broadcasting makes of it.

    Equals `flax.linen.Dense` on the concatenation of the broadcast inputs, without the products that would repeat.

    Attributes:
        width: d.
    """

    width: int

    @nn.compact
    def __call__(self, *inputs: Array) -> list[Array]:
        """Return a part [..., d] for each input [..., D_i]; the bias is in the first."""
        sizes = [x.shape[-1] for x in inputs]
        kernel = self.param("kernel", nn.initializers.normal(0.02), (sum(sizes), self.width))
        bias = self.param("bias", nn.initializers.zeros, (self.width,))
        pieces = jnp.split(kernel, np.cumsum(sizes)[:-1])
        first, *others = (x @ piece for x, piece in zip(inputs, pieces, strict=True))
        return [first + bias, *others]


class ConvolutionBlock(nn.Module):
    """Two causal convolutions over time with an identity skip.

    The reference normalises groups over channels and time, by which step t learns of later steps. Here the groups are
    of channels alone, so that the block is causal.

    Attributes:
        width: d.
        groups: of channels that are normalised together.
    """

    width: int
    groups: int = 8

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Return [B, T, d] of [B, T, d]; step t sees the steps up to t."""
        hidden = x
        for number in range(2):
            # A convolution of width 3 as one matrix product: on a CPU XLA's convolutions are slow under vmap.
            padded = jnp.pad(hidden, ((0, 0), (2, 0), (0, 0)))
            hidden = nn.Dense(self.width)(jnp.concatenate([padded[:, :-2], padded[:, 1:-1], padded[:, 2:]], -1))
            hidden = mish(ChannelGroups(self.groups, name=f"GroupNorm_{number}")(hidden))
        return x + hidden


class ChannelGroups(nn.Module):
    """Group normalisation of each step by itself: mean 0 and variance 1 over groups of neighbouring channels.

    Equals `flax.linen.GroupNorm(reduction_axes=(-1,))`, in a form that XLA compiles to a fifth of the time on a CPU.

    Attributes:
        groups: of channels.
    """

    groups: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Return [..., d] of [..., d]."""
        split = x.reshape(*x.shape[:-1], self.groups, -1)
        mean = split.mean(-1, keepdims=True)
        variance = jnp.maximum((split * split).mean(-1, keepdims=True) - mean * mean, 0.0)
        scale = self.param("scale", nn.initializers.ones, x.shape[-1:])
        bias = self.param("bias", nn.initializers.zeros, x.shape[-1:])
        return ((split - mean) * jax.lax.rsqrt(variance + 1e-6)).reshape(x.shape) * scale + bias


def mish(x: Array) -> Array:
    """Return x tanh(log(1 + e^x)), Misra (2020), by one exponential: tanh(log(1 + n)) = n (n + 2) / (n (n + 2) + 2)."""
    n = jnp.exp(jnp.minimum(x, 20.0))  # from there on the quotient is 1 in single precision
    n = n * (n + 2)
    return x * (n / (n + 2))
