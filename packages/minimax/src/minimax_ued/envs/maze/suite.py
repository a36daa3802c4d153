"""The out-of-distribution test mazes by name: what an evaluation draws its episodes from."""

from __future__ import annotations

import dataclasses
import difflib
import functools
from collections.abc import Callable
from typing import ClassVar

import jax

from minimax_ued.envs.maze import procedural
from minimax_ued.envs.maze.fixed import FIXED_MAZES
from minimax_ued.envs.maze.level import Level
from outerloop.errors import UserError

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
    """

    __test__: ClassVar[bool] = False  # it is no test case, whatever its name makes pytest think

    name: str
    height: int
    width: int
    max_steps: int
    sample_level: Callable[[jax.Array], Level]


def get_test_maze(name: str) -> TestMaze:
    """Return the test maze called `name`.

    Raises:
        UserError: there is none; the message names the nearest one.
    """
    if name not in TEST_MAZES:
        near = difflib.get_close_matches(name, TEST_MAZES, n=1)
        hint = f"did you mean {near[0]!r}?" if near else "known are " + ", ".join(TEST_MAZES) + "."
        raise UserError(f"There is no test maze {name!r}; {hint}")
    return TEST_MAZES[name]


def _family(name: str, size: int, max_steps: int, sample: Callable[..., Level]) -> TestMaze:
    return TestMaze(name, size, size, max_steps, functools.partial(sample, size=size))


def _area(size: int) -> int:
    return 2 * (size + 2) ** 2


#: Name -> test maze. `PerfectMazeXL` is 101 x 101 with T = 21,218: leave it out of quick evaluations.
TEST_MAZES: dict[str, TestMaze] = {
    **{
        name: TestMaze(name, maze.height, maze.width, _area(maze.width), maze.sample_level)
        for name, maze in FIXED_MAZES.items()
    },
    "FourRooms": _family("FourRooms", 17, 250, procedural.four_rooms),
    "Crossing": _family("Crossing", 9, 2 * _area(9), procedural.crossing),
    "PerfectMaze": _family("PerfectMaze", 13, _area(13), procedural.perfect_maze),
    "PerfectMazeMedium": _family("PerfectMazeMedium", 19, _area(19), procedural.perfect_maze),
    "PerfectMazeXL": _family("PerfectMazeXL", 101, _area(101), procedural.perfect_maze),
}
