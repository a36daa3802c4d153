"""Where a learning teacher builds a maze, one cell at a time (Dennis et al. 2020, arXiv 2012.02096).

An action is a cell, numbered row by row. The first actions place walls, then one places the goal and one the agent,
who faces in a random direction. The rule is that of minimax (Jiang et al. 2023, arXiv 2311.12716):

- n walls, goal, agent. Every episode has n + 2 steps.
- A wall on a wall changes nothing, and goal and agent clear the wall on their cell; an agent on the goal goes to a
  uniform cell that is neither wall nor goal.

The level is valid whatever the actions.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
from flax import struct

from minimax_ued.config import EditorConfig
from minimax_ued.envs.base import EditorObservation
from minimax_ued.envs.maze.bitmap import bit_rows, map_bits, select_bit, unpack_bits
from minimax_ued.envs.maze.level import Level
from minimax_ued.envs.maze.observe import AGENT, EMPTY, GOAL, WALL
from minimax_ued.envs.maze.random_levels import pick_cell
from paperloop.errors import UserError
from paperloop.settings import fault

__all__ = ["EditorState", "MazeEditor"]


class EditorState(struct.PyTreeNode):
    """A maze under construction.

    Attributes:
        walls: u32[H, ceil(W / 32)], bitmap of the walls placed.
        goal: u32[H, ceil(W / 32)], bitmap of the goal's cell; none before it is placed.
        agent: u32[H, ceil(W / 32)], bitmap of the agent's cell; none before it is placed.
        direction: i32[], where the agent faces.
        time: i32[], steps taken.
    """

    walls: jax.Array
    goal: jax.Array
    agent: jax.Array
    direction: jax.Array
    time: jax.Array


@dataclass(frozen=True)
class MazeEditor:
    """Builds mazes of one size; meets `minimax_ued.envs.LevelEditor`. The module's text is the rule.

    Attributes:
        height: H.
        width: W.
        config: the `EditorConfig`.
        one_cell: True, a step changes at most one cell of the map that is observed.

    Raises:
        UserError: so many walls that they could leave no room for agent and goal.
    """

    height: int
    width: int
    config: EditorConfig = field(default_factory=EditorConfig)

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1 or self.height * self.width < 3:
            raise UserError(
                f"A maze editor of {self.height} x {self.width} cells has no room for a wall, a goal and an agent: "
                "take three cells or more."
            )
        room = self.height * self.width - 2
        if self.config.n_walls > room:
            rule = f"at most {room}, so that {self.height} x {self.width} cells keep room for agent and goal"
            raise fault(self.config, "n_walls", rule)

    @property
    def one_cell(self) -> bool:
        """True."""
        return True

    @property
    def num_actions(self) -> int:
        """H W, the cells row by row."""
        return self.height * self.width

    @property
    def num_steps(self) -> int:
        """One for each wall, the goal and the agent."""
        return self.config.n_walls + 2

    def reset(self, key: jax.Array) -> EditorState:
        """Return an empty map; the agent's direction is drawn from `key`."""
        none = jnp.zeros((self.height, -(-self.width // 32)), jnp.uint32)
        direction = jax.random.randint(key, (), 0, 4, jnp.int32)
        return EditorState(walls=none, goal=none, agent=none, direction=direction, time=jnp.int32(0))

    def step(self, key: jax.Array, state: EditorState, action: jax.Array) -> EditorState:
        """Place the next thing at cell `action` (i32[]), or at a random one drawn from `key` as the rule says."""
        goal_step, time = self.config.n_walls, state.time
        action = jnp.clip(jnp.asarray(action, jnp.int32), 0, self.num_actions - 1)
        is_wall, is_goal, is_agent = time < goal_step, time == goal_step, time == goal_step + 1

        cell = bit_rows(action % self.width, action // self.width, self.height, self.width)
        other = pick_cell(~(state.walls | state.goal) & map_bits(self.width), jax.random.bits(key, (), jnp.uint32))
        cell = jnp.where(is_agent & jnp.any(cell & state.goal != 0), other, cell)

        walls = jnp.where(is_wall, state.walls | cell, state.walls)
        return EditorState(
            walls=jnp.where(is_goal | is_agent, walls & ~cell, walls),
            goal=jnp.where(is_goal, cell, state.goal),
            agent=jnp.where(is_agent, cell, state.agent),
            direction=state.direction,
            time=time + 1,
        )

    def observe(self, key: jax.Array, state: EditorState) -> EditorObservation:
        """Return the map as it stands, index [row, column], with the outer wall around it."""
        wall, goal, agent = (
            jnp.pad(unpack_bits(bits, self.width), 1, constant_values=outside)
            for bits, outside in ((state.walls, True), (state.goal, False), (state.agent, False))
        )

        def channel(i: int, of_agent: jax.Array | int) -> jax.Array:
            code = jnp.where(wall, WALL[i], jnp.where(goal, GOAL[i], EMPTY[i]))
            return jnp.where(agent, of_agent, code)

        image = jnp.stack([channel(0, AGENT), channel(1, 0), channel(2, state.direction)], axis=-1)
        return EditorObservation(
            image=image.astype(jnp.float32) / 10,
            time=state.time,
            noise=jax.random.uniform(key, (self.config.noise_dim,)),
        )

    def level(self, state: EditorState) -> Level:
        """Return the level; `state` is that after the last step."""
        first = jnp.int32(0)
        return Level(
            wall_map=unpack_bits(state.walls, self.width),
            goal_pos=jnp.stack(select_bit(state.goal, first)),
            agent_pos=jnp.stack(select_bit(state.agent, first)),
            agent_dir=state.direction,
        )
