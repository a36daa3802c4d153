"""Layouts of rooms in the encoding of MiniGrid, drawn with NumPy.

A layout is an array `cells[x, y] = (object, colour, state)` with the start of the agent. The three families are those
of MiniGrid; layouts are drawn by our own procedures, so the layout of a seed is not MiniGrid's layout of that seed.
`from_minigrid` takes one of MiniGrid's over.
"""

from __future__ import annotations

from collections import deque
from typing import Any, NamedTuple

import numpy as np

__all__ = [
    "BALL", "DIRECTIONS", "DOOR", "EMPTY", "GOAL", "KEY", "WALL", "Layout", "four_rooms", "from_minigrid",
    "key_corridor", "multi_room", "reachable",
]  # fmt: skip

EMPTY, WALL, DOOR, KEY, BALL, GOAL = 1, 2, 4, 5, 6, 8
GREEN, GREY = 1, 5
COLOURS = 6
CLOSED, LOCKED = 1, 2
#: Right, down, left, up, as (x, y).
DIRECTIONS = np.array([[1, 0], [0, 1], [-1, 0], [0, -1]])


class Layout(NamedTuple):
    """Where everything is when an episode starts.

    Attributes:
        cells: uint8 `[W, H, 3]`, object, colour and state of each cell.
        start: x and y of the agent.
        direction: that the agent faces: 0 right, 1 down, 2 left, 3 up.
    """

    cells: np.ndarray
    start: tuple[int, int]
    direction: int


def four_rooms(seed: int, *, size: int = 19) -> Layout:
    """Return four rooms around a cross of walls with a gap in each arm, a goal and a start."""
    rng = np.random.default_rng([seed, 4])
    cells = _walled(size, size)
    half = size // 2
    cells[half, :] = cells[:, half] = WALL, GREY, 0
    for low, high in ((1, half), (half + 1, size - 1)):
        cells[half, rng.integers(low, high)] = EMPTY, 0, 0
        cells[rng.integers(low, high), half] = EMPTY, 0, 0
    _put(cells, rng, GOAL, GREEN)
    return Layout(cells, _free(cells, rng), int(rng.integers(4)))


def multi_room(seed: int, *, rooms: int, size: int, side: int = 25) -> Layout:
    """Return a chain of rooms joined by closed doors, the start in the first and the goal in the last.

    Args:
        seed: of the layout.
        rooms: in the chain.
        size: largest outer side of a room; the smallest is 4.
        side: of the whole grid.
    """
    rng = np.random.default_rng([seed, 5])
    chain: list[tuple[int, int, int, int]] | None = None
    while chain is None:
        found = _chain(rng, rooms, size, side)
        chain, doors = found if found is not None else (None, [])
    cells = np.zeros((side, side, 3), np.uint8)
    cells[...] = EMPTY, 0, 0
    for x, y, w, h in chain:
        cells[x : x + w, [y, y + h - 1]] = WALL, GREY, 0
        cells[[x, x + w - 1], y : y + h] = WALL, GREY, 0
    colour = -1
    for door in doors:
        colour = int(rng.choice([c for c in range(COLOURS) if c != colour]))
        cells[door] = DOOR, colour, CLOSED
    _put(cells, rng, GOAL, GREEN, chain[-1])
    return Layout(cells, _free(cells, rng, chain[0]), int(rng.integers(4)))


def key_corridor(seed: int, *, rows: int, size: int) -> Layout:
    """Return a corridor between two columns of rooms; a ball lies behind a locked door, its key in a room on the left.

    Args:
        seed: of the layout.
        rows: of rooms.
        size: outer side of a room.
    """
    rng = np.random.default_rng([seed, 6])
    pitch = size - 1
    cells = _walled(3 * pitch + 1, rows * pitch + 1)
    cells[::pitch, :] = cells[:, ::pitch] = WALL, GREY, 0
    cells[pitch + 1 : 2 * pitch, pitch : rows * pitch : pitch] = EMPTY, 0, 0
    locked, hidden = int(rng.integers(rows)), int(rng.integers(rows))
    colour = int(rng.integers(COLOURS))
    for row in range(rows):
        for x in (pitch, 2 * pitch):
            shut = x == 2 * pitch and row == locked
            shade = colour if shut else int(rng.integers(COLOURS))
            cells[x, row * pitch + rng.integers(1, pitch)] = DOOR, shade, LOCKED if shut else CLOSED
    _put(cells, rng, KEY, colour, (0, hidden * pitch, size, size))
    _put(cells, rng, BALL, int(rng.integers(COLOURS)), (2 * pitch, locked * pitch, size, size))
    middle = (pitch, (rows // 2) * pitch, size, size)
    return Layout(cells, _free(cells, rng, middle), int(rng.integers(4)))


def reachable(layout: Layout) -> np.ndarray:
    """Return which cells the agent can ever stand on, bool `[W, H]`: doors can be opened, keys and balls picked up."""
    solid = layout.cells[..., 0] == WALL
    seen = np.zeros_like(solid)
    seen[layout.start] = True
    queue = deque([layout.start])
    while queue:
        x, y = queue.popleft()
        for dx, dy in DIRECTIONS:
            there = (int(x + dx), int(y + dy))
            inside = 0 <= there[0] < solid.shape[0] and 0 <= there[1] < solid.shape[1]
            if inside and not solid[there] and not seen[there]:
                seen[there] = True
                queue.append(there)
    return seen


def from_minigrid(env: Any) -> Layout:
    """Return the layout of a MiniGrid environment that has just been reset."""
    inner = env.unwrapped
    x, y = (int(v) for v in inner.agent_pos)
    return Layout(inner.grid.encode().astype(np.uint8), (x, y), int(inner.agent_dir))


def _walled(width: int, height: int) -> np.ndarray:
    cells = np.zeros((width, height, 3), np.uint8)
    cells[...] = EMPTY, 0, 0
    cells[[0, -1], :] = cells[:, [0, -1]] = WALL, GREY, 0
    return cells


def _free(
    cells: np.ndarray, rng: np.random.Generator, room: tuple[int, int, int, int] | None = None
) -> tuple[int, int]:
    """Return an empty cell, of a room (x, y, width, height) if one is given."""
    x, y, w, h = room or (0, 0, *cells.shape[:2])
    found = np.argwhere(cells[x + 1 : x + w - 1, y + 1 : y + h - 1, 0] == EMPTY)
    i, j = found[rng.integers(len(found))]
    return int(x + 1 + i), int(y + 1 + j)


def _put(
    cells: np.ndarray, rng: np.random.Generator, kind: int, colour: int, room: tuple[int, int, int, int] | None = None
) -> None:
    cells[_free(cells, rng, room)] = kind, colour, 0


def _chain(rng: np.random.Generator, rooms: int, size: int, side: int) -> Any:
    """Return rooms (x, y, w, h) and the doors between them, or None where a try ends in a dead end."""
    w, h = (int(v) for v in rng.integers(4, size + 1, 2))
    chain = [(int(rng.integers(side - w + 1)), int(rng.integers(side - h + 1)), w, h)]
    doors: list[tuple[int, int]] = []
    entry = -1
    while len(chain) < rooms:
        for _ in range(8):
            x, y, w, h = chain[-1]
            wall = int(rng.choice([d for d in range(4) if d != entry]))
            door = (
                (x + (w - 1 if wall == 0 else 0), y + int(rng.integers(1, h - 1))) if wall % 2 == 0
                else (x + int(rng.integers(1, w - 1)), y + (h - 1 if wall == 1 else 0))
            )  # fmt: skip
            room = _next_room(rng, wall, door, size)
            if _fits(room, chain, side):
                break
        else:
            return None
        chain.append(room)
        doors.append(door)
        entry = (wall + 2) % 4
    return chain, doors


def _next_room(rng: np.random.Generator, wall: int, door: tuple[int, int], size: int) -> tuple[int, int, int, int]:
    """Return a room behind a door in the given wall of the room before; the two share that wall."""
    w, h = (int(v) for v in rng.integers(4, size + 1, 2))
    x, y = door
    if wall % 2 == 0:
        return (x if wall == 0 else x - w + 1), y - int(rng.integers(1, h - 1)), w, h
    return x - int(rng.integers(1, w - 1)), (y if wall == 1 else y - h + 1), w, h


def _fits(room: tuple[int, int, int, int], chain: list[tuple[int, int, int, int]], side: int) -> bool:
    """Whether a room lies within the grid, shares a wall with the last room and touches no other."""
    x, y, w, h = room
    if x < 0 or y < 0 or x + w > side or y + h > side:
        return False
    for a, b, c, d in chain[:-1]:
        if x <= a + c - 1 and a <= x + w - 1 and y <= b + d - 1 and b <= y + h - 1:
            return False
    return True
