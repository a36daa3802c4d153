"""A fixed population in the world: what it has seen so far as a latent, and the action that it takes."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from cascade_explore.explore.imagination import Policies
from cascade_explore.explore.policies import uniform_actions
from cascade_explore.world.model import Latents, World, features

__all__ = ["Memory", "act", "fingerprint", "start"]


class Memory(NamedTuple):
    """What agents carry from step to step.

    Attributes:
        state: of the model, `[B, E, ...]`.
        action: the last one, `[B, E, A]`.
    """

    state: Latents
    action: Array


def start(world: World, agents: int, envs: int) -> Memory:
    """Return the memory before the first observation."""
    return Memory(world.start((agents, envs)), jnp.zeros((agents, envs, world.actions.size)))


def act(
    world: World,
    policies: Policies | None,
    params: Any,
    actors: Any,
    memory: Memory,
    observation: Array,
    first: Array,
    key: Array,
    *,
    uniform: Array,
    greedy: bool = False,
) -> Memory:
    """Return the memory after an observation, with the action to take.

    Args:
        world: the model.
        policies: the agents' networks; None: uniform actions.
        params: the model's parameters.
        actors: the agents' parameters.
        memory: from the step before.
        observation: `[B, E, n]`.
        first: whether an episode begins here, `[B, E]`.
        key: of latents and actions.
        uniform: act uniformly instead, as in the first deployment.
        greedy: take the most probable action.
    """
    one, two, three = jax.random.split(key, 3)
    chance = uniform_actions(world.actions, first.shape, one)
    if policies is None:
        return Memory(memory.state, chance)
    embedded = world.encode(params, observation)
    state, _, _ = world.observe(params, memory.state, memory.action, first, embedded, two)
    policy = policies.policy(actors, features(state))
    action = policy.mode() if greedy else policy.sample(three)
    return Memory(state, jnp.where(uniform, chance, jax.lax.stop_gradient(action)))


def fingerprint(tree: Any) -> Array:
    """Return a checksum of all bits of a tree of float32 arrays, uint32: equal parameters have equal checksums."""
    total = jnp.uint32(2166136261)
    for leaf in jax.tree.leaves(tree):
        bits = jax.lax.bitcast_convert_type(leaf.astype(jnp.float32), jnp.uint32).ravel()
        weight = jnp.arange(bits.size, dtype=jnp.uint32) * jnp.uint32(2654435761) + jnp.uint32(1)
        total = total * jnp.uint32(16777619) + (bits * weight).sum(dtype=jnp.uint32)
    return total
