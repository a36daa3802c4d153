"""TD3, TD3+BC and TD3-C: one learner whose actor's loss has three terms with weights.

    L_π = -w_q · q/|q| + w_bc · mean (π(s) - a)² + λ · E_s[dist(π(s), π_ref(s))],   q = E_s[Q₁(s, π(s))]

- TD3 (Fujimoto et al. 2018): w_q = 1, nothing else.
- TD3+BC (Fujimoto & Gu 2021): w_q = 2.5, w_bc = 1. Its BC term is a mean over batch *and* action dimensions.
- TD3-C (conservative policy optimisation; Luo et al. 2023, arXiv 2303.17396): w_q = 1, and λ = softplus(ν) is adapted
  so that the distance to a reference policy stays below ε. The paper's text and constants were not available to us:
  the constrained step follows its abstract, the multiplier Acme's MPO.
- PROTO-like: fixed λ that fades. ReBRAC-like: w_bc that fades.

The deterministic policy gradient is the plain derivative of mean Q(s, π(s)). (Acme's `dpg_loss` averages over action
dimensions, which changes the balance of the terms by a factor act_dim.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from policy_finetune.config import DualConstraint, TD3Config
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
    folded,
    init_critics,
    polyak,
    ramp,
    select,
    some_critics,
    squared_error,
    value_to_climb,
)
from policy_finetune.learners.networks import actor_mean, init_actor, q_values

__all__ = ["TD3", "Terms", "climbing_loss", "multiplier", "smoothed"]


@dataclass(frozen=True)
class Terms:
    """Which terms of the actor's loss a program has; a weight of 0 switches one off for an agent, at full cost.

    Attributes:
        bc: the distance to the data's actions.
        constraint: the distance to the reference ...
        per_dim: ... with a multiplier for each action dimension ...
        in_target: ... in the TD target too.
    """

    bc: bool = False
    constraint: bool = False
    per_dim: bool = False
    in_target: bool = False

    @classmethod
    def of(cls, *configs: TD3Config) -> Terms:
        """Return the terms that any of the configurations needs."""
        limits = [c.constraint for c in configs if c.constraint is not None]
        return cls(
            any(c.bc_weight > 0 for c in configs), bool(limits),
            any(limit.distance == "mse_per_dim" for limit in limits), any(limit.penalize_target for limit in limits),
        )  # fmt: skip


def multiplier(nu: Array) -> Array:
    """Return λ = softplus(ν) + 1e-8, as Acme's MPO parametrises it."""
    return jax.nn.softplus(nu) + 1e-8


def smoothed(action: Array, noise: Array, *, clip: Array | float) -> Array:
    """Return clip(a + clip(ε, ± c), ± 1): the target policy's smoothing (TD3, eq. 14)."""
    return jnp.clip(action + jnp.clip(noise, -clip, clip), -1.0, 1.0)


def climbing_loss(q: Array, *, weight: Array | float, normalise: Array | float) -> Array:
    """Return -w · mean q, divided by the mean |q| (without a gradient) where `normalise` is above 0 (TD3+BC, eq. 5)."""
    size = jax.lax.stop_gradient(jnp.abs(q).mean())
    return -weight * q.mean() / jnp.where(normalise > 0, size + 1e-6, 1.0)


class TD3:
    """TD3 and its relatives.

    Args:
        config: structure; numbers that are data come with `weights` at every round.
        obs_dim: size of an observation.
        act_dim: size of an action.
        terms: which terms the program has; by default those that `config` needs.
    """

    def __init__(self, config: TD3Config, obs_dim: int, act_dim: int, terms: Terms | None = None) -> None:
        self.config = config
        self.sizes = obs_dim, act_dim
        self.terms = terms or Terms.of(config)
        self.optimiser = Optimiser(config.adam_eps, config.max_grad_norm)

    def init(self, key: Array) -> LearnerState:
        """Return the state before the first round; targets and reference are copies."""
        net, (obs_dim, act_dim) = self.config.network, self.sizes
        actor_key, critic_key = jax.random.split(key)
        actor = init_actor(actor_key, obs_dim, act_dim, net.hidden, init=net.init)
        critic = init_critics(critic_key, net, obs_dim, act_dim)
        params: dict[str, Any] = {"actor": actor, "critic": critic}
        if self.terms.constraint:
            limit = self.config.constraint
            first = limit.nu0 if isinstance(limit, DualConstraint) else DualConstraint().nu0
            params["nu"] = jnp.full((act_dim,) if self.terms.per_dim else (), first, jnp.float32)
        return LearnerState(
            params=params,
            target={"actor": copy(actor), "critic": copy(critic)},
            opt={name: self.optimiser.init(value) for name, value in params.items()},
            reference=copy(actor) if self.terms.constraint else None,
            updates=jnp.zeros((), jnp.int32),
            rounds=jnp.zeros((), jnp.int32),
        )

    def round(
        self, state: LearnerState, batches: Batch, key: Array, weights: Mapping[str, Array]
    ) -> tuple[LearnerState, Info]:
        """Do `policy_delay` critic updates and one actor update."""
        keys = jax.random.split(key, self.config.policy_delay)
        state, info = each_batch(lambda s, batch, k: self._critic_step(s, batch, k, weights), state, batches, keys)
        last = jax.tree.map(lambda x: x[-1], batches)
        state, actor_info = self._actor_step(state, last, weights)
        return state, info | actor_info

    def targets(self, state: LearnerState, batch: Batch, key: Array, weights: Mapping[str, Array]) -> Array:
        """Return y = r + γ (1 - d) min_i Q'_i(s', clip(π'(s') + clip(ε))), [B]; one ε for all critics.

        With `penalize_target` λ dist(π(s'), π_ref(s')) is subtracted from the minimum. It is the online actor that is
        held against the reference (as in OCR-CFT): the target actor equals a trailing reference and would cost nothing.
        """
        noise_key, subset_key = jax.random.split(key)
        noise = weights["target_noise"] * jax.random.normal(noise_key, batch.action.shape)
        clean = actor_mean(state.target["actor"], batch.next_obs)
        action = smoothed(clean, noise, clip=weights["noise_clip"])
        critics = some_critics(state.target["critic"], subset_key, subset=self.config.target_subset)
        value = q_values(critics, batch.next_obs, action).min(0)
        if self.terms.in_target:
            apart = self._apart(state, actor_mean(state.params["actor"], batch.next_obs), batch.next_obs)
            value = value - (self._lambda(state, weights) * apart).sum(-1)
        return bellman_target(batch.reward, batch.mask, value, discount=weights["discount"])

    def _critic_step(
        self, state: LearnerState, batch: Batch, key: Array, weights: Mapping[str, Array]
    ) -> tuple[LearnerState, Info]:
        y = self.targets(state, batch, key, weights)

        def loss(critic: Any) -> tuple[Array, Array]:
            q = q_values(critic, batch.obs, batch.action)
            return squared_error(q, y), q

        value, q, critic, moments = self.optimiser.descend(loss, state, "critic", weights["critic_lr"])
        target = state.target
        if self.config.target_update == "every_step":
            target = target | {"critic": polyak(target["critic"], critic, weights["tau"])}
        state = state.replace(
            params=state.params | {"critic": critic}, opt=state.opt | {"critic": moments}, target=target,
            updates=counted(state.updates),
        )  # fmt: skip
        return state, {"critic_loss": value, "q": q.mean(), "q_abs": jnp.abs(q).mean()}

    def _apart(self, state: LearnerState, action: Array, obs: Array) -> Array:
        """Return dist(a, π_ref(s)) as [B, 1], or [B, act] for one multiplier a dimension."""
        squared = jnp.square(action - jax.lax.stop_gradient(actor_mean(state.reference, obs)))
        return squared if self.terms.per_dim else squared.mean(-1, keepdims=True)

    def _lambda(self, state: LearnerState, weights: Mapping[str, Array]) -> Array:
        """Return λ, [1] or [act]; 0 for agents without the constraint."""
        fixed = ramp(weights["coefficient"], weights["coefficient_floor"], weights["coefficient_steps"], state.updates)
        value = jnp.where(weights["dual"] > 0, multiplier(state.params["nu"]), fixed)
        return jnp.atleast_1d(weights["constrained"] * value)

    def _actor_step(self, state: LearnerState, batch: Batch, weights: Mapping[str, Array]) -> tuple[LearnerState, Info]:
        bc_weight = weights["bc_weight"] * ramp(1.0, weights["bc_floor"], weights["bc_steps"], state.updates)

        def loss(actor: Any) -> tuple[Array, tuple[Array, Array, Array]]:
            action = actor_mean(actor, batch.obs)
            q = value_to_climb(state.params["critic"], batch.obs, action, how=self.config.actor_q)
            value = climbing_loss(q, weight=weights["q_weight"], normalise=weights["normalize_q"])
            apart, bc = jnp.zeros((batch.obs.shape[0], 1)), jnp.zeros(())
            if self.terms.bc:
                bc = jnp.square(action - batch.action).mean()
                value = value + bc_weight * bc
            if self.terms.constraint:
                apart = self._apart(state, action, batch.obs)
                value = value + (jax.lax.stop_gradient(self._lambda(state, weights)) * apart.mean(0)).sum()
            return value, (q.mean(), bc, apart)

        lr = cosine_rate(weights["actor_lr"], state.rounds, steps=weights["actor_lr_steps"])
        value, (q, bc, apart), actor, moments = self.optimiser.descend(loss, state, "actor", lr)
        open_ = state.updates > weights["critic_warmup"]
        actor, moments = select(open_, (actor, moments), (state.params["actor"], state.opt["actor"]))
        params, opt = state.params | {"actor": actor}, state.opt | {"actor": moments}
        target = state.target | {"actor": polyak(state.target["actor"], actor, weights["tau"])}
        if self.config.target_update == "with_actor":
            target["critic"] = polyak(target["critic"], params["critic"], weights["tau"])
        period = weights["reference_period"].astype(jnp.int32)  # as a float it would round the rounds from 2^24 on
        rounds = folded(counted(state.rounds, open_), period)
        reference, info = state.reference, {"actor_loss": value, "actor_q": q, "bc_distance": bc}
        if self.terms.constraint:
            epsilon = ramp(weights["epsilon"], weights["epsilon_final"], weights["epsilon_steps"], state.updates)
            distance = apart.mean(0)
            limited = weights["constrained"] * weights["dual"]  # a fixed penalty knows no ε
            params["nu"], opt["nu"] = self._dual_step(state, distance, epsilon, open_, weights)
            reference = polyak(reference, actor, weights["reference_tau"])
            due = rounds % period == 0
            copies = (weights["reference_copies"] > 0) & open_ & due
            reference = select(copies, actor, reference)
            info |= {
                "distance": distance.mean(),
                "distance_over_epsilon": (distance / epsilon).mean() * limited,
                "violating": (apart > epsilon).mean() * limited,
                "lambda": self._lambda(state, weights).mean(),
            }
        state = state.replace(params=params, opt=opt, target=target, reference=reference, rounds=rounds)
        return state, info

    def _dual_step(
        self, state: LearnerState, distance: Array, epsilon: Array, open_: Array, weights: Mapping[str, Array]
    ) -> tuple[Array, Any]:
        """Descend λ (ε - dist): λ grows while the distance exceeds ε."""
        nu = state.params["nu"]
        distance = distance if self.terms.per_dim else distance[0]
        gradient = jax.grad(lambda n: (multiplier(n) * (epsilon - distance)).sum())(nu)
        new, moments = self.optimiser.step(nu, gradient, state.opt["nu"], weights["dual_lr"])
        new = jnp.maximum(new, weights["nu_min"])
        moving = open_ & (weights["constrained"] * weights["dual"] > 0)
        return select(moving, (new, moments), (nu, state.opt["nu"]))
