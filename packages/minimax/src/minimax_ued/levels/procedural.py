"""Families of test mazes that are redrawn for every episode, as minimax draws them (arXiv 2311.12716)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from minimax_ued.envs.maze.bitmap import pack_bits
from minimax_ued.envs.maze.level import Level
from minimax_ued.envs.maze.random_levels import place_agent_and_goal
from paperloop.errors import UserError

__all__ = ["crossing", "four_rooms", "perfect_maze"]


def four_rooms(key: jax.Array, size: int = 17) -> Level:
    """Draw a map of four rooms: a wall along the middle row and column, with one door in each of its four arms.

    Doors are uniform along their arm; agent and goal are uniform over the cells of the rooms.

    Args:
        key: typed PRNG key.
        size: H = W, odd.
    """
    _check(size)
    door_key, place_key = jax.random.split(key)
    middle = size // 2
    index = jnp.arange(size)
    cross = (index[:, None] == middle) | (index[None, :] == middle)
    doors = jax.random.randint(door_key, (4,), 0, middle) + jnp.array([0, middle + 1, 0, middle + 1])
    walls = cross.at[middle, doors[:2]].set(False).at[doors[2:], middle].set(False)
    return _place(place_key, walls, closed=cross)


def crossing(key: jax.Array, size: int = 9, n_walls: int = 5) -> Level:
    """Draw straight walls across the whole map, each with openings, from corner to opposite corner.

    Of the h = (size - 1) / 2 odd rows, each of h out of 2 h places is a wall of which 2 r hold one, and likewise of the
    odd columns with 2 (n_walls - r), where r of `n_walls` lines fell to the rows. That is minimax's draw: n_walls lines
    on average, and 2 to 8 for size 9 and n_walls 5. A random walk that only goes right and down, straight on through
    walls, carves the openings; so a path of 2 (size - 1) moves exists always.

    Args:
        key: typed PRNG key.
        size: H = W, odd.
        n_walls: expected number of walls, at most size - 1.
    """
    _check(size, n_walls)
    line_key, row_key, column_key, walk_key = jax.random.split(key, 4)
    half, odd = size // 2, jnp.arange(1, size, 2)
    n_rows = (jax.random.permutation(line_key, 2 * half)[:half] < n_walls).sum()

    def lines(key: jax.Array, n: jax.Array) -> jax.Array:
        drawn = jax.random.permutation(key, 2 * half)[:half] < 2 * n
        return jnp.zeros((size,), bool).at[odd].set(drawn)

    walls = lines(row_key, n_rows)[:, None] | lines(column_key, n_walls - n_rows)[None, :]

    def walk(carry: tuple[jax.Array, ...], coin: jax.Array) -> tuple[tuple[jax.Array, ...], None]:
        walls, x, y, down, inside = carry
        down = jnp.where(inside, down, coin)
        down = jnp.where(x == size - 1, True, jnp.where(y == size - 1, False, down))
        x, y = x + ~down, y + down
        return (walls.at[y, x].set(False), x, y, down, walls[y, x]), None

    coins = jax.random.bernoulli(walk_key, 0.5, (2 * (size - 1),))
    zero, no = jnp.int32(0), jnp.bool_(False)
    (walls, *_), _ = lax.scan(walk, (walls, zero, zero, no, no), coins)
    corner = jnp.full((2,), size - 1, jnp.int32)
    return Level(wall_map=walls, goal_pos=corner, agent_pos=jnp.zeros((2,), jnp.int32), agent_dir=zero)


def perfect_maze(key: jax.Array, size: int = 13) -> Level:
    """Draw a maze with exactly one path between any two cells, by depth-first search with random turns.

    Agent and goal are uniform over the free cells.

    Args:
        key: typed PRNG key.
        size: H = W, odd.
    """
    _check(size)
    start_key, walk_key, place_key = jax.random.split(key, 3)
    side = size // 2 + 1  # the cells with even coordinates are rooms, those between them passages
    step = jnp.array([[1, 0], [0, 1], [-1, 0], [0, -1]])
    start = jax.random.randint(start_key, (2,), 0, side)
    walls = jnp.ones((size, size), bool).at[2 * start[1], 2 * start[0]].set(False)
    stack = jnp.zeros((side * side, 2), jnp.int32).at[0].set(start)

    def visit(i: jax.Array, carry: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        walls, stack, top = carry
        here = stack[top]
        around = here + step
        inside = jnp.all((around >= 0) & (around < side), axis=1)
        at = jnp.clip(around, 0, side - 1)
        unvisited = inside & walls[2 * at[:, 1], 2 * at[:, 0]]
        found = jnp.any(unvisited)
        noise = jax.random.uniform(jax.random.fold_in(walk_key, i), (4,))
        choice = jnp.argmax(jnp.where(unvisited, noise, -1.0))
        room, passage = 2 * at[choice], 2 * here + step[choice]
        carved = walls.at[room[1], room[0]].set(False).at[passage[1], passage[0]].set(False)
        top = jnp.where(found, top + 1, jnp.maximum(top - 1, 0))  # one step on, or one back
        stack = jnp.where(found, stack.at[top].set(at[choice]), stack)
        return jnp.where(found, carved, walls), stack, top

    # Each room but the first is entered once and left backwards at most once.
    walls, *_ = lax.fori_loop(0, 2 * side * side, visit, (walls, stack, jnp.int32(0)))
    return _place(place_key, walls, closed=walls)


def _check(size: int, n_walls: int = 0) -> None:
    if size < 3 or size % 2 == 0:
        raise UserError(f"A maze of this family has an odd size of at least 3, but size is {size}.")
    if not 0 <= n_walls <= size - 1:
        raise UserError(f"A crossing of size {size} has 0 to {size - 1} walls, but n_walls is {n_walls}.")


def _place(key: jax.Array, walls: jax.Array, closed: jax.Array) -> Level:
    """Put agent and goal on cells that are not `closed`."""
    bits = jax.random.bits(key, (3,), jnp.uint32)
    agent_pos, agent_dir, goal_pos = place_agent_and_goal(bits, pack_bits(closed), closed.shape[1])
    return Level(wall_map=walls, goal_pos=goal_pos, agent_pos=agent_pos, agent_dir=agent_dir)
