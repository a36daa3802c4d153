"""Learning of stacked actors and critics in imagination, whatever they are paid for."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from cascade_explore.config import Actor
from cascade_explore.explore.imagination import Imagined, Policies, imagine
from cascade_explore.explore.returns import discount_weights, lambda_returns
from cascade_explore.world.model import Latents, World
from cascade_explore.world.nets import block_by_block

__all__ = ["AgentState", "Ahead", "Learner", "Reward", "one_by_one"]

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


class Ahead(NamedTuple):
    """What agents imagine, H steps of B agents from S starts.

    Attributes:
        feat: features of states 0 .. H - 1, `[H, B, S, F]`.
        action: taken in them.
        returns: from them.
        weights: of them: the discounted chance that the episode has not ended.
        scale: what the actors divide advantages by, `[B]`.
        spread: the running sum of the returns' range, `[B]`.
        metrics: to show.
    """

    feat: Array
    action: Array
    returns: Array
    weights: Array
    scale: Array
    spread: Array
    metrics: dict[str, Any]

    @property
    def rows(self) -> tuple[Array, Array, Array, Array]:
        """What there is at each step, `[H, B, S, ...]`."""
        return self.feat, self.action, self.returns, self.weights


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

    def look_ahead(
        self, actors: Any, state: AgentState, params: Any, start: Latents, weight: Array, reward: Reward, key: Array
    ) -> Ahead:
        """Return what the agents imagine and what it is worth; returns bootstrap from the slow critics.

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
        seen = imagine(self.world, params, self.policies, actors, start, key, horizon=c.horizon)
        paid, shown = reward(seen)
        go_on = jax.nn.sigmoid(block_by_block(partial(self.world.continues, params), seen.feat[1:]))
        _, value = one_by_one(lambda slow, feat: ((), self.policies.value(slow, feat)), (state.slow,), (seen.feat,))
        returns = lambda_returns(paid, c.gamma * go_on, value, lam=c.lam)
        low, high = jnp.quantile(sg(returns), jnp.array([0.05, 0.95]), axis=(0, 2))
        spread = DECAY * state.spread + (1.0 - DECAY) * (high - low)
        scale = jnp.maximum(spread / (1.0 - DECAY ** (state.updates + 1)), 1.0)
        weights = sg(discount_weights(weight, c.gamma * go_on))
        metrics = {"return": returns.mean(), "reward": paid.mean(), **shown}
        return Ahead(seen.feat[:-1], seen.action, returns, weights, scale, spread, metrics)

    def policy_loss(
        self, actors: Any, critics: Any, scale: Array, feat: Array, action: Array, returns: Array, weights: Array
    ) -> tuple[Array, tuple[Array, Array]]:
        """Return the actors' loss, summed over agents, with entropies and advantages `[H, B, S]`.

        REINFORCE: `-mean w_t [log π(a_t | s_t) sg(V_t - v(s_t)) / max(1, R) + η H(π)]`, where R is the running range of
        the returns from 5 to 95 % (DreamerV3, Hafner et al. 2023): large returns do not drown the entropy, and small
        ones are not blown up. Through the model: `-mean w_t [V_t / max(1, R) + η H(π)]`, where V_t has a gradient by
        way of states, disagreement and diversity. The baseline v is the critics of now.
        """
        sg = jax.lax.stop_gradient
        policy = jax.vmap(self.policies.policy, (None, 0))(actors, sg(feat))
        entropy = policy.entropy()
        advantage = sg(returns - self.policies.value(critics, sg(feat)))
        gain = returns if self.through_model else policy.log_prob(sg(action)) * advantage
        loss = -(weights * (gain / scale[:, None] + self.config.entropy * entropy)).mean((0, 2)).sum()
        return loss, (entropy, advantage)

    def actor_loss(
        self, actors: Any, state: AgentState, params: Any, start: Latents, weight: Array, reward: Reward, key: Array
    ) -> tuple[Array, tuple[Ahead, tuple[Array, Array]]]:
        """Return `policy_loss` of what `look_ahead` imagines, and both of their other results as constants."""
        acting = actors if self.through_model else jax.lax.stop_gradient(actors)
        ahead = self.look_ahead(acting, state, params, start, weight, reward, key)
        loss, found = self.policy_loss(actors, state.critics, ahead.scale, *ahead.rows)
        return loss, jax.lax.stop_gradient((ahead, found))

    def critic_loss(self, critics: Any, feat: Array, target: Array, weight: Array) -> Array:
        """Return `mean w_t (v(s_t) - V_t)² / 2`, summed over agents."""
        return (0.5 * weight * jnp.square(self.policies.value(critics, feat) - target)).mean((0, 2)).sum()

    def update(
        self, state: AgentState, params: Any, start: Latents, weight: Array, reward: Reward, key: Array
    ) -> tuple[AgentState, dict[str, Any]]:
        """Do one step of all actors and critics."""
        imagined = (state, params, jax.lax.stop_gradient(start), weight, reward, key)
        if self.through_model:
            grad = jax.value_and_grad(self.actor_loss, has_aux=True)
            (loss, (ahead, (entropy, advantage))), slope = grad(state.actors, *imagined)
            (critic_loss, critic_slope), _ = one_by_one(self._criticise, (state.critics,), ahead.rows)
        else:
            ahead = self.look_ahead(state.actors, *imagined)
            (loss, slope, critic_loss, critic_slope), (entropy, advantage) = one_by_one(
                self.learn, (state.actors, state.critics, ahead.scale), ahead.rows
            )
        change, actor_opt = jax.vmap(self._actor.update)(slope, state.actor_opt)
        actors = optax.apply_updates(state.actors, change)
        change, critic_opt = jax.vmap(self._critic.update)(critic_slope, state.critic_opt)
        critics = optax.apply_updates(state.critics, change)
        updates = state.updates + 1
        copied = updates[0] % self.config.slow_every == 0
        slow = jax.tree.map(lambda new, old: jnp.where(copied, new, old), critics, state.slow)
        explained = 1.0 - advantage.var() / jnp.maximum(ahead.returns.var(), 1e-8)
        metrics = {**ahead.metrics, "entropy": entropy.mean(), "explained": explained, "actor_loss": loss.sum(),
                   "critic_loss": critic_loss.sum()}  # fmt: skip
        return AgentState(actors, critics, slow, actor_opt, critic_opt, ahead.spread, updates), metrics

    def learn(self, actors: Any, critics: Any, scale: Array, *rows: Array) -> tuple[Any, tuple[Array, Array]]:
        """Return losses `[1]` and gradients of actors and critics by REINFORCE; then entropies and advantages."""
        grad = jax.value_and_grad(self.policy_loss, has_aux=True)
        (loss, found), slope = grad(actors, critics, scale, *rows)
        return (loss[None], slope, *self._criticise(critics, *rows)[0]), found

    def _criticise(
        self, critics: Any, feat: Array, action: Array, returns: Array, weights: Array
    ) -> tuple[tuple[Array, Any], tuple[()]]:
        loss, slope = jax.value_and_grad(self.critic_loss)(critics, feat, returns, weights)
        return (loss[None], slope), ()


def one_by_one(function: Callable[..., tuple[Any, Any]], agents: Any, rows: Any) -> tuple[Any, Any]:
    """Return what a function makes of agents' trees `[B, ...]` and rows `[H, B, S, ...]`, its arguments in this order.

    It returns a tree like the former and one like the latter. On a CPU it takes one agent after another, whose
    activations stay in the cache of a core: the same numbers but for rounding, in two thirds of the time.
    """
    if jax.default_backend() != "cpu":
        return function(*agents, *rows)

    def one(i: Array) -> tuple[Any, Any]:
        picked = (jax.tree.map(partial(jax.lax.dynamic_index_in_dim, index=i, axis=axis), tree)
                  for axis, tree in enumerate((agents, rows)))  # fmt: skip
        return function(*(x for part in picked for x in part))

    made, seen = jax.lax.map(one, jnp.arange(rows[0].shape[1]))
    return jax.tree.map(lambda x: x[:, 0], made), jax.tree.map(lambda x: jnp.moveaxis(x[:, :, 0], 0, 1), seen)
