"""The maze level: where the walls, the goal and the agent are.

Cells are addressed (x, y): x is the column from the left, y the row from the top. Directions are MiniGrid's: 0 right,
1 down, 2 left, 3 up. The outer wall of a MiniGrid is not part of a level; everything outside of the map is wall.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from paperloop.errors import UserError

__all__ = ["Level", "check_level", "pack_levels", "pad_level", "stack_levels", "unpack_levels"]

_AGENT = ">v<^"
_LEGEND = "'#' wall, '.' free, 'G' goal, and one of '>v<^' for the agent"


class Level(struct.PyTreeNode):
    """One maze, or many with leading axes.

    Attributes:
        wall_map: bool[H, W], row y and column x; True is wall.
        goal_pos: i32[2], (x, y).
        agent_pos: i32[2], (x, y) at the start of an episode.
        agent_dir: i32[], direction at the start: 0 right, 1 down, 2 left, 3 up.
    """

    wall_map: Any
    goal_pos: Any
    agent_pos: Any
    agent_dir: Any

    @classmethod
    def from_text(cls, text: str) -> Level:
        """Read a level from a drawing.

        One line a row: '#' is wall, '.' (or a space inside the line) free, 'G' the goal, and '>', 'v', '<' or '^' the
        agent and where it faces. Blank lines around the drawing and common indentation are ignored.

        >>> Level.from_text('''
        ...     >.#
        ...     ..G
        ... ''').goal_pos.tolist()
        [2, 1]

        Raises:
            UserError: a line of another length, an unknown character, or not exactly one goal and one agent.
        """
        rows = [line.strip() for line in text.strip().splitlines()]
        if not rows or not rows[0]:
            raise UserError("The drawing of a maze is empty; draw one line a row.")
        marks: dict[str, list[tuple[int, int]]] = {"goal": [], "agent": []}
        walls = np.zeros((len(rows), len(rows[0])), bool)
        direction = 0
        for y, row in enumerate(rows):
            if len(row) != len(rows[0]):
                raise UserError(
                    f"Row {y} of the drawing of a maze has {len(row)} cells, but row 0 has {len(rows[0])}; "
                    "give all rows the same length."
                )
            for x, char in enumerate(row):
                if char == "#":
                    walls[y, x] = True
                elif char == "G":
                    marks["goal"].append((x, y))
                elif char in _AGENT:
                    marks["agent"].append((x, y))
                    direction = _AGENT.index(char)
                elif char not in ". ":
                    raise UserError(f"The drawing of a maze has {char!r} at x={x}, y={y}; use {_LEGEND}.")
        for name, found in marks.items():
            if len(found) != 1:
                raise UserError(f"The drawing of a maze has {len(found)} cells with the {name}; draw exactly one.")
        return cls(
            wall_map=walls,
            goal_pos=np.array(marks["goal"][0], np.int32),
            agent_pos=np.array(marks["agent"][0], np.int32),
            agent_dir=np.array(direction, np.int32),
        )

    def to_text(self) -> str:
        """Draw one level; `from_text` reads it back.

        Raises:
            UserError: the level is not valid (`check_level`).
        """
        level = check_level(self)
        canvas = np.where(level.wall_map, "#", ".")
        canvas[level.goal_pos[1], level.goal_pos[0]] = "G"
        canvas[level.agent_pos[1], level.agent_pos[0]] = _AGENT[int(level.agent_dir)]
        return "\n".join("".join(row) for row in canvas)


def check_level(level: Level, height: int | None = None, width: int | None = None) -> Level:
    """Return `level` as NumPy arrays of the right types, or say what is wrong with it.

    For levels that come from outside: it runs on the host and must not be traced. An unsolvable level is a valid one;
    see `minimax_ued.envs.maze.paths.solvable`.

    Args:
        level: one level, without leading axes.
        height: rows that the level must have; None accepts any.
        width: columns that the level must have; None accepts any.

    Raises:
        UserError: a map that is not boolean, not two-dimensional or of another shape; fewer than two free cells; a
            position that is not a pair of integers, is out of range or lies on a wall; the goal on the agent; a
            direction other than 0, 1, 2 or 3.
    """
    walls = np.asarray(level.wall_map)
    if walls.dtype != np.bool_:
        raise UserError(f"A level's wall_map is boolean (True is wall); got dtype {walls.dtype}, so convert it.")
    if walls.ndim != 2 or 0 in walls.shape:
        raise UserError(f"A level's wall_map has shape (height, width); got {walls.shape}, so pass one level.")
    expected = (walls.shape[0] if height is None else height, walls.shape[1] if width is None else width)
    if walls.shape != expected:
        raise UserError(
            f"This environment takes levels of {expected[0]} rows by {expected[1]} columns, but the level's wall_map "
            f"has shape {walls.shape}; pad it with pad_level or build an environment of its size."
        )
    free = int(walls.size - walls.sum())
    if free < 2:
        raise UserError(f"A level needs a free cell for the agent and one for the goal, but its map has {free} free.")
    goal = _check_pos("goal_pos", level.goal_pos, walls)
    agent = _check_pos("agent_pos", level.agent_pos, walls)
    if (goal == agent).all():
        raise UserError(f"The level's goal lies on the agent at (x, y) = {tuple(goal.tolist())}; move one of them.")
    direction = np.asarray(level.agent_dir)
    if direction.shape != () or not np.issubdtype(direction.dtype, np.integer) or not 0 <= direction <= 3:
        raise UserError(
            f"A level's agent_dir is 0 (right), 1 (down), 2 (left) or 3 (up); got {level.agent_dir!r} instead."
        )
    return Level(wall_map=walls, goal_pos=goal, agent_pos=agent, agent_dir=direction.astype(np.int32))


def _check_pos(name: str, pos: Any, walls: np.ndarray) -> np.ndarray:
    height, width = walls.shape
    pos = np.asarray(pos)
    if pos.shape != (2,) or not np.issubdtype(pos.dtype, np.integer):
        raise UserError(f"A level's {name} is a pair of integers (x, y); got shape {pos.shape}, dtype {pos.dtype}.")
    x, y = pos.tolist()
    if not (0 <= x < width and 0 <= y < height):
        raise UserError(
            f"The level's {name} (x, y) = ({x}, {y}) is out of range; x runs from 0 to {width - 1} and y from 0 to "
            f"{height - 1}."
        )
    if walls[y, x]:
        raise UserError(f"The level's {name} (x, y) = ({x}, {y}) lies on a wall; clear that cell or move it.")
    return pos.astype(np.int32)


def stack_levels(levels: Sequence[Level]) -> Level:
    """Put levels of one size along a new leading axis, as NumPy arrays.

    Raises:
        UserError: no levels, or maps of different sizes (`pad_level` makes them equal).
    """
    if not levels:
        raise UserError("There are no levels to stack; pass at least one.")
    shapes = {np.shape(level.wall_map) for level in levels}
    if len(shapes) > 1:
        raise UserError(f"Levels of different sizes {sorted(shapes)} do not stack; pad them with pad_level first.")
    return jax.tree.map(lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves]), *levels)


def pad_level(level: Level, height: int, width: int) -> Level:
    """Put walls to the right of and below the map, up to `height` rows and `width` columns.

    Outside of the map is wall anyway, so nothing changes for the agent: views, moves and paths stay the same. Works on
    levels with leading axes too.

    Raises:
        UserError: the map is larger than that.
    """
    rows, columns = level.wall_map.shape[-2:]
    if rows > height or columns > width:
        raise UserError(f"A map of {rows} rows by {columns} columns cannot be padded to {height} by {width}.")
    xp = np if isinstance(level.wall_map, np.ndarray) else jnp
    margin = [(0, 0)] * (level.wall_map.ndim - 2) + [(0, height - rows), (0, width - columns)]
    return level.replace(wall_map=xp.pad(level.wall_map, margin, constant_values=True))


def pack_levels(levels: Level) -> np.ndarray:
    """Store levels in few bytes: one bit a cell and five bytes for the rest, 27 bytes for a 13 x 13 maze.

    Args:
        levels: any leading axes; height and width at most 256.

    Returns:
        u8[..., ceil(H W / 8) + 5]: the map row by row, the most significant bit first and zeros after the last cell,
        then goal x, goal y, agent x, agent y and direction.

    Raises:
        UserError: a map with more than 256 rows or columns.
    """
    walls = np.asarray(levels.wall_map, bool)
    if max(walls.shape[-2:]) > 256:
        raise UserError(f"Packed levels have at most 256 rows and columns; got a map of {walls.shape[-2:]}.")
    bits = np.packbits(walls.reshape(*walls.shape[:-2], -1), axis=-1)
    rest = (levels.goal_pos, levels.agent_pos, np.asarray(levels.agent_dir)[..., None])
    return np.concatenate([bits, *(np.asarray(part).astype(np.uint8) for part in rest)], axis=-1)


def unpack_levels(packed: np.ndarray, height: int, width: int) -> Level:
    """Read what `pack_levels` wrote.

    Args:
        packed: u8[..., ceil(H W / 8) + 5].
        height: H.
        width: W.

    Raises:
        UserError: another dtype, or a number of bytes that does not fit the size.
    """
    packed = np.asarray(packed)
    n_map = -(-height * width // 8)
    if packed.dtype != np.uint8 or packed.ndim < 1 or packed.shape[-1] != n_map + 5:
        raise UserError(
            f"Packed levels of {height} x {width} are uint8 with {n_map + 5} bytes each; got dtype {packed.dtype}, "
            f"shape {packed.shape}."
        )
    walls = np.unpackbits(packed[..., :n_map], axis=-1, count=height * width).astype(bool)
    rest = packed[..., n_map:].astype(np.int32)
    return Level(
        wall_map=walls.reshape(*packed.shape[:-1], height, width),
        goal_pos=rest[..., 0:2],
        agent_pos=rest[..., 2:4],
        agent_dir=rest[..., 4],
    )
