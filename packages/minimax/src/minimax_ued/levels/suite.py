"""The out-of-distribution test mazes by name: what an evaluation draws its episodes from.

Names without suffix are the mazes of minimax (Jiang et al. 2023, arXiv 2311.12716). Those that end in "DCD" are the
mazes of the older code (facebookresearch/dcd) behind the tables of Jiang et al. 2021 (arXiv 2110.02439) and
Parker-Holder et al. 2022 (arXiv 2203.01302), where the two differ; compare with those tables on these:

- `FourRoomsDCD`: T = 100 instead of 250; walls are opaque; agent and goal may stand in doors.
- `CrossingDCD` ("SimpleCrossingS11N5"): exactly five walls instead of two to eight; one opening for each wall, made
  room by room, instead of one walk through all; walls are opaque. T is the same.
- `PerfectMaze...DCD`: by Kruskal's algorithm instead of depth-first search; agent and goal in two corners instead of
  anywhere; the agent faces right. The sizes are the original's: 9 (Small), 19 (Medium), 49 (Large) and 99 (XL).

The fixed mazes are the same in both. Minimax has one more, `Memory`, which it does not offer for use: two look-alike
goals and a coloured clue that tells which ends the episode without reward. It is left out here, because it is not a
maze of walls and one goal: it takes two more kinds of object and another rule for an episode's end.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, ClassVar

import jax

from minimax_ued.config import MazeConfig
from minimax_ued.envs.maze.level import Level
from minimax_ued.levels import procedural
from minimax_ued.levels.fixed import FIXED_MAZES
from minimax_ued.support.registry import look_up

__all__ = ["TEST_MAZES", "TestMaze", "get_test_maze"]


@dataclasses.dataclass(frozen=True)
class TestMaze:
    """A maze, or a family of mazes, on which a student is tested without having trained on it.

    Attributes:
        name: as in the papers' tables.
        height: H.
        width: W.
        max_steps: T of its episodes; twice the area with the outer wall, unless the papers set another.
        sample_level: key -> `Level`; draws the level of one episode. It can be traced and takes one key.
        see_through_walls: whether the agent sees through walls; None leaves it as it was in training.
    """

    __test__: ClassVar[bool] = False  # it is not a test case, whatever its name makes pytest think

    name: str
    height: int
    width: int
    max_steps: int
    sample_level: Callable[[jax.Array], Level]
    see_through_walls: bool | None = None

    def environment(self, training: MazeConfig) -> MazeConfig:
        """Return the configuration of the maze's environment, with the view of that in `training`."""
        see_through = training.see_through_walls if self.see_through_walls is None else self.see_through_walls
        return dataclasses.replace(
            training,
            height=self.height,
            width=self.width,
            n_walls=0,
            sample_n_walls=False,
            max_steps=self.max_steps,
            see_through_walls=see_through,
        )


def get_test_maze(name: str) -> TestMaze:
    """Return the test maze called `name`.

    Raises:
        UserError: there is none; the message names the nearest one.
    """
    return look_up("test maze", name, TEST_MAZES)


def _family(
    name: str,
    size: int,
    max_steps: int,
    sample: Callable[..., Level],
    *,
    see_through: bool | None = None,
    **options: Any,
) -> TestMaze:
    draw = functools.partial(sample, size=size, **options)
    return TestMaze(name, size, size, max_steps, draw, see_through_walls=see_through)


def _area(size: int) -> int:
    return 2 * (size + 2) ** 2


def _families() -> dict[str, TestMaze]:
    kruskal = procedural.perfect_maze_kruskal
    families = [
        _family("FourRooms", 17, 250, procedural.four_rooms),
        _family("FourRoomsDCD", 17, 100, procedural.four_rooms, see_through=False, in_doors=True),
        _family("Crossing", 9, 2 * _area(9), procedural.crossing),
        _family("CrossingDCD", 9, 2 * _area(9), procedural.crossing_room_by_room, see_through=False),
        _family("PerfectMaze", 13, _area(13), procedural.perfect_maze),
        _family("PerfectMazeMedium", 19, _area(19), procedural.perfect_maze),
        _family("PerfectMazeXL", 101, _area(101), procedural.perfect_maze),
        _family("PerfectMazeSmallDCD", 9, _area(9), kruskal, see_through=True),
        _family("PerfectMazeMediumDCD", 19, _area(19), kruskal, see_through=True),
        _family("PerfectMazeLargeDCD", 49, _area(49), kruskal, see_through=True),
        _family("PerfectMazeXLDCD", 99, _area(99), kruskal, see_through=True),
    ]
    return {family.name: family for family in families}


#: Name -> test maze. `PerfectMazeXL` is 101 x 101 with T = 21,218: leave it and its like out of quick evaluations.
TEST_MAZES: dict[str, TestMaze] = {
    **{
        name: TestMaze(name, maze.height, maze.width, _area(maze.width), maze.sample_level)
        for name, maze in FIXED_MAZES.items()
    },
    **_families(),
}
