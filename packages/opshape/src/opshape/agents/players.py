"""Players: a policy and what it does with an episode that is over.

The trial runner knows nothing else. A player has a mind (parameters, optimiser), which changes between episodes if it
learns, and a memory (hidden states), which changes with every step.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax import Array

from opshape.agents.policies import Policy
from opshape.agents.strategies import Strategy

__all__ = ["Episode", "MemoryOne", "Player", "PolicyPlayer", "sample"]

Mind = Any
Memory = Any


class Episode(NamedTuple):
    """What a player has to learn from, for `B` games of `T` steps.

    Attributes:
        record: what its `act` returned, stacked over time, `[T, B, ...]`.
        rewards: own rewards `[T, B]`.
        other_rewards: the co-player's `[T, B]`.
        observation: what it sees after the last step.
        last: 1 where values after the last step count as 0, `[]`.
    """

    record: Any
    rewards: Array
    other_rewards: Array
    observation: Any
    last: Array


class Player(Protocol):
    """One side of a game."""

    def init(self, key: Array) -> Mind:
        """Return a fresh mind."""
        ...

    def start(self, mind: Mind, games: int) -> Memory:
        """Return the memory at the start of a trial."""
        ...

    def act(self, mind: Mind, memory: Memory, observation: Any, noise: Array) -> tuple[Memory, Array, Any]:
        """Return the next memory, actions `[B]` from uniforms `[B]`, and what to keep of this step."""
        ...

    def between(self, mind: Mind, memory: Memory, episode: Episode, key: Array) -> tuple[Mind, Memory]:
        """Return mind and memory for the next episode."""
        ...


def sample(logits: Array, noise: Array) -> Array:
    """Return actions `[B]` from logits `[B, n]` and one uniform each `[B]`, by inverting the distribution function."""
    if logits.shape[-1] == 2:
        return (noise >= jax.nn.sigmoid(logits[..., 0] - logits[..., 1])).astype(jnp.int32)
    cumulative = jnp.cumsum(jax.nn.softmax(logits), -1)[..., :-1]
    return (noise[..., None] >= cumulative).sum(-1).astype(jnp.int32)


@dataclasses.dataclass(frozen=True)
class PolicyPlayer:
    """Acts by a policy and never learns within a trial: a shaper. Its mind is the policy's parameters.

    Attributes:
        policy: the network.
        records: keep (observation, action, log probability, value, memory before) of every step, for meta-training by
            gradients; an evolution strategy needs none of it.
    """

    policy: Policy
    records: bool = False

    def init(self, key: Array) -> Mind:
        """Return a fresh mind."""
        return self.policy.init(key)

    def start(self, mind: Mind, games: int) -> Memory:
        """Return the memory at the start of a trial."""
        return self.policy.start(mind, games)

    def act(self, mind: Mind, memory: Memory, observation: Any, noise: Array) -> tuple[Memory, Array, Any]:
        """Return the next memory, actions and what is kept of the step."""
        after, logits, value = self.policy.apply(mind, memory, observation)
        action = sample(logits, noise)
        if not self.records:
            return after, action, ()
        return after, action, Step(observation, action, log_probability(logits, action), value, memory)

    def between(self, mind: Mind, memory: Memory, episode: Episode, key: Array) -> tuple[Mind, Memory]:
        """Return mind and memory for the next episode."""
        return mind, self.policy.turn(mind, memory)


class Step(NamedTuple):
    """One step as a learner keeps it, `[B, ...]` each; `memory` is that before the step."""

    observation: Any
    action: Array
    log_prob: Array
    value: Array
    memory: Memory


def log_probability(logits: Array, action: Array) -> Array:
    """Return log pi(action), from logits `[..., n]` and integers `[...]`."""
    chosen = jax.nn.one_hot(action, logits.shape[-1])
    return (jax.nn.log_softmax(logits) * chosen).sum(-1)


@dataclasses.dataclass(frozen=True)
class MemoryOne:
    """A fixed strategy of a matrix game: probabilities of cooperation after CC, CD, DC, DD and at the START."""

    probabilities: Strategy

    def init(self, key: Array) -> tuple[()]:
        """Return a fresh mind."""
        return ()

    def start(self, mind: Mind, games: int) -> tuple[()]:
        """Return the memory at the start of a trial."""
        return ()

    def act(self, mind: Mind, memory: Memory, observation: Array, noise: Array) -> tuple[Memory, Array, Any]:
        """Return the next memory, actions and what is kept of the step."""
        cooperation = jax.nn.one_hot(observation, 5) @ jnp.array(self.probabilities)
        return memory, (noise >= cooperation).astype(jnp.int32), ()

    def between(self, mind: Mind, memory: Memory, episode: Episode, key: Array) -> tuple[Mind, Memory]:
        """Return mind and memory for the next episode."""
        return mind, memory
