"""Policies: one-hot actions, or actions in [-1, 1] from a truncated normal distribution."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.special import ndtr, ndtri
from jax.scipy.stats import norm

from cascade_explore.envs.spec import Actions

__all__ = ["Discrete", "TruncatedNormal", "distribution", "uniform_actions"]


class Discrete(NamedTuple):
    """A categorical distribution over one-hot actions.

    Attributes:
        logits: `[..., A]`.
    """

    logits: Array

    def sample(self, key: Array) -> Array:
        """Return one-hot actions, with the straight-through gradient of the probabilities."""
        p = jax.nn.softmax(self.logits)
        drawn = jax.nn.one_hot(jax.random.categorical(key, self.logits), p.shape[-1], dtype=p.dtype)
        return drawn + p - jax.lax.stop_gradient(p)

    def mode(self) -> Array:
        """Return the most probable action, one-hot."""
        return jax.nn.one_hot(self.logits.argmax(-1), self.logits.shape[-1])

    def log_prob(self, action: Array) -> Array:
        """Return the log probability of one-hot actions."""
        return (jax.nn.log_softmax(self.logits) * action).sum(-1)

    def entropy(self) -> Array:
        """Return the entropy in nats."""
        p = jax.nn.log_softmax(self.logits)
        return -(jnp.exp(p) * p).sum(-1)


class TruncatedNormal(NamedTuple):
    """Independent normal distributions, each cut to [-1, 1].

    Attributes:
        mean: of the normal before it is cut, `[..., A]`.
        std: its standard deviation.
    """

    mean: Array
    std: Array

    def _bounds(self) -> tuple[Array, Array]:
        return (-1.0 - self.mean) / self.std, (1.0 - self.mean) / self.std

    def _log_mass(self) -> Array:
        low, high = self._bounds()
        return jnp.log(jnp.maximum(ndtr(high) - ndtr(low), 1e-12))

    def sample(self, key: Array) -> Array:
        """Return actions by the inverse of the distribution function, so that gradients reach mean and deviation."""
        low, high = self._bounds()
        u = jax.random.uniform(key, self.mean.shape, minval=1e-6, maxval=1.0 - 1e-6)
        x = ndtri(jnp.clip(ndtr(low) + u * (ndtr(high) - ndtr(low)), 1e-7, 1.0 - 1e-7))
        return jnp.clip(self.mean + self.std * x, -1.0, 1.0)

    def mode(self) -> Array:
        """Return the mean of the normal, which lies within the bounds."""
        return jnp.clip(self.mean, -1.0, 1.0)

    def log_prob(self, action: Array) -> Array:
        """Return the log density, summed over dimensions."""
        return (norm.logpdf(action, self.mean, self.std) - self._log_mass()).sum(-1)

    def entropy(self) -> Array:
        """Return the differential entropy, summed over dimensions.

        `log(sqrt(2πe) σ Z) + (α φ(α) - β φ(β)) / (2 Z)` with α, β the bounds in units of σ and Z the mass between them.
        """
        low, high = self._bounds()
        log_mass = self._log_mass()
        edge = (low * norm.pdf(low) - high * norm.pdf(high)) / (2.0 * jnp.exp(log_mass))
        return (0.5 * jnp.log(2.0 * jnp.pi * jnp.e) + jnp.log(self.std) + log_mass + edge).sum(-1)


def distribution(output: Array, actions: Actions) -> Discrete | TruncatedNormal:
    """Return the distribution that a network's output describes: logits, or mean and deviation.

    Mean tanh(m), deviation 2 σ(s / 2) + .1 (Hafner et al. 2021).
    """
    if actions.discrete:
        return Discrete(output)
    mean, spread = jnp.split(output, 2, -1)
    return TruncatedNormal(jnp.tanh(mean), 2.0 * jax.nn.sigmoid(spread / 2.0) + 0.1)


def uniform_actions(actions: Actions, shape: tuple[int, ...], key: Array) -> Array:
    """Return actions drawn uniformly, `[*shape, A]`."""
    if actions.discrete:
        return jax.nn.one_hot(jax.random.randint(key, shape, 0, actions.size), actions.size)
    return jax.random.uniform(key, (*shape, actions.size), minval=-1.0, maxval=1.0)
