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

That is all that most methods take. Some take more of an environment, which then has one or several of these:

- `success_return: float`; an episode succeeds when its undiscounted return exceeds it. Absent means 0.0.
- `mutations: Mapping[str, Mutation]`, the operators by which ACCEL edits levels, by name; see `Mutation`.
- `optimal_return(level) -> f32[]`, the largest undiscounted return of an episode on `level`, for true regret.
- `held_out_levels() -> levels`, leading axis L: a fixed set that evaluation plays; absent means random ones.
- `editor(config: EditorConfig) -> LevelEditor`, where a learning teacher builds levels (PAIRED and its kin).

`minimax_ued.envs.maze.Maze` has them all; `minimax_ued.envs.cartpole` is a short environment with three of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, TypeVar, runtime_checkable

import jax
from flax import struct

__all__ = [
    "BuiltLevel", "EditorObservation", "EditorState", "EnvState", "Environment", "Level", "LevelEditor", "Mutation",
    "Observation", "Timestep", "success_return",
]  # fmt: skip

Level = TypeVar("Level")
EnvState = TypeVar("EnvState")
EditorState = TypeVar("EditorState")
BuiltLevel = TypeVar("BuiltLevel", covariant=True)
Observation = TypeVar("Observation", covariant=True)


class Timestep(struct.PyTreeNode):
    """What a step returns in addition to the new state.

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

        Callers may leave it out: those three take either form. A rollout that visits a level many times prepares it
        once. An environment without such a form returns the level itself.
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


def success_return(env: Environment) -> float:
    """Return what an episode's return must exceed to count as solved; 0 where the environment does not say."""
    return float(getattr(env, "success_return", 0.0))


class Mutation(Protocol[Level]):
    """Edits one level. Pure; callers `vmap` it over keys and levels."""

    def __call__(self, key: jax.Array, level: Level, n_edits: int) -> Level:
        """Return a level like `level` after `n_edits` random edits; `n_edits` is static. The result is valid."""
        ...


class EditorObservation(struct.PyTreeNode):
    """What a teacher sees while it builds a level.

    Attributes:
        image: f32[H + 2, W + 2, 3], the whole map with its outer wall, as (object, colour, state) codes divided by ten.
        time: i32[], steps taken.
        noise: f32[noise_dim], uniform in [0, 1) and redrawn for each observation: what lets one policy build
            different levels.
    """

    image: jax.Array
    time: jax.Array
    noise: jax.Array


@runtime_checkable
class LevelEditor(Protocol[EditorState, BuiltLevel]):
    """Where a teacher builds one level, step by step.

    Pure and for a single instance; callers `vmap`. One level is

        state = editor.reset(reset_key)
        for _ in range(editor.num_steps):
            state = editor.step(step_key, state, policy(editor.observe(observe_key, state)))
        level = editor.level(state)

    Whatever the actions, the level is valid. Editors are hashable and equal by value: they are static arguments of
    compiled functions.

    Attributes:
        num_actions: actions are integers in [0, num_actions).
        num_steps: every episode takes exactly so many steps.

    An editor may also have `one_cell`, a bool: a step changes at most one cell of the image that is observed. Teachers
    of such editors learn several times faster on a CPU.
    """

    @property
    def num_actions(self) -> int:
        """Number of actions."""
        ...

    @property
    def num_steps(self) -> int:
        """Steps of an episode."""
        ...

    def reset(self, key: jax.Array) -> EditorState:
        """Return the state in which nothing is built."""
        ...

    def step(self, key: jax.Array, state: EditorState, action: jax.Array) -> EditorState:
        """Take one step."""
        ...

    def observe(self, key: jax.Array, state: EditorState) -> EditorObservation:
        """Return what the teacher sees; `key` is for the noise."""
        ...

    def level(self, state: EditorState) -> BuiltLevel:
        """Return the level that was built; `state` is that after the last step."""
        ...
