"""Families of mazes that are held out: what a learner is asked to generalise to.

Each is a pattern of walls, with agent and goal at random among the cells that the pattern leaves free.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np

from generalized_exploration.supervised.mazes import AGENT, GOAL, WALL, classes_of, distances

__all__ = ["FAMILIES", "make_families"]

Pattern = Callable[[np.random.Generator, int], np.ndarray]


def _blank(size: int) -> np.ndarray:
    return np.zeros((size, size), np.uint8)


def _scattered(share: float) -> Pattern:
    return lambda rng, size: np.where(rng.random((size, size)) < share, WALL, 0).astype(np.uint8)


def _corridors(rng: np.random.Generator, size: int) -> np.ndarray:
    """Parallel walls with one gap each."""
    grid = _blank(size)
    for row in range(1, size, 2):
        grid[row] = WALL
        grid[row, rng.integers(size)] = 0
    return grid


def _serpentine(rng: np.random.Generator, size: int) -> np.ndarray:
    """Parallel walls with gaps at alternating ends: one long way."""
    grid = _blank(size)
    for index, row in enumerate(range(1, size, 2)):
        grid[row] = WALL
        grid[row, 0 if index % 2 else size - 1] = 0
    return grid


def _rooms(rng: np.random.Generator, size: int) -> np.ndarray:
    """Four rooms with a door in each wall."""
    grid, half = _blank(size), size // 2
    grid[half, :] = grid[:, half] = WALL
    for low, high in ((0, half), (half + 1, size)):
        grid[half, rng.integers(low, high)] = 0
        grid[rng.integers(low, high), half] = 0
    return grid


def _nine_rooms(rng: np.random.Generator, size: int) -> np.ndarray:
    """Nine rooms, a door between neighbours."""
    grid, lines = _blank(size), (size // 3, 2 * size // 3)
    ends = (0, lines[0], lines[1], size)
    for line in lines:
        grid[line, :] = grid[:, line] = WALL
    for line in lines:
        for low, high in itertools.pairwise(ends):
            inside = [cell for cell in range(low, high) if cell not in lines]
            grid[line, rng.choice(inside)] = 0
            grid[rng.choice(inside), line] = 0
    return grid


def _spiral(rng: np.random.Generator, size: int) -> np.ndarray:
    """One wall that winds inwards."""
    grid = np.full((size, size), WALL, np.uint8)
    row, column, (down, right) = 0, 0, (0, 1)
    grid[0, 0] = 0
    turns = 0
    while turns < 2:
        ahead, beyond = (row + down, column + right), (row + 2 * down, column + 2 * right)
        inside = 0 <= ahead[0] < size and 0 <= ahead[1] < size
        free_beyond = 0 <= beyond[0] < size and 0 <= beyond[1] < size and grid[beyond] == 0
        if inside and not free_beyond:
            row, column = ahead
            grid[row, column] = 0
            turns = 0
        else:
            down, right = right, -down
            turns += 1
    return grid


def _labyrinth(rng: np.random.Generator, size: int) -> np.ndarray:
    """A perfect maze by depth-first search: one path between any two cells."""
    grid = np.full((size, size), WALL, np.uint8)
    stack = [(0, 0)]
    grid[0, 0] = 0
    while stack:
        row, column = stack[-1]
        ways = [
            (row + down, column + right)
            for down, right in ((2, 0), (-2, 0), (0, 2), (0, -2))
            if 0 <= row + down < size and 0 <= column + right < size and grid[row + down, column + right] == WALL
        ]
        if not ways:
            stack.pop()
            continue
        there = ways[rng.integers(len(ways))]
        grid[(row + there[0]) // 2, (column + there[1]) // 2] = 0
        grid[there] = 0
        stack.append(there)
    return grid


def _pillars(rng: np.random.Generator, size: int) -> np.ndarray:
    """Single cells of wall in a lattice."""
    grid = _blank(size)
    grid[1::2, 1::2] = WALL
    return grid


def _barrier(rng: np.random.Generator, size: int) -> np.ndarray:
    """One wall from side to side with one door."""
    grid = _blank(size)
    row = rng.integers(1, size - 1)
    grid[row] = WALL
    grid[row, rng.integers(size)] = 0
    return grid if rng.random() < 0.5 else grid.T.copy()


#: Name -> pattern, from easy to hard.
FAMILIES: dict[str, Pattern] = {
    "empty": lambda rng, size: _blank(size),
    "sparse": _scattered(0.1),
    "pillars": _pillars,
    "barrier": _barrier,
    "scattered": _scattered(0.2),
    "four_rooms": _rooms,
    "dense": _scattered(0.35),
    "nine_rooms": _nine_rooms,
    "corridors": _corridors,
    "labyrinth": _labyrinth,
    "serpentine": _serpentine,
    "spiral": _spiral,
}


def make_families(rng: np.random.Generator, n: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return n mazes of each family, u8[F, n, size * size], and their classes, i32[F, n]."""
    mazes = np.zeros((len(FAMILIES), n, size * size), np.uint8)
    for family, pattern in enumerate(FAMILIES.values()):
        for index in range(n):
            cells = pattern(rng, size).reshape(-1)
            agent, goal = rng.choice(np.flatnonzero(cells != WALL), 2, replace=False)
            cells[agent], cells[goal] = AGENT, GOAL
            mazes[family, index] = cells
    labels = classes_of(distances(mazes.reshape(-1, size * size), size))
    return mazes, labels.reshape(len(FAMILIES), n)
