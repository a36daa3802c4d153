"""ORIL: rewards by a discriminator of demonstrations against data (Zolna et al. 2020, arXiv 2011.13885)."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from otr.config import ORILConfig
from otr.episodes.features import Features
from otr.labellers.interface import Labels
from paperloop_data import EpisodeDataset

__all__ = ["FittedORIL", "discriminator_loss"]

Parameters = list[tuple[jax.Array, jax.Array]]

#: Rows that the discriminator is given at once when labelling; the last block is padded, so that a row's label does not
#: depend on how many others there are.
BLOCK = 4096


def _logits(parameters: Parameters, x: jax.Array) -> jax.Array:
    """(B, D) -> (B,)."""
    for weight, bias in parameters[:-1]:
        x = jax.nn.relu(x @ weight + bias)
    weight, bias = parameters[-1]
    return (x @ weight + bias)[:, 0]


def discriminator_loss(expert: jax.Array, unlabelled: jax.Array, gamma: float | None) -> jax.Array:
    """Return the loss of D = sigmoid(logit) on logits (B,) of demonstration and data steps.

    Logistic regression, E_e[-log D] + E_u[-log(1 - D)]; or with a share `gamma` of positives among the unlabelled
    (Xu & Denil 2021), gamma E_e[-log D] + E_u[-log(1 - D)] - gamma E_e[-log(1 - D)].
    """
    yes, no = -jax.nn.log_sigmoid(expert), -jax.nn.log_sigmoid(-expert)
    unlabelled_no = jnp.mean(-jax.nn.log_sigmoid(-unlabelled))
    if gamma is None:
        return jnp.mean(yes) + unlabelled_no
    return gamma * jnp.mean(yes) + unlabelled_no - gamma * jnp.mean(no)


@functools.partial(jax.jit, static_argnums=0)
def _train(config: ORILConfig, key: jax.Array, expert: jax.Array, data: jax.Array) -> tuple[Parameters, jax.Array]:
    """Train by Adam (Kingma & Ba 2015); returns parameters and the losses of all steps."""
    widths = (expert.shape[1], *config.hidden, 1)
    parameters: Parameters = []
    for fan_in, fan_out in itertools.pairwise(widths):
        key, part = jax.random.split(key)
        weight = jax.nn.initializers.glorot_uniform()(part, (fan_in, fan_out))
        parameters.append((weight, jnp.zeros(fan_out)))
    zeros = jax.tree.map(jnp.zeros_like, parameters)

    def loss(parameters: Parameters, key: jax.Array) -> jax.Array:
        first, second = jax.random.split(key)
        e = expert[jax.random.randint(first, (config.batch,), 0, len(expert))]
        u = data[jax.random.randint(second, (config.batch,), 0, len(data))]
        return discriminator_loss(_logits(parameters, e), _logits(parameters, u), config.positive_unlabelled)

    def step(carry: Any, number: jax.Array) -> Any:
        parameters, m, v = carry
        value, gradient = jax.value_and_grad(loss)(parameters, jax.random.fold_in(key, number))
        t = number.astype(jnp.float32) + 1
        m = jax.tree.map(lambda a, g: 0.9 * a + 0.1 * g, m, gradient)
        v = jax.tree.map(lambda a, g: 0.999 * a + 0.001 * g * g, v, gradient)
        parameters = jax.tree.map(
            lambda p, a, b: p - config.learning_rate * (a / (1 - 0.9**t)) / (jnp.sqrt(b / (1 - 0.999**t)) + 1e-8),
            parameters,
            m,
            v,
        )
        return (parameters, m, v), value

    (parameters, _, _), losses = lax.scan(step, (parameters, zeros, zeros), jnp.arange(config.steps))
    return parameters, losses


class FittedORIL:
    """A trained discriminator. `losses` are those of its training."""

    def __init__(self, config: ORILConfig, demos: EpisodeDataset, data: EpisodeDataset) -> None:
        self._features = Features(config.features, demos, data)
        expert, unlabelled = (jnp.asarray(self._features(part), jnp.float32) for part in (demos, data))
        self._parameters, losses = _train(config, jax.random.key(config.seed), expert, unlabelled)
        self.losses = np.asarray(losses)

    def label(self, data: EpisodeDataset) -> Labels:
        """See `Fitted.label`. The reward is D(s)."""
        values = self._features(data).astype(np.float32)
        logits = np.empty(len(values), np.float32)
        for first in range(0, len(values), BLOCK):
            block = values[first : first + BLOCK]
            padded = np.pad(block, ((0, BLOCK - len(block)), (0, 0)))
            logits[first : first + len(block)] = np.asarray(_apply(self._parameters, padded))[: len(block)]
        return Labels((1 / (1 + np.exp(-logits.astype(np.float64)))).astype(np.float32))

    def describe(self) -> Mapping[str, Any]:
        """See `Fitted.describe`."""
        return {"final_loss": float(self.losses[-100:].mean())}


_apply = jax.jit(_logits)
