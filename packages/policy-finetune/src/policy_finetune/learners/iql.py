"""Implicit Q-learning (Kostrikov et al. 2021, arXiv 2110.06169).

    L_V = E[|τ - 1(d < 0)| d²],   d = min_i Q'_i(s, a) - V(s)
    L_Q = Σ_i E[(Q_i(s, a) - r - γ (1 - done) V(s'))²]
    L_π = -E[min(exp(β A), 100) log π(a | s)],   A = min_i Q'_i(s, a) - V(s)

The policy is a Gaussian around tanh(mean) with one standard deviation a dimension; it acts by its mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from policy_finetune.config import IQLConfig
from policy_finetune.learners.base import (
    Batch,
    Info,
    LearnerState,
    Optimiser,
    bellman_target,
    copy,
    cosine_rate,
    counted,
    each_batch,
    init_critics,
    polyak,
    select,
    squared_error,
)
from policy_finetune.learners.bc import gaussian_log_prob
from policy_finetune.learners.networks import actor_mean, init_actor, init_layers, layers_forward, q_values

__all__ = ["IQL", "advantage_weights", "expectile_loss"]


def expectile_loss(difference: Array, *, expectile: Array | float) -> Array:
    """Return |τ - 1(d < 0)| d², elementwise (IQL, eq. 5); half the square at τ = 0.5."""
    return jnp.where(difference > 0, expectile, 1.0 - expectile) * jnp.square(difference)


def advantage_weights(advantage: Array, *, temperature: Array | float, largest: Array | float) -> Array:
    """Return min(exp(β A), largest), elementwise: how much each action is imitated (IQL, eq. 7)."""
    return jnp.minimum(jnp.exp(temperature * advantage), largest)


class IQL:
    """Value, actor and critics are updated in turn, each `policy_delay` times a round (the preset has 1).

    The order is the original code's: value first, then actor and critics by the *new* value. `stale_value` is CORL's,
    where both use the value from before its update.
    """

    def __init__(self, config: IQLConfig, obs_dim: int, act_dim: int) -> None:
        self.config = config
        self.sizes = obs_dim, act_dim
        self.optimiser = Optimiser(config.adam_eps, config.max_grad_norm)

    def init(self, key: Array) -> LearnerState:
        """Return the state before the first round."""
        net, (obs_dim, act_dim) = self.config.network, self.sizes
        actor_key, critic_key, value_key = jax.random.split(key, 3)
        critic = init_critics(critic_key, net, obs_dim, act_dim)
        params = {
            "actor": init_actor(actor_key, obs_dim, act_dim, net.hidden, init=net.init, log_std="vector"),
            "critic": critic,
            "value": init_layers(value_key, [obs_dim, *net.hidden, 1], init=net.init, layer_norm=net.layer_norm),
        }
        zero = jnp.zeros((), jnp.int32)
        moments = {name: self.optimiser.init(value) for name, value in params.items()}
        return LearnerState(params, {"critic": copy(critic)}, moments, None, zero, zero)

    def round(
        self, state: LearnerState, batches: Batch, key: Array, weights: Mapping[str, Array]
    ) -> tuple[LearnerState, Info]:
        """Do `policy_delay` updates of everything."""
        keys = jax.random.split(key, self.config.policy_delay)
        return each_batch(lambda s, batch, k: self._step(s, batch, k, weights), state, batches, keys)

    def _step(
        self, state: LearnerState, batch: Batch, key: Array, weights: Mapping[str, Array]
    ) -> tuple[LearnerState, Info]:
        q = q_values(state.target["critic"], batch.obs, batch.action).min(0)

        def value_loss(layers: Any) -> tuple[Array, Array]:
            v = layers_forward(layers, batch.obs)[:, 0]
            return expectile_loss(q - v, expectile=weights["expectile"]).mean(), v

        v_loss, v, value, value_moments = self.optimiser.descend(value_loss, state, "value", weights["critic_lr"])
        if self.config.stale_value:
            advantage, next_layers = q - v, state.params["value"]
        else:
            advantage, next_layers = q - layers_forward(value, batch.obs)[:, 0], value
        next_v = layers_forward(next_layers, batch.next_obs)[:, 0]

        largest = weights["max_weight"]
        weight = advantage_weights(advantage, temperature=weights["temperature"], largest=largest)

        def actor_loss(actor: Any) -> tuple[Array, None]:
            mean = actor_mean(actor, batch.obs, dropout=self.config.actor_dropout, key=key)
            return -(weight * gaussian_log_prob(actor, mean, batch.action)).mean(), None

        lr = cosine_rate(weights["actor_lr"], state.rounds, steps=weights["actor_lr_steps"])
        a_loss, _, actor, actor_moments = self.optimiser.descend(actor_loss, state, "actor", lr)
        open_ = state.updates >= weights["critic_warmup"]
        actor, actor_moments = select(open_, (actor, actor_moments), (state.params["actor"], state.opt["actor"]))

        y = bellman_target(batch.reward, batch.mask, next_v, discount=weights["discount"])

        def critic_loss(critic: Any) -> tuple[Array, None]:
            return squared_error(q_values(critic, batch.obs, batch.action), y), None

        q_loss, _, critic, critic_moments = self.optimiser.descend(critic_loss, state, "critic", weights["critic_lr"])
        state = state.replace(
            params={"actor": actor, "critic": critic, "value": value},
            opt={"actor": actor_moments, "critic": critic_moments, "value": value_moments},
            target={"critic": polyak(state.target["critic"], critic, weights["tau"])},
            updates=counted(state.updates),
            rounds=counted(state.rounds, open_),
        )
        info = {
            "critic_loss": q_loss,
            "q": q.mean(),
            "q_abs": jnp.abs(q).mean(),
            "value_loss": v_loss,
            "actor_loss": a_loss,
            "advantage": advantage.mean(),
            "clipped_weights": (weight >= largest).mean(),
        }
        return state, info
