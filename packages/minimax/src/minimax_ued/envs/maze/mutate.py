"""Small random edits of a maze: how ACCEL turns a level into its neighbours (Parker-Holder et al. 2022, 2203.01302).

A mutation takes one level and returns one that is valid again; it may be unsolvable. `register_mutation` adds to those
that there are, under the name that `MutationConfig.operator` then takes:

    @register_mutation("turn")
    def turn(key, level, n_edits):
        return level.replace(agent_dir=(level.agent_dir + n_edits) % 4)

Maps are edited as bits (`minimax_ued.envs.maze.bitmap`), without scatter or sort.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
from jax import lax

from minimax_ued.envs.base import Mutation
from minimax_ued.envs.maze.bitmap import bit_rows, map_bits, pack_bits, select_bit, set_of_cells, unpack_bits
from minimax_ued.envs.maze.level import Level
from minimax_ued.envs.maze.random_levels import draw_below, pick_cell
from minimax_ued.support.registry import add

__all__ = ["MUTATIONS", "dcd", "move_goal_flip_walls", "register_mutation"]

_Operator = TypeVar("_Operator", bound=Mutation[Level])

#: Name -> operator. `register_mutation` adds to it.
MUTATIONS: dict[str, Mutation[Level]] = {}


def register_mutation(name: str) -> Callable[[_Operator], _Operator]:
    """Register the decorated function, (key, level, n_edits) -> level, as a mutation of mazes.

    Raises:
        UserError: there is another mutation of that name.
    """

    def register(operator: _Operator) -> _Operator:
        add("mutation", name, operator, MUTATIONS)
        return operator

    return register


@register_mutation("move_goal_flip_walls")
def move_goal_flip_walls(key: jax.Array, level: Level, n_edits: int) -> Level:
    """Make `n_edits` edits one after the other; the agent never moves. The operator of minimax (arXiv 2311.12716).

    Each edit is with probability 1/3 none at all, 1/3 a flip of a uniform cell other than the agent's and the goal's
    (free to wall, wall to free), and 1/3 a move of the goal to a uniform free cell other than the agent's and its own.
    An edit that has no such cell changes nothing.

    Args:
        key: typed PRNG key.
        level: one level.
        n_edits: number of edits, static; 2 / 3 of them are expected to have an effect.
    """
    width = level.wall_map.shape[1]
    every = map_bits(width)
    walls, goal, agent = _bitmaps(level)

    def edit(carry: tuple[jax.Array, jax.Array], words: jax.Array) -> tuple[tuple[jax.Array, jax.Array], None]:
        walls, goal = carry
        kind = draw_below(words[0], 3)
        flips, moves = kind == 1, kind == 2
        # A flip chooses among all cells and a move among the free ones, so that one choice serves both.
        cell = pick_cell(jnp.where(moves, ~walls, ~jnp.uint32(0)) & every & ~goal & ~agent, words[1])
        walls = jnp.where(flips, walls ^ cell, walls)
        return (walls, jnp.where(moves & jnp.any(cell != 0), cell, goal)), None

    words = jax.random.bits(key, (n_edits, 2), jnp.uint32)
    (walls, goal), _ = lax.scan(edit, (walls, goal), words)
    return level.replace(wall_map=unpack_bits(walls, width), goal_pos=_position(goal))


@register_mutation("dcd")
def dcd(key: jax.Array, level: Level, n_edits: int) -> Level:
    """Edit up to `n_edits` different cells at once. The operator of the ACCEL paper's own code (facebookresearch/dcd).

    `n_edits` cells are drawn with replacement, and each that is drawn becomes wall, empty or the goal, with probability
    1/3 each, whatever it was. Of several goals the one drawn last stays, and the cells of the others are empty. A goal
    or an agent whose cell was edited is then put on a uniform free cell, the goal first. The agent keeps its direction.
    (The original goes through the cells in the order of a hash table, not in that of the draws.) Edits that would leave
    no room for goal and agent are not made: the level comes back as it was.

    Args:
        key: typed PRNG key.
        level: one level.
        n_edits: draws of cells, static.
    """
    if n_edits == 0:
        return level
    height, width = level.wall_map.shape
    walls, goal, agent = _bitmaps(level)
    words = jax.random.bits(key, (2 * n_edits + 2,), jnp.uint32)
    cells, kinds = draw_below(words[:n_edits], height * width), draw_below(words[n_edits:-2], 3)  # wall, empty, goal
    order = jnp.arange(n_edits)
    repeated = jnp.any((cells[:, None] == cells[None, :]) & (order[:, None] > order[None, :]), axis=1)
    edited = set_of_cells(cells, order >= 0, height, width)
    walls = walls & ~edited | set_of_cells(cells, ~repeated & (kinds == 0), height, width)
    last = jnp.max(jnp.where(~repeated & (kinds == 2), order, -1))
    placed = set_of_cells(cells, order == last, height, width)
    goal = jnp.where(last >= 0, placed, goal & ~edited)
    agent = agent & ~edited
    free = ~walls & map_bits(width) & ~goal & ~agent
    goal = jnp.where(jnp.any(goal != 0), goal, pick_cell(free, words[-2]))
    agent = jnp.where(jnp.any(agent != 0), agent, pick_cell(free & ~goal, words[-1]))
    new = level.replace(wall_map=unpack_bits(walls, width), goal_pos=_position(goal), agent_pos=_position(agent))
    fits = jnp.any(goal != 0) & jnp.any(agent != 0)
    return jax.tree.map(lambda new, old: jnp.where(fits, new, old), new, level)


def _bitmaps(level: Level) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Walls, goal and agent, u32[H, n] each."""
    height, width = level.wall_map.shape
    goal, agent = jnp.asarray(level.goal_pos), jnp.asarray(level.agent_pos)
    return (
        pack_bits(jnp.asarray(level.wall_map)),
        bit_rows(goal[0], goal[1], height, width),
        bit_rows(agent[0], agent[1], height, width),
    )


def _position(cell: jax.Array) -> jax.Array:
    """Return i32[2], (x, y) of the one cell of a bitmap."""
    return jnp.stack(select_bit(cell, jnp.int32(0)))
