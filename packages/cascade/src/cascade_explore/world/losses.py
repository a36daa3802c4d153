"""Losses of the heads and the ensemble's disagreement, as pure functions."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from cascade_explore.envs.spec import Numbers, Observed, Pixels, Symbols

__all__ = [
    "as_input", "continue_loss", "decoder_loss", "disagreement", "ensemble_loss", "most_probable", "symlog",
    "weighted_mean",
]  # fmt: skip


def symlog(x: Array) -> Array:
    """Return sign(x) log(1 + |x|), which bounds the scale of unknown observations (Hafner et al. 2023)."""
    return jnp.sign(x) * jnp.log1p(jnp.abs(x))


def as_input(observation: Array, kind: Observed) -> Array:
    """Return observations as the encoder takes them: one-hot symbols, symlog of numbers, pixels from -.5 to .5."""
    if isinstance(kind, Pixels):
        return observation.astype(jnp.float32) / 255.0 - 0.5
    if isinstance(kind, Numbers):
        return symlog(observation)
    entry, symbol, at = [], [], 0
    for entries, classes in kind.groups:
        entry.append(np.repeat(np.arange(at, at + entries), classes))
        symbol.append(np.tile(np.arange(classes), entries))
        at += entries
    return (observation[..., np.concatenate(entry)] == np.concatenate(symbol)).astype(jnp.float32)


def _groups(flat: Array, kind: Symbols) -> list[Array]:
    parts, at = [], 0
    for entries, classes in kind.groups:
        parts.append(flat[..., at : at + entries * classes].reshape(*flat.shape[:-1], entries, classes))
        at += entries * classes
    return parts


def decoder_loss(output: Array, target: Array, kind: Observed) -> Array:
    """Return -log p(observation), summed over entries: categorical for symbols, otherwise Gaussian of unit variance.

    Args:
        output: of the decoder, `[..., width]`.
        target: the observation as `as_input` gives it, `[..., width]`.
        kind: of the observation.
    """
    if not isinstance(kind, Symbols):
        return 0.5 * jnp.square(output - target).sum(-1)
    pairs = zip(_groups(output, kind), _groups(target, kind), strict=True)
    total = jnp.zeros(output.shape[:-1])
    for o, t in pairs:
        total -= (jax.nn.log_softmax(o) * t).sum((-2, -1))
    return total


def most_probable(output: Array, kind: Symbols) -> Array:
    """Return the most probable symbols of a decoder's output, uint8 `[..., n]`."""
    return jnp.concatenate([o.argmax(-1) for o in _groups(output, kind)], -1).astype(jnp.uint8)


def continue_loss(logit: Array, terminal: Array) -> Array:
    """Return -log p of a Bernoulli variable that is 0 where an episode ended for good, and 1 where it was cut."""
    return jax.nn.softplus(logit) - logit * (1.0 - terminal)


def ensemble_loss(predicted: Array, target: Array) -> Array:
    """Return -log N(target; predicted, 1) up to a constant, summed over dimensions and heads.

    Args:
        predicted: `[K, ..., D]`.
        target: the latent that followed, `[..., D]`; no gradient flows into it.
    """
    return 0.5 * jnp.square(predicted - jax.lax.stop_gradient(target)).sum((0, -1))


def disagreement(predicted: Array) -> Array:
    """Return the standard deviation over the K heads (ddof 0), averaged over the dimensions of `[K, ..., D]`.

    The gradient is 0 where all heads agree.
    """
    variance = predicted.var(0)
    some = variance > 1e-12
    return jnp.where(some, jnp.sqrt(jnp.where(some, variance, 1.0)), 0.0).mean(-1)


def weighted_mean(values: Array, weight: Array) -> Array:
    """Return the mean over entries of weight 1, and 0 where there are none."""
    return (values * weight).sum() / jnp.maximum(weight.sum(), 1.0)
