"""Edits of mazes and their labels, on the device."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from generalized_exploration.supervised.mazes import AGENT, EDGES, GOAL, WALL

__all__ = ["classes_of", "distance", "edit", "empty_maze"]


def empty_maze(key: Array, size: int) -> Array:
    """Return a maze without walls, agent and goal at random, u8[size * size]."""
    agent, goal = jax.random.choice(key, size * size, (2,), replace=False)
    return jnp.zeros(size * size, jnp.uint8).at[agent].set(AGENT).at[goal].set(GOAL)


def edit(key: Array, maze: Array, edits: int, walls: int) -> Array:
    """Change a maze in `edits` places: a wall appears or goes; with agent or goal there, they move to a free cell.

    Args:
        key: random key.
        maze: u8[size * size].
        edits: places, which may coincide.
        walls: the most; a wall above that does not appear. Without a bound, edits drift to mazes that are half wall,
            nearly all of them without a way.
    """

    def one(maze: Array, key: Array) -> tuple[Array, None]:
        at, to = jax.random.split(key)
        cell = jax.random.randint(at, (), 0, maze.shape[0])
        free = jax.random.categorical(to, jnp.where(maze == 0, 0.0, -jnp.inf))
        was = maze[cell]
        full = (maze == WALL).sum() >= walls
        toggled = maze.at[cell].set(jnp.where((was == WALL) | full, 0, WALL).astype(jnp.uint8))
        moved = maze.at[free].set(was).at[cell].set(0)
        anybody = (was == AGENT) | (was == GOAL)
        # With no free cell there is nowhere to move to.
        return jnp.where(anybody, jnp.where((maze == 0).any(), moved, maze), toggled), None

    return jax.lax.scan(one, maze, jax.random.split(key, edits))[0]


def distance(maze: Array, size: int) -> Array:
    """Return the length of the shortest path from agent to goal, i32, -1 for none."""
    grid = maze.reshape(size, size)
    free, goal = grid != WALL, grid == GOAL

    def spread(reached: Array) -> Array:
        padded = jnp.pad(reached, 1)
        near = padded[:-2, 1:-1] | padded[2:, 1:-1] | padded[1:-1, :-2] | padded[1:-1, 2:]
        return (reached | near) & free

    def more(carry: tuple[Array, Array, Array]) -> Array:
        reached, _, grew = carry
        return grew & ~(reached & goal).any()

    def body(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        reached, steps, _ = carry
        after = spread(reached)
        return after, steps + 1, (after != reached).any()

    reached, steps, _ = jax.lax.while_loop(more, body, (grid == AGENT, jnp.zeros((), jnp.int32), jnp.asarray(True)))
    return jnp.where((reached & goal).any(), steps, -1)


def classes_of(distances: Array) -> Array:
    """Return i32, the bucket of each distance: 0 for -1."""
    bucket = 1 + jnp.searchsorted(jnp.asarray(np.asarray(EDGES)), distances)
    return jnp.where(distances < 0, 0, bucket).astype(jnp.int32)
