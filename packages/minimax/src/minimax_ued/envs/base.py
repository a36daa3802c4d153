"""The contract of an environment whose level is a parameter.

A level is what a teacher proposes: it does not change during an episode, so it is an argument of every function and no
part of the state. All functions here are pure and for a single instance; callers `vmap` them. One episode is

    level = env.sample_level(level_key)
    state = env.reset(reset_key, level)
    while True:
        observation = env.observe(level, state)
        state, timestep = env.step(step_key, level, state, policy(observation))
        if timestep.done:
            break

Nothing resets itself: `minimax_ued.envs.autoreset` does, so that a fresh level is generated once for an episode and not
once for a step.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, TypeVar, runtime_checkable

import jax
from flax import struct

__all__ = ["EnvState", "Environment", "Level", "Observation", "Timestep"]

Level = TypeVar("Level")
EnvState = TypeVar("EnvState")
Observation = TypeVar("Observation", covariant=True)


class Timestep(struct.PyTreeNode):
    """What a step returns besides the new state.

    Attributes:
        reward: f32[].
        terminated: bool[], the episode ended by its own rules; the value of what follows is zero.
        truncated: bool[], the episode was cut off by the step limit and did not end by its own rules; the value of
            what follows is that of the state that was reached. Never true together with `terminated`.
    """

    reward: jax.Array
    terminated: jax.Array
    truncated: jax.Array

    @property
    def done(self) -> jax.Array:
        """bool[], the episode is over for either reason."""
        return self.terminated | self.truncated


@runtime_checkable
class Environment(Protocol[Level, EnvState, Observation]):
    """An environment with levels.

    Attributes:
        num_actions: actions are integers in [0, num_actions).
        max_steps: T, the number of steps after which an episode is truncated.
    """

    @property
    def num_actions(self) -> int:
        """Number of actions."""
        ...

    @property
    def max_steps(self) -> int:
        """T."""
        ...

    def sample_level(self, key: jax.Array) -> Level:
        """Draw a level from the environment's random generator (domain randomisation)."""
        ...

    def prepare(self, level: Level) -> Any:
        """Return `level` in the form in which `reset`, `step` and `observe` run fastest.

        Optional to call: those three take either form. A rollout that visits a level many times prepares it once. An
        environment without such a form returns the level itself.
        """
        ...

    def reset(self, key: jax.Array, level: Any) -> EnvState:
        """Return the state at the start of an episode: the dynamic part only."""
        ...

    def step(self, key: jax.Array, level: Any, state: EnvState, action: jax.Array) -> tuple[EnvState, Timestep]:
        """Take one step. The state after the last step of an episode is its terminal state; nothing is reset."""
        ...

    def observe(self, level: Any, state: EnvState) -> Observation:
        """Return what the agent sees in `state`."""
        ...

    def level_hash(self, level: Level) -> jax.Array:
        """Return u32[2]; equal levels have equal hashes, and different ones practically never have."""
        ...

    def same_level(self, a: Level, b: Level) -> jax.Array:
        """Return bool[], an exact comparison for use where two hashes agree."""
        ...

    def level_metrics(self, level: Level) -> Mapping[str, jax.Array]:
        """Return name -> f32[], cheap enough for the inside of a compiled training cycle."""
        ...
