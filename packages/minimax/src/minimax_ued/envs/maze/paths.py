"""Exact shortest paths, over cells and over poses (cell and direction), by breadth-first search.

The search front is a bitmap that grows by one step at a time, for as long as it grows. So a level costs as many steps
as its longest search, each a few operations on H words; under `vmap` the whole batch searches together. Everything here
is for one level, pure, and can be traced.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jax import lax

from minimax_ued.envs.maze.bitmap import bit_rows, pack_bits, shift_columns, shift_rows
from minimax_ued.envs.maze.level import Level

__all__ = ["min_actions", "optimal_return", "shortest_path", "solvable"]

#: A set of poses: for each of the four directions the cells, u32[H, n]. Four arrays are faster here than one.
_Poses: TypeAlias = tuple[jax.Array, ...]


def shortest_path(level: Level) -> jax.Array:
    """Return i32[], the number of moves between cells from the agent to the goal, turns not counted; -1 if unsolvable.

    This is the "path length" of the UED literature.
    """
    free, goal, agent = _bitmaps(level)

    def unfinished(carry: Any) -> jax.Array:
        reached, new, _ = carry
        return jnp.any(new != 0) & ~jnp.any(reached & agent != 0)

    def grow(carry: Any) -> Any:
        reached, new, steps = carry
        new = _neighbours(new) & free & ~reached
        return reached | new, new, steps + 1

    reached, _, steps = lax.while_loop(unfinished, grow, (goal, goal, jnp.int32(0)))
    return jnp.where(jnp.any(reached & agent != 0), steps, -1)


def solvable(level: Level) -> jax.Array:
    """Return bool[], whether the agent can reach the goal at all."""
    return shortest_path(level) >= 0


def min_actions(level: Level) -> jax.Array:
    """Return i32[], the fewest actions to the goal, turns and the last move forward counted; -1 if unsolvable."""
    free, goal, agent = _bitmaps(level)
    start = tuple(jnp.where(level.agent_dir == direction, agent, jnp.uint32(0)) for direction in range(4))

    def unfinished(carry: Any) -> jax.Array:
        reached, new, _ = carry
        return _any(new) & ~_any(_each(jnp.bitwise_and, reached, start))

    def grow(carry: Any) -> Any:
        reached, new, steps = carry
        new = tuple(poses & free & ~old for poses, old in zip(_before(new), reached, strict=True))
        return _each(jnp.bitwise_or, reached, new), new, steps + 1

    first = tuple(poses & free & ~goal for poses in _into((goal,) * 4))
    reached, _, steps = lax.while_loop(unfinished, grow, (first, first, jnp.int32(1)))
    return jnp.where(_any(_each(jnp.bitwise_and, reached, start)), steps, -1)


def optimal_return(level: Level, max_steps: int) -> jax.Array:
    """Return f32[], the largest undiscounted return: 1 - 0.9 (`min_actions` / T).

    It is 0 where the level is unsolvable or takes more than T = `max_steps` actions.
    """
    actions = min_actions(level)
    feasible = (actions >= 0) & (actions <= max_steps)
    return jnp.where(feasible, 1 - 0.9 * actions.astype(jnp.float32) / max_steps, 0.0)


def _bitmaps(level: Level) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Free cells, the goal and the agent, u32[H, n] each."""
    walls = jnp.asarray(level.wall_map)
    height, width = walls.shape
    goal, agent = jnp.asarray(level.goal_pos), jnp.asarray(level.agent_pos)
    return pack_bits(~walls), bit_rows(goal[0], goal[1], height, width), bit_rows(agent[0], agent[1], height, width)


def _neighbours(cells: jax.Array) -> jax.Array:
    return shift_columns(cells, 1) | shift_columns(cells, -1) | shift_rows(cells, 1) | shift_rows(cells, -1)


def _into(poses: _Poses) -> _Poses:
    """The poses that a move forward takes into `poses`."""
    right, down, left, up = poses
    return shift_columns(right, -1), shift_rows(down, -1), shift_columns(left, 1), shift_rows(up, 1)


def _before(poses: _Poses) -> _Poses:
    """The poses from which one action leads into `poses`: a move, or a turn from a neighbouring direction."""
    right, down, left, up = poses
    across, along = right | left, down | up
    turns = (along, across, along, across)
    return _each(jnp.bitwise_or, _into(poses), turns)


def _each(function: Callable[..., jax.Array], *poses: _Poses) -> _Poses:
    return tuple(function(*bitmaps) for bitmaps in zip(*poses, strict=True))


def _any(poses: _Poses) -> jax.Array:
    right, down, left, up = poses
    return jnp.any((right | down | left | up) != 0)
