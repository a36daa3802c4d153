"""Mazes as examples: how far is the goal? Generated, with labels by breadth-first search.

A maze is u8[size * size] of cells: 0 empty, 1 wall, 2 agent, 3 goal. Its class is a bucket of the length of the
shortest path from agent to goal, 0 for no path.
"""

from __future__ import annotations

import numpy as np

__all__ = [
    "AGENT",
    "CLASSES",
    "EDGES",
    "GOAL",
    "WALL",
    "classes_of",
    "distances",
    "enclosed",
    "random_mazes",
    "trivial",
]

WALL, AGENT, GOAL = 1, 2, 3
#: Upper ends of the buckets of distance; class 0 means no path, class 6 beyond the last.
EDGES = np.array([2, 5, 8, 11, 15])
CLASSES = len(EDGES) + 2
_CHUNK = 4096  # of mazes at a time, so that a search stays in the cache


def random_mazes(rng: np.random.Generator, n: int, size: int, walls: tuple[int, int]) -> np.ndarray:
    """Return n mazes with a number of walls drawn from `walls` (both ends in), agent and goal anywhere free."""
    cells = size * size
    order = rng.random((n, cells)).argsort(axis=1)
    count = rng.integers(walls[0], walls[1] + 1, size=n)
    mazes = np.zeros((n, cells), np.uint8)
    rank = np.arange(cells)
    np.put_along_axis(mazes, order, ((rank >= 2) & (rank < 2 + count[:, None])).astype(np.uint8), axis=1)
    rows = np.arange(n)
    mazes[rows, order[:, 0]] = AGENT
    mazes[rows, order[:, 1]] = GOAL
    return mazes


def trivial(rng: np.random.Generator, n: int, size: int) -> np.ndarray:
    """Return n mazes without walls in which the goal is next to the agent: redundant after a few."""
    mazes = np.zeros((n, size, size), np.uint8)
    row, column = rng.integers(0, size, n), rng.integers(0, size - 1, n)
    swap = rng.random(n) < 0.5
    rows = np.arange(n)
    mazes[rows, row, column + swap] = AGENT
    mazes[rows, row, column + ~swap] = GOAL
    return mazes.reshape(n, -1)


def enclosed(rng: np.random.Generator, n: int, size: int) -> np.ndarray:
    """Return n mazes full of walls whose goal is walled in: unlike anything that is asked for."""
    mazes = np.where(rng.random((n, size, size)) < 0.5, WALL, 0).astype(np.uint8)
    row, column = rng.integers(1, size - 1, n), rng.integers(1, size - 1, n)
    rows = np.arange(n)
    for down, right in ((1, 0), (-1, 0), (0, 1), (0, -1)):
        mazes[rows, row + down, column + right] = WALL
    mazes[rows, row, column] = GOAL
    # The agent stands in the corner that is farthest in both directions, which no wall around the goal reaches.
    mazes[rows, np.where(row < size // 2, size - 1, 0), np.where(column < size // 2, size - 1, 0)] = AGENT
    return mazes.reshape(n, -1)


def distances(mazes: np.ndarray, size: int) -> np.ndarray:
    """Return i32[n], the length of the shortest path from agent to goal, -1 for none."""
    return np.concatenate([_search(mazes[i : i + _CHUNK], size) for i in range(0, len(mazes), _CHUNK)])


def _search(mazes: np.ndarray, size: int) -> np.ndarray:
    n = len(mazes)
    grid = mazes.reshape(n, size, size)
    free, goal = grid != WALL, grid == GOAL
    seen, frontier = grid == AGENT, grid == AGENT
    found = np.full(n, -1, np.int32)
    for step in range(size * size):
        arrived = (frontier & goal).any(axis=(1, 2))
        found[arrived & (found < 0)] = step
        spread = np.zeros_like(frontier)
        spread[:, 1:] |= frontier[:, :-1]
        spread[:, :-1] |= frontier[:, 1:]
        spread[:, :, 1:] |= frontier[:, :, :-1]
        spread[:, :, :-1] |= frontier[:, :, 1:]
        frontier = spread & free & ~seen
        frontier[arrived] = False
        if not frontier.any():
            break
        seen |= frontier
    return found


def classes_of(distance: np.ndarray) -> np.ndarray:
    """Return i32[n], the bucket of each distance: 0 for -1."""
    return np.where(distance < 0, 0, 1 + np.searchsorted(EDGES, distance)).astype(np.int32)
