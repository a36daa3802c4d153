"""The maze: MiniGrid's dynamics for walls and one goal, with the level as an argument.

Step for step equal to `minigrid.minigrid_env.MiniGridEnv` (Chevalier-Boisvert et al. 2023, arXiv 2306.13831) on a grid
with an outer wall around the level: observations, direction, position, reward and ends.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import struct

from minimax_ued.config import EditorConfig, MazeConfig
from minimax_ued.envs.base import Mutation, Timestep
from minimax_ued.envs.hashing import hash_words
from minimax_ued.envs.maze import observe, paths, random_levels
from minimax_ued.envs.maze.bitmap import pack_bits
from minimax_ued.envs.maze.editor import MazeEditor
from minimax_ued.envs.maze.level import Level
from minimax_ued.envs.maze.mutate import MUTATIONS
from minimax_ued.envs.maze.observe import Observation, PreparedLevel

__all__ = ["ACTIONS", "Maze", "MazeState"]

#: MiniGrid's actions by number. Only the first three do anything here; the others still take a step.
ACTIONS = ("left", "right", "forward", "pickup", "drop", "toggle", "done")


class MazeState(struct.PyTreeNode):
    """What changes during an episode.

    Attributes:
        agent_pos: i32[2], (x, y).
        agent_dir: i32[], 0 right, 1 down, 2 left, 3 up.
        time: i32[], steps taken in this episode.
    """

    agent_pos: jax.Array
    agent_dir: jax.Array
    time: jax.Array


class Maze:
    """The maze environment; meets `minimax_ued.envs.Environment`.

    Reaching the goal at step t ends the episode with reward 1 - 0.9 t / T, where T is `max_steps`; every other reward
    is 0. At step T an episode that has not ended is truncated.

    `reset`, `step` and `observe` take a `Level` or what `prepare` made of it.

    Attributes:
        config: the `MazeConfig`.
        num_actions: 7, see `ACTIONS`.
        max_steps: T.
        success_return: 0.0; an episode succeeds when its return exceeds it, that is, when it reaches the goal.
        mutations: name -> operator, a view of `minimax_ued.envs.maze.mutate.MUTATIONS`.
    """

    success_return: ClassVar[float] = 0.0
    mutations: ClassVar[Mapping[str, Mutation[Level]]] = MappingProxyType(MUTATIONS)

    def __init__(self, config: MazeConfig | None = None) -> None:
        self.config = MazeConfig() if config is None else config
        self.num_actions = len(ACTIONS)
        self.max_steps = self.config.max_steps

    def __repr__(self) -> str:
        return f"Maze({self.config!r})"

    def __eq__(self, other: object) -> bool:
        # By value, so that functions compiled for one instance serve an equal one.
        return isinstance(other, Maze) and self.config == other.config

    def __hash__(self) -> int:
        return hash((Maze, self.config))

    def sample_level(self, key: jax.Array) -> Level:
        """Draw a random level; see `minimax_ued.envs.maze.random_levels`."""
        config = self.config
        return random_levels.sample_level(
            key,
            height=config.height,
            width=config.width,
            n_walls=config.n_walls,
            sample_n_walls=config.sample_n_walls,
        )

    def prepare(self, level: Level) -> PreparedLevel:
        """Return the level as bits, in the layout in which views are cheap to cut out; see `observe`."""
        return observe.prepare(level, self.config.view_size)

    def reset(self, key: jax.Array, level: Level | PreparedLevel) -> MazeState:
        """Return the state at the start of an episode. Nothing is random: `key` is not used."""
        del key
        return MazeState(
            agent_pos=jnp.asarray(level.agent_pos), agent_dir=jnp.asarray(level.agent_dir), time=jnp.int32(0)
        )

    def step(
        self, key: jax.Array, level: Level | PreparedLevel, state: MazeState, action: jax.Array
    ) -> tuple[MazeState, Timestep]:
        """Take `action` (i32[], see `ACTIONS`). Nothing is random: `key` is not used."""
        del key
        level = self._prepared(level)
        action, direction = jnp.asarray(action, jnp.int32), state.agent_dir
        turned = jnp.where(action == 0, direction - 1, jnp.where(action == 1, direction + 1, direction)) & 3
        # Directions 0 and 2 move along x, 1 and 3 along y; 0 and 1 towards larger numbers.
        sign = jnp.where(direction < 2, 1, -1)
        x, y = state.agent_pos[0], state.agent_pos[1]
        ahead_x, ahead_y = jnp.where(direction & 1 == 0, x + sign, x), jnp.where(direction & 1 == 1, y + sign, y)
        moves = (action == 2) & ~observe.is_wall(level, ahead_x, ahead_y, self.config.view_size)
        x, y = jnp.where(moves, ahead_x, x), jnp.where(moves, ahead_y, y)
        time = state.time + 1
        solved = moves & (x == level.goal_pos[0]) & (y == level.goal_pos[1])
        timestep = Timestep(
            reward=jnp.where(solved, 1 - 0.9 * (time.astype(jnp.float32) / self.max_steps), 0.0),
            terminated=solved,
            truncated=(time >= self.max_steps) & ~solved,
        )
        return MazeState(agent_pos=jnp.stack([x, y]), agent_dir=turned, time=time), timestep

    def observe(self, level: Level | PreparedLevel, state: MazeState) -> Observation:
        """Return the agent's view; see `minimax_ued.envs.maze.observe` for its layout."""
        config = self.config
        image = observe.view(
            self._prepared(level),
            state.agent_pos,
            state.agent_dir,
            view_size=config.view_size,
            see_through_walls=config.see_through_walls,
        )
        return Observation(image=image / 10, direction=state.agent_dir)

    def level_hash(self, level: Level) -> jax.Array:
        """Return u32[2], a 64-bit hash of walls, goal, agent and direction.

        In minimax's own code two levels that differ in the agent's direction only count as one.
        """
        goal, agent = jnp.asarray(level.goal_pos), jnp.asarray(level.agent_pos)
        # 16 bits a coordinate holds every map that can be packed.
        place = jnp.stack([goal[0] | goal[1] << 16, agent[0] | agent[1] << 16, jnp.asarray(level.agent_dir)])
        return hash_words(
            jnp.concatenate([pack_bits(jnp.asarray(level.wall_map)).reshape(-1), place.astype(jnp.uint32)])
        )

    def same_level(self, a: Level, b: Level) -> jax.Array:
        """Return bool[], whether walls, goal, agent and direction are equal."""
        equal = jax.tree.map(lambda left, right: jnp.all(left == right), a, b)
        return jnp.all(jnp.stack(jax.tree.leaves(equal)))

    def level_metrics(self, level: Level) -> Mapping[str, jax.Array]:
        """Return `n_walls`, `solvable` (0 or 1) and `path_length` (cells; 0 where unsolvable), f32[] each.

        The mean path length over solvable levels is the ratio of the means of `path_length` and `solvable`.
        """
        path = paths.shortest_path(level)
        return {
            "n_walls": jnp.sum(jnp.asarray(level.wall_map), dtype=jnp.float32),
            "solvable": (path >= 0).astype(jnp.float32),
            "path_length": jnp.maximum(path, 0).astype(jnp.float32),
        }

    def optimal_return(self, level: Level) -> jax.Array:
        """Return f32[], the largest return of an episode; see `minimax_ued.envs.maze.paths.optimal_return`."""
        return paths.optimal_return(level, self.max_steps)

    def editor(self, config: EditorConfig | None = None) -> MazeEditor:
        """Return where a teacher builds levels of this size.

        Raises:
            UserError: the teacher has so many walls that they leave no room for agent and goal.
        """
        return MazeEditor(self.config.height, self.config.width, EditorConfig() if config is None else config)

    def _prepared(self, level: Any) -> PreparedLevel:
        return level if isinstance(level, PreparedLevel) else self.prepare(level)
