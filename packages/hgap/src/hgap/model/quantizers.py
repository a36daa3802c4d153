"""Quantisers: features to codes and codes to vectors, by a learned codebook, by several, or by rounding.

All have the same four functions of an explicit state, which the optimiser never touches. D is the size of a slice, Q
the codes for each slice.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax import Array

from hgap.config import EMA, FSQ, Residual

__all__ = [
    "Codebook", "FiniteScalars", "MovingAverage", "Quantizer", "ResidualCodebooks", "ema_update", "make_quantizer",
    "nearest", "perplexity", "revive", "usage",
]  # fmt: skip


class Quantizer(Protocol):
    """Rounds slices of features to codes.

    Attributes:
        size: D.
        depth: Q.
        vocabulary: how many values a code has.
    """

    size: int
    depth: int
    vocabulary: int

    def init(self, key: Array) -> Any:
        """Return the state before the first update."""
        ...

    def features(self, z: Array) -> Array:
        """Return what is rounded, [..., D] of [..., D]: the features, or a bounded form of them."""
        ...

    def encode(self, state: Any, z: Array) -> Array:
        """Return codes, int32 [..., Q], of bounded features [..., D]."""
        ...

    def decode(self, state: Any, codes: Array) -> Array:
        """Return vectors [..., D] of codes [..., Q]."""
        ...

    def update(self, state: Any, z: Array, key: Array) -> Any:
        """Return the state after a batch of bounded features [M, D]."""
        ...


class Codebook(NamedTuple):
    """A codebook and the averages that it is made of.

    Attributes:
        vectors: [K, D], a code's average member.
        counts: [K], average members in a batch.
        sums: [K, D], average sums of members.
    """

    vectors: Array
    counts: Array
    sums: Array


def nearest(z: Array, vectors: Array) -> Array:
    """Return the index of the nearest vector by Euclidean distance, int32 [...], for [..., D] and [K, D].

    Ties go to the lowest index, and a vector that is not finite is never chosen.
    """
    # |z - e|^2 = |z|^2 - 2 z e + |e|^2, and |z|^2 is the same for all codes.
    distance = (vectors**2).sum(-1) - 2 * z @ vectors.T
    return jnp.argmin(jnp.where(jnp.isfinite(distance), distance, jnp.inf), axis=-1).astype(jnp.int32)


def ema_update(book: Codebook, z: Array, codes: Array, *, decay: float, smoothing: float) -> Codebook:
    """Return the codebook after a batch (van den Oord et al., 2017, appendix A.1).

    N_k <- d N_k + (1 - d) n_k and m_k <- d m_k + (1 - d) sum of the members of k; the vector is m_k / N_k, with Laplace
    smoothing of N_k. The vector of a code whose count has fallen below 1e-3 stays as it is: counts and sums of a code
    without members shrink together, the smoothing would pull their ratio to zero, and at last it would be arbitrary.

    Args:
        book: the codebook.
        z: features [M, D].
        codes: of each, int32 [M].
        decay: d.
        smoothing: epsilon of N_k <- (N_k + epsilon) / (N + K epsilon) N.
    """
    size = len(book.counts)
    members = jax.nn.one_hot(codes, size, dtype=z.dtype)  # (M, K)
    counts = decay * book.counts + (1 - decay) * members.sum(0)
    sums = decay * book.sums + (1 - decay) * members.T @ z
    whole = counts.sum()
    smooth = (counts + smoothing) / (whole + size * smoothing) * whole
    alive = counts > 1e-3
    vectors = jnp.where(alive[:, None], sums / jnp.where(alive, smooth, 1.0)[:, None], book.vectors)
    return Codebook(vectors, counts, sums)


def revive(book: Codebook, z: Array, key: Array, *, below: float) -> Codebook:
    """Move codes whose average count is below `below` onto features of the batch, drawn with replacement.

    A moved code starts with a count of 1, so that it has the time to find members.
    """
    size = len(book.counts)
    dead = book.counts < below
    moved = z[jax.random.randint(key, (size,), 0, len(z))]
    return Codebook(
        jnp.where(dead[:, None], moved, book.vectors),
        jnp.where(dead, 1.0, book.counts),
        jnp.where(dead[:, None], moved, book.sums),
    )


class MovingAverage:
    """One codebook, shared by all slices."""

    depth = 1

    def __init__(self, settings: EMA | Residual) -> None:
        self.settings, self.size, self.vocabulary = settings, settings.size, settings.codes

    def init(self, key: Array) -> Codebook:
        """Return U(-1/K, 1/K), each code with a count of 1."""
        bound = 1 / self.vocabulary
        vectors = jax.random.uniform(key, (self.vocabulary, self.size), minval=-bound, maxval=bound)
        return Codebook(vectors, jnp.ones(self.vocabulary), jnp.array(vectors))

    def features(self, z: Array) -> Array:
        """Return the features themselves."""
        return z

    def encode(self, state: Codebook, z: Array) -> Array:
        """Return the nearest code, [..., 1]."""
        return nearest(z, state.vectors)[..., None]

    def decode(self, state: Codebook, codes: Array) -> Array:
        """Return vectors of codes [..., 1]."""
        return state.vectors[codes[..., 0]]

    def update(self, state: Codebook, z: Array, key: Array) -> Codebook:
        """Return the codebook after a batch [M, D]: one moving average, then dead codes revived."""
        settings = self.settings
        codes = nearest(z, state.vectors)
        book = ema_update(state, z, codes, decay=settings.decay, smoothing=settings.smoothing)
        return revive(book, z, key, below=settings.revive_below) if settings.revive_below else book


class ResidualCodebooks:
    """Codebooks of which each rounds what the ones before it left over; a state is their stack."""

    def __init__(self, settings: Residual) -> None:
        self.depth, self.size, self.vocabulary = settings.stages, settings.size, settings.codes
        self._stage = MovingAverage(settings)

    def init(self, key: Array) -> Codebook:
        """Return the codebooks with a leading axis of stages."""
        return jax.vmap(self._stage.init)(jax.random.split(key, self.depth))

    def features(self, z: Array) -> Array:
        """Return the features themselves."""
        return z

    def encode(self, state: Codebook, z: Array) -> Array:
        """Return a code of each stage, [..., Q]."""

        def stage(rest: Array, book: Codebook) -> tuple[Array, Array]:
            codes = nearest(rest, book.vectors)
            return rest - book.vectors[codes], codes

        return jnp.moveaxis(jax.lax.scan(stage, z, state)[1], 0, -1)

    def decode(self, state: Codebook, codes: Array) -> Array:
        """Return the sum of the stages' vectors."""
        parts = jax.vmap(lambda vectors, code: vectors[code])(state.vectors, jnp.moveaxis(codes, -1, 0))
        return parts.sum(0)

    def update(self, state: Codebook, z: Array, key: Array) -> Codebook:
        """Return the codebooks after a batch, each updated by what was left for it."""

        def stage(rest: Array, both: tuple[Codebook, Array]) -> tuple[Array, Codebook]:
            book, key = both
            chosen = book.vectors[nearest(rest, book.vectors)]
            return rest - chosen, self._stage.update(book, rest, key)

        return jax.lax.scan(stage, z, (state, jax.random.split(key, self.depth)))[1]


class FiniteScalars:
    """Every number is bounded and rounded to one of its levels; nothing is learned.

    Mentzer et al., Finite scalar quantization: VQ-VAE made simple (ICLR 2024).
    """

    depth = 1

    def __init__(self, settings: FSQ) -> None:
        self.levels, self.size, self.vocabulary = settings.levels, settings.size, settings.vocabulary

    def init(self, key: Array) -> tuple[()]:
        """Return nothing: there is no state."""
        return ()

    def features(self, z: Array) -> Array:
        """Return the features bounded so that rounding gives one of the levels: tanh(z + shift) half - offset."""
        levels = jnp.asarray(self.levels, z.dtype)
        half = (levels - 1) * (1 + 1e-3) / 2
        offset = jnp.where(levels % 2 == 0, 0.5, 0.0)
        bounded = jnp.tanh(z + jnp.arctanh(offset / half)) * half - offset
        return bounded / (levels // 2)

    def encode(self, state: tuple[()], z: Array) -> Array:
        """Return codes [..., 1]: the levels as digits, the first one counting singly."""
        half = jnp.asarray(self.levels) // 2
        digits = (jnp.round(z * half) + half).astype(jnp.int32)
        return (digits * self._basis()).sum(-1, keepdims=True).astype(jnp.int32)

    def decode(self, state: tuple[()], codes: Array) -> Array:
        """Return the levels of codes [..., 1], scaled into [-1, 1]."""
        levels = jnp.asarray(self.levels)
        digits = codes // self._basis() % levels
        return (digits - levels // 2) / (levels // 2).astype(jnp.float32)

    def update(self, state: tuple[()], z: Array, key: Array) -> tuple[()]:
        """Return nothing."""
        return ()

    def _basis(self) -> Array:
        return jnp.cumprod(jnp.asarray((1, *self.levels[:-1])))


def make_quantizer(settings: EMA | Residual | FSQ) -> Quantizer:
    """Return the quantiser that settings describe."""
    if isinstance(settings, EMA):
        return MovingAverage(settings)
    if isinstance(settings, Residual):
        return ResidualCodebooks(settings)
    return FiniteScalars(settings)


def usage(codes: Array, vocabulary: int) -> Array:
    """Return the share of the vocabulary that occurs in `codes`."""
    return (jnp.bincount(codes.ravel(), length=vocabulary) > 0).mean()


def perplexity(codes: Array, vocabulary: int) -> Array:
    """Return exp of the entropy of the codes' frequencies: how many codes are in use as if equally often."""
    frequency = jnp.bincount(codes.ravel(), length=vocabulary) / codes.size
    return jnp.exp(-(frequency * jnp.log(jnp.maximum(frequency, 1e-12))).sum())
