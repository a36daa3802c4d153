"""Imagined sequences of all agents at once."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from cascade_explore.config import Actor
from cascade_explore.envs.spec import Actions
from cascade_explore.explore.policies import Discrete, TruncatedNormal, distribution
from cascade_explore.world.model import Latents, World, features
from cascade_explore.world.nets import MLP, apply

__all__ = ["Imagined", "Policies", "imagine"]


class Policies:
    """Actors and critics of B agents; parameters are stacked on a leading axis.

    Args:
        config: sizes.
        actions: what can be done.
        width: of a state's features.
        agents: B.
        precision: in which layers compute.
    """

    def __init__(self, config: Actor, actions: Actions, width: int, agents: int, precision: str = "float32") -> None:
        self.actions, self.width, self.agents = actions, width, agents
        out = actions.size if actions.discrete else 2 * actions.size
        self.actor, self.critic = (
            MLP(size, config.units, config.layers, dtype=precision) for size in (out, 1)
        )  # fmt: skip

    def init(self, key: Array) -> tuple[Any, Any]:
        """Return the parameters of actors and critics; every agent has a key of its own."""
        one, two = jax.random.split(key)
        x = jnp.zeros(self.width)
        actors = jax.vmap(lambda k: self.actor.init(k, x))(jax.random.split(one, self.agents))
        critics = jax.vmap(lambda k: self.critic.init(k, x))(jax.random.split(two, self.agents))
        return actors, critics

    def policy(self, actors: Any, feat: Array) -> Discrete | TruncatedNormal:
        """Return each agent's distribution at its own states `[B, ..., F]`."""
        return distribution(jax.vmap(partial(apply, self.actor))(actors, feat), self.actions)

    def value(self, critics: Any, feat: Array) -> Array:
        """Return each agent's value of its own states, `[H, B, S, F]` -> `[H, B, S]`."""
        return jax.vmap(partial(apply, self.critic), (0, 1), 1)(critics, feat)[..., 0]


class Imagined(NamedTuple):
    """Sequences of H steps of B agents from S common starts.

    Attributes:
        feat: features of states 0 .. H, `[H + 1, B, S, F]`.
        h: their recurrent parts, `[H + 1, B, S, D]`.
        action: taken in states 0 .. H - 1, `[H, B, S, A]`.
    """

    feat: Array
    h: Array
    action: Array


def imagine(
    world: World, params: Any, policies: Policies, actors: Any, start: Latents, key: Array, *, horizon: int
) -> Imagined:
    """Let every agent act in the model. The agents share the starts and the model, not the noise.

    Args:
        world: the model.
        params: its parameters.
        policies: the agents' networks.
        actors: their parameters.
        start: states `[S, ...]`.
        key: of actions and latents.
        horizon: H.
    """
    agents = policies.agents
    state = jax.tree.map(lambda x: jnp.broadcast_to(x, (agents, *x.shape)), start)

    def step(state: Latents, key: Array) -> tuple[Latents, tuple[Latents, Array]]:
        one, two = jax.random.split(key)
        action = policies.policy(actors, features(state)).sample(one)
        after = world.imagine(params, state, action, two)
        return after, (after, action)

    _, (states, actions) = jax.lax.scan(step, state, jax.random.split(key, horizon))
    states = jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), state, states)
    return Imagined(features(states), states.h, actions)
