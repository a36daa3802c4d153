"""Learning of stacked actors and critics in imagination, whatever they are paid for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from cascade_explore.config import Actor
from cascade_explore.explore.imagination import Imagined, Policies, imagine
from cascade_explore.explore.returns import discount_weights, lambda_returns
from cascade_explore.world.model import Latents, World

__all__ = ["AgentState", "Learner", "Reward"]

DECAY = 0.99  # of running ranges, per update

#: Imagined sequences -> the reward of every transition `[H, B, S]`, and numbers to show or to carry on.
Reward = Callable[[Imagined], tuple[Array, dict[str, Array]]]


class AgentState(NamedTuple):
    """B agents; every array has them on its leading axis.

    Attributes:
        actors: parameters.
        critics: parameters.
        slow: parameters of the critics' targets.
        actor_opt: the optimiser's state.
        critic_opt: the optimiser's state.
        spread: running sum of the returns' range from 5 to 95 %, `[B]`.
        updates: done, int32 `[B]`.
    """

    actors: Any
    critics: Any
    slow: Any
    actor_opt: Any
    critic_opt: Any
    spread: Array
    updates: Array


class Learner:
    """The actor-critic of DreamerV2 for B agents in one program.

    Args:
        config: of the agents.
        world: the model in which they act.
        agents: B.
    """

    def __init__(self, config: Actor, world: World, agents: int) -> None:
        self.config, self.world = config, world
        self.policies = Policies(config, world.actions, world.width, agents, world.config.precision)
        through = {"auto": not world.actions.discrete, "reinforce": False, "dynamics": True}
        self.through_model = through[config.gradient]
        self._actor, self._critic = (
            optax.chain(optax.clip_by_global_norm(config.clip), optax.adam(lr, eps=1e-5))
            for lr in (config.lr, config.critic_lr)
        )

    def init(self, key: Array) -> AgentState:
        """Return fresh agents."""
        actors, critics = self.policies.init(key)
        return AgentState(
            actors, critics, jax.tree.map(jnp.copy, critics), jax.vmap(self._actor.init)(actors),
            jax.vmap(self._critic.init)(critics), jnp.zeros(self.policies.agents),
            jnp.zeros(self.policies.agents, jnp.int32),
        )  # fmt: skip

    def actor_loss(
        self, actors: Any, state: AgentState, params: Any, start: Latents, weight: Array, reward: Reward, key: Array
    ) -> tuple[Array, Any]:
        """Return the actors' loss, summed over agents, and what the critics learn from.

        REINFORCE: `-mean w_t [log π(a_t | s_t) sg(V_t - v(s_t)) / max(1, R) + η H(π)]`, where R is the running range of
        the returns from 5 to 95 % (DreamerV3, Hafner et al. 2023): large returns do not drown the entropy, and small
        ones are not blown up. Through the model: `-mean w_t [V_t / max(1, R) + η H(π)]`, where V_t has a gradient by
        way of states, disagreement and diversity. Returns bootstrap from the slow critics; the baseline v is the
        critics of now.

        Args:
            actors: parameters.
            state: the agents' critics and ranges.
            params: the world model's.
            start: states `[S, ...]`.
            weight: of each start, `[S]`: 0 where an episode had ended.
            reward: what the agents are paid.
            key: of the imagination.
        """
        c, sg = self.config, jax.lax.stop_gradient
        acting = actors if self.through_model else sg(actors)
        seen = imagine(self.world, params, self.policies, acting, start, key, horizon=c.horizon)
        paid, shown = reward(seen)
        go_on = jax.nn.sigmoid(self.world.continues(params, seen.feat[1:]))
        value = self.policies.value(state.slow, seen.feat)
        returns = lambda_returns(paid, c.gamma * go_on, value, lam=c.lam)
        low, high = jnp.quantile(sg(returns), jnp.array([0.05, 0.95]), axis=(0, 2))
        spread = DECAY * state.spread + (1.0 - DECAY) * (high - low)
        scale = jnp.maximum(spread / (1.0 - DECAY ** (state.updates + 1)), 1.0)[:, None]
        weights = sg(discount_weights(weight, c.gamma * go_on))
        policy = jax.vmap(self.policies.policy, (None, 0))(actors, sg(seen.feat[:-1]))
        entropy = policy.entropy()
        advantage = sg(returns - self.policies.value(state.critics, sg(seen.feat[:-1])))
        gain = returns if self.through_model else policy.log_prob(sg(seen.action)) * advantage
        loss = -(weights * (gain / scale + c.entropy * entropy)).mean((0, 2)).sum()
        explained = 1.0 - advantage.var() / jnp.maximum(returns.var(), 1e-8)
        metrics = {"entropy": entropy.mean(), "return": returns.mean(), "reward": paid.mean(), "explained": explained}
        return loss, sg((seen.feat[:-1], returns, weights, spread, metrics | shown))

    def critic_loss(self, critics: Any, feat: Array, target: Array, weight: Array) -> Array:
        """Return `mean w_t (v(s_t) - V_t)² / 2`, summed over agents."""
        return (0.5 * weight * jnp.square(self.policies.value(critics, feat) - target)).mean((0, 2)).sum()

    def update(
        self, state: AgentState, params: Any, start: Latents, weight: Array, reward: Reward, key: Array
    ) -> tuple[AgentState, dict[str, Any]]:
        """Do one step of all actors and critics."""
        start = jax.lax.stop_gradient(start)
        value_and_grad = jax.value_and_grad(self.actor_loss, has_aux=True)
        (loss, (feat, target, weights, spread, metrics)), slope = value_and_grad(
            state.actors, state, params, start, weight, reward, key
        )
        change, actor_opt = jax.vmap(self._actor.update)(slope, state.actor_opt)
        actors = optax.apply_updates(state.actors, change)
        critic_loss, slope = jax.value_and_grad(self.critic_loss)(state.critics, feat, target, weights)
        change, critic_opt = jax.vmap(self._critic.update)(slope, state.critic_opt)
        critics = optax.apply_updates(state.critics, change)
        updates = state.updates + 1
        copied = updates[0] % self.config.slow_every == 0
        slow = jax.tree.map(lambda new, old: jnp.where(copied, new, old), critics, state.slow)
        metrics = {**metrics, "actor_loss": loss, "critic_loss": critic_loss}
        return AgentState(actors, critics, slow, actor_opt, critic_opt, spread, updates), metrics
