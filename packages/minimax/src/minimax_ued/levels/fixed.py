"""The hand-made test mazes of the UED literature, as data.

The sixteen rooms, labyrinths, mazes and corridors come from Dennis et al. 2020 (arXiv 2012.02096) and Jiang et al. 2021
(arXiv 2110.02439); maps, starts and goals are the published facts, re-typed as one number a row.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from minimax_ued.envs.maze.level import Level

__all__ = ["FIXED_MAZES", "FixedMaze"]


@dataclasses.dataclass(frozen=True)
class FixedMaze:
    """A map with one start and one or several goals.

    Attributes:
        width: W.
        rows: one integer a row of the map, of W bits: the leftmost cell is the most significant bit, and 1 is wall.
        agent: (x, y) of the start.
        direction: direction at the start: 0 right, 1 down, 2 left, 3 up.
        goals: (x, y) of each possible goal; every episode has one, uniformly drawn.
    """

    width: int
    rows: tuple[int, ...]
    agent: tuple[int, int]
    direction: int
    goals: tuple[tuple[int, int], ...]

    @property
    def height(self) -> int:
        """H."""
        return len(self.rows)

    @property
    def levels(self) -> Level:
        """The levels, one for each goal, as NumPy arrays with a leading axis."""
        n = len(self.goals)
        walls = np.array([[row >> (self.width - 1 - x) & 1 for x in range(self.width)] for row in self.rows], bool)
        return Level(
            wall_map=np.broadcast_to(walls, (n, *walls.shape)),
            goal_pos=np.array(self.goals, np.int32),
            agent_pos=np.broadcast_to(np.array(self.agent, np.int32), (n, 2)),
            agent_dir=np.full((n,), self.direction, np.int32),
        )

    def sample_level(self, key: jax.Array) -> Level:
        """Return the level with a goal drawn uniformly."""
        index = jax.random.randint(key, (), 0, len(self.goals))
        return jax.tree.map(lambda leaf: jnp.asarray(leaf)[index], self.levels)


def _maze(
    rows: str, agent: tuple[int, int], goals: tuple[tuple[int, int], ...], direction: int = 0, width: int = 13
) -> FixedMaze:
    return FixedMaze(width, tuple(int(row, 16) for row in rows.split()), agent, direction, goals)


def _corridor(size: int) -> FixedMaze:
    """Dead ends of equal length above and below one long wall; each of the inner ones may hold the goal."""
    middle, width = size // 2, size
    bars = sum(1 << (width - 1 - x) for x in range(1, width - 1, 2))
    beam = (1 << (width - 1)) - 2
    half = (bars,) * (middle - 1)
    goals = tuple((x, y) for y in (middle - 1, middle + 1) for x in range(2, width - 2, 2))
    return FixedMaze(width, (0, *half, beam, *half, 0), (0, middle), 0, goals)


#: Name -> maze.
FIXED_MAZES: dict[str, FixedMaze] = {
    "SixteenRooms": _maze(
        "0248 0008 0240 176e 0200 0048 1add 0208 0240 0f6b 0248 0040 0208",
        agent=(1, 1),
        goals=((11, 11),),
    ),
    "SixteenRooms2": _maze(
        "0208 0048 0248 1edd 0240 0048 17df 0248 0200 1b6f 0248 0040 0248",
        agent=(1, 1),
        goals=((11, 11),),
    ),
    "Labyrinth": _maze(
        "0000 0ffe 0802 0bfa 0a0a 0aea 0aaa 0aaa 088a 0ffa 0082 1ebe 0080",
        agent=(0, 12),
        goals=((6, 6),),
    ),
    "LabyrinthFlipped": _maze(
        "0000 0ffe 0802 0bfa 0a0a 0aea 0aaa 0aaa 0a22 0bfe 0820 0faf 0020",
        agent=(12, 12),
        goals=((6, 6),),
        direction=2,
    ),
    "Labyrinth2": _maze(
        "0800 0bfe 0a02 0afa 0a8a 02aa 1eaa 02ea 0a0a 0bfa 0802 0ffe 0000",
        agent=(0, 0),
        goals=((6, 6),),
    ),
    "StandardMaze": _maze(
        "0084 0ef6 0800 0ff7 0010 1fbe 0120 0c6f 0522 15ba 1488 16ee 0228",
        agent=(6, 0),
        goals=((6, 12),),
    ),
    "StandardMaze2": _maze(
        "0284 0af1 0804 0ff7 0254 1ad4 0a16 0b72 093a 0daa 08aa 0aaa 0220",
        agent=(0, 6),
        goals=((12, 4),),
    ),
    "StandardMaze3": _maze(
        "0140 0f5e 0850 03d5 1a14 02d6 0a92 0abb 08a8 0eae 08a2 0baa 0888",
        agent=(3, 0),
        goals=((12, 6),),
    ),
    "SmallCorridor": _corridor(13),
    "LargeCorridor": _corridor(19),
}
