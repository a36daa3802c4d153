"""What the agent sees: a square of cells ahead of it, in MiniGrid's codes.

The square has side v. Its row v - 1 is the agent's own row, and the agent stands in the middle of it, looking up. So
row i is v - 1 - i cells ahead, and column j is j - v // 2 cells to the right of the agent. The image is indexed
[row, column]; MiniGrid indexes [column, row].

The map is kept as bits twice, by rows and by columns, each line with its cells in order. For any of the four directions
the v rows of the view are then v consecutive lines, and each row is v consecutive bits of its line: one slice, one
shift and, for two of the directions, one reversal.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import lax

from minimax_ued.envs.maze.bitmap import pack_bits, window
from minimax_ued.envs.maze.level import Level

__all__ = ["EMPTY", "GOAL", "UNSEEN", "WALL", "Observation", "PreparedLevel", "is_wall", "prepare", "view"]

#: MiniGrid's (object, colour, state) codes.
UNSEEN = (0, 0, 0)
EMPTY = (1, 0, 0)
WALL = (2, 5, 0)
GOAL = (8, 1, 0)
AGENT = 10


class Observation(struct.PyTreeNode):
    """What the agent sees.

    Attributes:
        image: f32[v, v, 3], the view as (object, colour, state) codes divided by ten, index [row, column].
        direction: i32[], the agent's direction.
    """

    image: jax.Array
    direction: jax.Array


class PreparedLevel(struct.PyTreeNode):
    """A level as the dynamics read it; see the module's text.

    Attributes:
        lines: u32[2, max(H, W) + 2 (v - 1), n], rows of the map and columns of the map as bits, surrounded by walls.
        goal_pos: i32[2], (x, y).
        agent_pos: i32[2], (x, y) at the start of an episode.
        agent_dir: i32[], direction at the start.
    """

    lines: Any
    goal_pos: Any
    agent_pos: Any
    agent_dir: Any


def prepare(level: Level, view_size: int) -> PreparedLevel:
    """Lay `level` out for views of side `view_size`."""
    height, width = level.wall_map.shape
    longest, side = max(height, width), view_size // 2
    n_bits = longest + 2 * side
    n_lines = longest + 2 * (view_size - 1)

    def lay(cells: jax.Array) -> jax.Array:
        # The bits beyond the map are constants, so that only the map itself is packed at run time.
        border = np.ones((n_lines, -(-n_bits // 32) * 32), bool)
        rows, columns = cells.shape
        first = view_size - 1
        border[first : first + rows, side : side + columns] = False
        inside = pack_bits(jnp.pad(cells, ((0, 0), (side, n_bits - side - columns))))
        inside = jnp.pad(inside, ((first, n_lines - first - rows), (0, 0)))
        return inside | jnp.asarray(np.packbits(border, axis=1, bitorder="little").view("<u4"))

    walls = jnp.asarray(level.wall_map)
    return PreparedLevel(
        lines=jnp.stack([lay(walls), lay(walls.T)]),
        goal_pos=jnp.asarray(level.goal_pos),
        agent_pos=jnp.asarray(level.agent_pos),
        agent_dir=jnp.asarray(level.agent_dir),
    )


def is_wall(level: PreparedLevel, x: jax.Array, y: jax.Array, view_size: int) -> jax.Array:
    """Return bool[], whether cell (x, y) is wall; true for the cells next to the map as well."""
    line = lax.dynamic_index_in_dim(level.lines[0], y + view_size - 1, axis=0, keepdims=False)
    return window(line, x + view_size // 2) & 1 == 1


def view(
    level: PreparedLevel,
    agent_pos: jax.Array,
    agent_dir: jax.Array,
    *,
    view_size: int,
    see_through_walls: bool,
) -> jax.Array:
    """Return the image f32[v, v, 3] of codes seen from (`agent_pos`, `agent_dir`); see the module's text."""
    size, side = view_size, view_size // 2
    x, y = agent_pos[0], agent_pos[1]
    along_rows = agent_dir & 1 == 1  # looking down or up: the rows of the view are rows of the map
    forward = agent_dir < 2  # looking right or down: lines ahead have larger numbers
    ahead, across = jnp.where(along_rows, y, x), jnp.where(along_rows, x, y)
    lines = jnp.where(along_rows, level.lines[0], level.lines[1])
    # Lines are shifted by v - 1, the border before the first.
    lines = lax.dynamic_slice_in_dim(lines, jnp.where(forward, ahead + size - 1, ahead), size)
    lines = window(lines, across)
    lines = jnp.where(forward, lines[::-1], lines)
    # Right of the agent are larger bits when it looks right or up, and smaller ones when it looks down or left.
    column = jnp.arange(size, dtype=jnp.uint32)
    mirrored = (agent_dir == 1) | (agent_dir == 2)
    shift = jnp.where(mirrored, size - 1 - column, column)
    wall = (lines[:, None] >> shift) & 1 == 1

    gx, gy = level.goal_pos[0] - x, level.goal_pos[1] - y
    goal_ahead = jnp.where(along_rows, gy, gx) * jnp.where(forward, 1, -1)
    goal_right = jnp.where(along_rows, gx, gy) * jnp.where(mirrored, -1, 1)
    rows, columns = jnp.arange(size)[:, None], jnp.arange(size)[None, :]
    goal = (rows == size - 1 - goal_ahead) & (columns == side + goal_right)

    own = (rows == size - 1) & (columns == side)
    goal, wall = goal & ~own, wall & ~own
    kind = jnp.where(goal, GOAL[0], jnp.where(wall, WALL[0], EMPTY[0]))
    colour = jnp.where(goal, GOAL[1], jnp.where(wall, WALL[1], EMPTY[1]))
    status = jnp.zeros_like(colour)
    if not see_through_walls:
        seen = _visible(wall)
        kind, colour = jnp.where(seen, kind, UNSEEN[0]), jnp.where(seen, colour, UNSEEN[1])
    return jnp.stack([kind, colour, status], axis=-1).astype(jnp.float32)


def _visible(wall: jax.Array) -> jax.Array:
    """Return bool[v, v], the cells that are lit: MiniGrid's `Grid.process_vis`.

    Light starts in the agent's cell. Row by row, away from the agent, it spreads to the right through cells that are
    not walls and then to the left; every cell that passes it on lights the cell above, and the next one in the
    direction of the spread. Both spreads are a fill of one row of bits, so that a row costs a few word operations.
    """
    size = wall.shape[0]
    weight = jnp.uint32(1) << jnp.arange(size, dtype=jnp.uint32)
    opaque = jnp.sum(jnp.where(wall, weight, jnp.uint32(0)), axis=1, dtype=jnp.uint32)  # [v]
    every = jnp.uint32((1 << size) - 1)
    lit = jnp.uint32(1 << (size // 2))
    rows = []
    for row in reversed(range(size)):
        clear = ~opaque[row] & every
        for _ in range(size - 1):
            lit = lit | (lit & clear) << 1 & every
        right = lit & clear
        for _ in range(size - 1):
            lit = lit | (lit & clear) >> 1
        left = lit & clear  # holds `right`
        rows.append(lit)
        lit = (left | right << 1 | left >> 1) & every
    lit = jnp.stack(rows[::-1])
    return (lit[:, None] & weight) != 0
