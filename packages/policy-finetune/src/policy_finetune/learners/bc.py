"""Behaviour cloning: the actor imitates the data; there are no critics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from policy_finetune.config import BCConfig
from policy_finetune.learners.base import (
    Batch,
    Info,
    LearnerState,
    Optimiser,
    cosine_rate,
    counted,
    each_batch,
)
from policy_finetune.learners.networks import actor_mean, init_actor

__all__ = ["BC", "gaussian_log_prob"]

#: Limits of log standard deviations, as implicit_q_learning has them.
LOG_STD_RANGE = (-5.0, 2.0)


def gaussian_log_prob(actor: dict[str, Any], mean: Array, action: Array) -> Array:
    """Return log N(a; mean, σ²) summed over dimensions, [B]; σ is one vector, not squashed, as in IQL."""
    log_std = jnp.clip(actor["log_std"], *LOG_STD_RANGE)
    z = (action - mean) * jnp.exp(-log_std)
    return (-0.5 * jnp.square(z) - log_std - 0.5 * jnp.log(2 * jnp.pi)).sum(-1)


class BC:
    """Squared error of the mean action ("mse"), or a Gaussian's likelihood ("mle")."""

    def __init__(self, config: BCConfig, obs_dim: int, act_dim: int) -> None:
        self.config = config
        self.sizes = obs_dim, act_dim
        self.optimiser = Optimiser(config.adam_eps, config.max_grad_norm)

    def init(self, key: Array) -> LearnerState:
        """Return the state before the first round."""
        net = self.config.network
        spread = "vector" if self.config.loss == "mle" else "none"
        actor = init_actor(key, *self.sizes, net.hidden, init=net.init, log_std=spread)
        zero = jnp.zeros((), jnp.int32)
        return LearnerState({"actor": actor}, {}, {"actor": self.optimiser.init(actor)}, None, zero, zero)

    def round(
        self, state: LearnerState, batches: Batch, key: Array, weights: Mapping[str, Array]
    ) -> tuple[LearnerState, Info]:
        """Do `policy_delay` updates of the actor (there is nothing else to update)."""
        keys = jax.random.split(key, self.config.policy_delay)
        return each_batch(lambda s, batch, k: self._step(s, batch, k, weights), state, batches, keys)

    def _step(
        self, state: LearnerState, batch: Batch, key: Array, weights: Mapping[str, Array]
    ) -> tuple[LearnerState, Info]:
        def loss(actor: Any) -> tuple[Array, Array]:
            mean = actor_mean(actor, batch.obs, dropout=self.config.actor_dropout, key=key)
            error = jnp.square(mean - batch.action).mean()
            if self.config.loss == "mse":
                return error, error
            return -gaussian_log_prob(actor, mean, batch.action).mean(), error

        lr = cosine_rate(weights["actor_lr"], state.rounds, steps=weights["actor_lr_steps"])
        value, error, actor, moments = self.optimiser.descend(loss, state, "actor", lr)
        updates, rounds = counted(state.updates), counted(state.rounds)
        state = state.replace(params={"actor": actor}, opt={"actor": moments}, updates=updates, rounds=rounds)
        return state, {"actor_loss": value, "bc_distance": error}
