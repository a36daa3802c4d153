"""The prior: a causal transformer over the codes of a window, given its first state."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from hgap.config import Width
from hgap.model.layers import AttentionBlock, Cache, empty_cache

__all__ = ["Prior"]


class Prior(nn.Module):
    """p(z_1 ... z_n | s_1).

    The input at position i is the embedding of z_(i-1) (zero for the first), a position, and a projection of s_1.

    Attributes:
        size: of the transformer.
        vocabulary: K.
        tokens: n.
    """

    size: Width
    vocabulary: int
    tokens: int

    def setup(self) -> None:
        """Make the layers."""
        width = self.size.width
        self.embedding = nn.Embed(self.vocabulary, width)
        self.positions = self.param("positions", nn.initializers.zeros, (self.tokens, width))
        self.state = nn.Dense(width)
        self.blocks = [AttentionBlock(width, self.size.heads, self.size.dropout) for _ in range(self.size.blocks)]
        self.norm = nn.LayerNorm()
        self.head = nn.Dense(self.vocabulary, use_bias=False)
        self.drop = nn.Dropout(self.size.dropout)

    def __call__(self, codes: Array, first: Array, *, learn: bool = False) -> Array:
        """Return logits [B, n, K] of codes [B, n] and first states [B, S]; those at i see the codes before i only."""
        before = self.embedding(codes[:, :-1])
        before = jnp.concatenate([jnp.zeros_like(before[:, :1]), before], 1) if self.tokens > 1 else 0.0
        x = before + self.positions + self.state(first)[:, None]
        x = self.drop(x, deterministic=not learn)
        for block in self.blocks:
            x = block(x, learn=learn)
        return self.head(self.norm(x))

    def step(self, code: Array, first: Array, at: Array, cache: Any) -> tuple[Array, tuple[Cache, ...]]:
        """Return the logits [B, K] at position `at`, and the cache with it.

        Args:
            code: z_(at - 1), int32 [B]; ignored at position 0.
            first: the first states [B, S].
            at: the position, a number.
            cache: of the positions before; `empty` at first.
        """
        before = jnp.where(at == 0, 0.0, self.embedding(code))
        x = (before + self.positions[at] + self.state(first))[:, None]
        kept = []
        for block, old in zip(self.blocks, cache, strict=True):
            x, new = block.step(x, old, at)
            kept.append(new)
        return self.head(self.norm(x[:, 0])), tuple(kept)

    def empty(self, batch: int) -> tuple[Cache, ...]:
        """Return the cache before the first position: keys and values of every layer."""
        size = self.size
        return tuple(empty_cache(batch, size.heads, self.tokens, size.width) for _ in range(size.blocks))
