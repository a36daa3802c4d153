"""Soft actor-critic and what is built on it: REDQ, RLPD, WSRL (ensembles and replay), CQL and Cal-QL (a regulariser).

    y   = r + γ (1 - d) [min_{i∈S} Q'_i(s', a') - α log π(a'|s')],   a' ~ π(s')
    L_Q = Σ_i E[(Q_i(s, a) - y)²] + α_CQL Σ_i E[R_i]
    L_π = E[α log π(a|s) - Q(s, a)],   a ~ π(s)
    L_α = α E[-log π(a|s) - H]

R_i = T log Σ_a exp(Q_i(s, a) / T) - Q_i(s, a_data), over uniform actions and actions of π(s) and π(s'), each corrected
by its density (CQL(H) with importance sampling, arXiv 2006.04779, appendix F). Cal-QL (arXiv 2303.05479) raises the
values of the policy's actions to the data's return to go first. That return is known of offline rows only: on rows
collected online the regulariser is CQL's (`policy_finetune.replay.buffers` says why, and how the authors' code
differs), and so Cal-QL continues online with half of each batch from the offline data.

Sources: Haarnoja et al. 2018 (arXiv 1812.05905); REDQ arXiv 2101.05982; RLPD arXiv 2302.02948; WSRL arXiv 2412.07762.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from policy_finetune.config import SACConfig
from policy_finetune.envs.acting import LOG_STD_RANGE
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
    some_critics,
    squared_error,
    value_to_climb,
)
from policy_finetune.learners.networks import actor_features, init_actor, q_values

__all__ = ["SAC", "calibrated", "sample_action", "soft_maximum", "squashed_log_prob"]


def spread(actor: dict[str, Any], obs: Array) -> tuple[Array, Array]:
    """Return mean and log standard deviation before the squashing, [..., act] each."""
    features = actor_features(actor, obs)
    mean = features @ actor["mean"]["w"] + actor["mean"]["b"]
    log_std = features @ actor["log_std"]["w"] + actor["log_std"]["b"]
    return mean, jnp.clip(log_std, *LOG_STD_RANGE)


def squashed_log_prob(u: Array, mean: Array, log_std: Array) -> Array:
    """Return log π(tanh u) of a squashed Gaussian, [...]: log N(u) - Σ log(1 - tanh² u), in a form that is safe."""
    z = (u - mean) * jnp.exp(-log_std)
    normal = (-0.5 * jnp.square(z) - log_std - 0.5 * jnp.log(2 * jnp.pi)).sum(-1)
    return normal - (2.0 * (jnp.log(2.0) - u - jax.nn.softplus(-2.0 * u))).sum(-1)


def sample_action(actor: dict[str, Any], obs: Array, key: Array, count: int | None = None) -> tuple[Array, Array]:
    """Return actions and their log-densities: [B, act] and [B], or with a leading axis `count`."""
    mean, log_std = spread(actor, obs)
    shape = mean.shape if count is None else (count, *mean.shape)
    u = mean + jnp.exp(log_std) * jax.random.normal(key, shape)
    return jnp.tanh(u), squashed_log_prob(u, mean, log_std)


def soft_maximum(q: Array, log_density: Array, *, temperature: float) -> Array:
    """Return T log Σ_k exp(Q_k / T) / density_k over sampled actions, [N, B], of q [N, K, B] and log_density [K, B]."""
    return temperature * jax.nn.logsumexp(q / temperature - log_density, axis=1)


def calibrated(q: Array, to_go: Array, *, uniform: int) -> Array:
    """Return q [N, K, B], the values of the policy's actions, those after the `uniform` ones, at least to_go [B]."""
    return jnp.concatenate([q[:, :uniform], jnp.maximum(q[:, uniform:], to_go)], axis=1)


class SAC:
    """A round is `policy_delay` critic updates, then one of actor and temperature (RLPD: 20 and 1)."""

    def __init__(self, config: SACConfig, obs_dim: int, act_dim: int) -> None:
        self.config = config
        self.sizes = obs_dim, act_dim
        self.optimiser = Optimiser(config.adam_eps, config.max_grad_norm)

    def init(self, key: Array) -> LearnerState:
        """Return the state before the first round."""
        net, (obs_dim, act_dim) = self.config.network, self.sizes
        actor_key, critic_key = jax.random.split(key)
        critic = init_critics(critic_key, net, obs_dim, act_dim)
        params = {
            "actor": init_actor(actor_key, obs_dim, act_dim, net.hidden, init=net.init, log_std="head"),
            "critic": critic,
            "log_alpha": jnp.log(jnp.float32(self.config.init_alpha)),
        }
        zero = jnp.zeros((), jnp.int32)
        moments = {name: self.optimiser.init(value) for name, value in params.items()}
        return LearnerState(params, {"critic": copy(critic)}, moments, None, zero, zero)

    def round(
        self, state: LearnerState, batches: Batch, key: Array, weights: Mapping[str, Array]
    ) -> tuple[LearnerState, Info]:
        """Do `policy_delay` critic updates and one update of actor and temperature."""
        keys = jax.random.split(key, self.config.policy_delay + 1)
        state, info = each_batch(lambda s, batch, k: self._critic_step(s, batch, k, weights), state, batches, keys[:-1])
        state, actor_info = self._actor_step(state, jax.tree.map(lambda x: x[-1], batches), keys[-1], weights)
        return state, info | actor_info

    def _targets(self, state: LearnerState, batch: Batch, key: Array, weights: Mapping[str, Array]) -> Array:
        action_key, subset_key = jax.random.split(key)
        action, log_prob = sample_action(state.params["actor"], batch.next_obs, action_key)
        critics = some_critics(state.target["critic"], subset_key, subset=self.config.target_subset)
        value = q_values(critics, batch.next_obs, action).min(0)
        if self.config.backup_entropy:
            value = value - jnp.exp(state.params["log_alpha"]) * log_prob
        return bellman_target(batch.reward, batch.mask, value, discount=weights["discount"])

    def _critic_step(
        self, state: LearnerState, batch: Batch, key: Array, weights: Mapping[str, Array]
    ) -> tuple[LearnerState, Info]:
        target_key, cql_key = jax.random.split(key)
        y = self._targets(state, batch, target_key, weights)
        sampled = None if self.config.cql is None else self._cql_actions(state, batch, cql_key, self.config.cql.actions)

        def loss(critic: Any) -> tuple[Array, tuple[Array, Array, Array]]:
            q = q_values(critic, batch.obs, batch.action)
            value, gap = squared_error(q, y), jnp.zeros(())
            if sampled is not None:
                gap = self._cql_gap(critic, batch, q, *sampled)
                value = value + weights["cql_weight"] * gap
            return value, (q.mean(), jnp.abs(q).mean(), gap)

        value, (q, size, gap), critic, moments = self.optimiser.descend(loss, state, "critic", weights["critic_lr"])
        state = state.replace(
            params=state.params | {"critic": critic}, opt=state.opt | {"critic": moments},
            target={"critic": polyak(state.target["critic"], critic, weights["tau"])}, updates=counted(state.updates),
        )  # fmt: skip
        info = {"critic_loss": value, "q": q, "q_abs": size}
        return state, info | ({} if sampled is None else {"cql_gap": gap})

    def _cql_actions(self, state: LearnerState, batch: Batch, key: Array, n: int) -> tuple[Array, Array]:
        """Return the regulariser's actions [3n, B, act] and log-densities [3n, B]: uniform, π(s), π(s')."""
        random_key, here_key, there_key = jax.random.split(key, 3)
        uniform = jax.random.uniform(random_key, (n, *batch.action.shape), minval=-1.0, maxval=1.0)
        density = jnp.full(uniform.shape[:-1], -batch.action.shape[-1] * jnp.log(2.0))
        here, here_density = sample_action(state.params["actor"], batch.obs, here_key, n)
        there, there_density = sample_action(state.params["actor"], batch.next_obs, there_key, n)
        return jnp.concatenate([uniform, here, there]), jnp.concatenate([density, here_density, there_density])

    def _cql_gap(self, critic: Any, batch: Batch, q_data: Array, actions: Array, density: Array) -> Array:
        """Return Σ_i E[R_i] over the sampled actions [3n, B, act]."""
        cql = self.config.cql
        assert cql is not None
        many, b = density.shape
        obs = jnp.broadcast_to(batch.obs, (many, *batch.obs.shape)).reshape(many * b, -1)
        q = q_values(critic, obs, actions.reshape(many * b, -1)).reshape(-1, many, b)
        if cql.calibrated:
            q = calibrated(q, batch.to_go, uniform=cql.actions)
        return (soft_maximum(q, density, temperature=cql.temperature) - q_data).mean(1).sum()

    def _actor_step(
        self, state: LearnerState, batch: Batch, key: Array, weights: Mapping[str, Array]
    ) -> tuple[LearnerState, Info]:
        alpha = jnp.exp(state.params["log_alpha"])

        def loss(actor: Any) -> tuple[Array, tuple[Array, Array]]:
            action, log_prob = sample_action(actor, batch.obs, key)
            q = value_to_climb(state.params["critic"], batch.obs, action, how=self.config.actor_q)
            return (alpha * log_prob - q).mean(), (log_prob.mean(), q.mean())

        lr = cosine_rate(weights["actor_lr"], state.rounds, steps=weights["actor_lr_steps"])
        value, (log_prob, q), actor, moments = self.optimiser.descend(loss, state, "actor", lr)
        slope, log_alpha = alpha * (-log_prob - weights["target_entropy"]), state.params["log_alpha"]
        log_alpha, alpha_moments = self.optimiser.step(log_alpha, slope, state.opt["log_alpha"], weights["alpha_lr"])
        new = {"actor": actor, "log_alpha": log_alpha}, {"actor": moments, "log_alpha": alpha_moments}
        old = {k: state.params[k] for k in new[0]}, {k: state.opt[k] for k in new[1]}
        open_ = state.updates > weights["critic_warmup"]
        params, opt = select(open_, new, old)
        state = state.replace(params=state.params | params, opt=state.opt | opt, rounds=counted(state.rounds, open_))
        return state, {"actor_loss": value, "actor_q": q, "entropy": -log_prob, "alpha": alpha}
