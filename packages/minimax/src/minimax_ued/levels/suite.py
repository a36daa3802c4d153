"""The out-of-distribution test mazes by name: what an evaluation draws its episodes from.

They are the mazes of minimax (Jiang et al. 2023, arXiv 2311.12716). The older code of the same authors
(facebookresearch/dcd), behind the tables of Jiang et al. 2021 (arXiv 2110.02439) and Parker-Holder et al. 2022 (arXiv
2203.01302), draws three of the families otherwise; `benchmarks/minimax_dcd_mazes.py` of the repository has those.

Minimax has one more, `Memory`, which it does not offer for use: two look-alike goals and a coloured clue that tells
which ends the episode without reward. It is left out here, because it is not a maze of walls and one goal.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import ClassVar

import jax

from minimax_ued.config import MazeConfig
from minimax_ued.envs.maze.level import Level
from minimax_ued.levels import procedural
from minimax_ued.levels.fixed import FIXED_MAZES
from minimax_ued.support.registry import look_up
from paperloop.errors import UserError

__all__ = ["OOD_MAZES", "TEST_MAZES", "TestMaze", "expand_mazes", "get_test_maze"]

#: The twelve test mazes of Parker-Holder et al. 2022 (arXiv 2203.01302), hand-made and procedural.
OOD_MAZES = (
    "SixteenRooms",
    "SixteenRooms2",
    "Labyrinth",
    "Labyrinth2",
    "StandardMaze",
    "StandardMaze2",
    "StandardMaze3",
    "Crossing",
    "FourRooms",
    "SmallCorridor",
    "LargeCorridor",
    "PerfectMazeMedium",
)


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


def expand_mazes(names: Sequence[str]) -> tuple[str, ...]:
    """Return names of test mazes, with the twelve of `OOD_MAZES` in the place of "ood".

    Raises:
        UserError: a maze is unknown, or named twice.
    """
    mazes = tuple(maze for name in names for maze in (OOD_MAZES if name == "ood" else (name,)))
    for maze in mazes:
        get_test_maze(maze)
    twice = sorted({maze for maze in mazes if mazes.count(maze) > 1})
    if twice:
        raise UserError(f"The test maze {twice[0]!r} is named twice: name each once.")
    return mazes


def _area(size: int) -> int:
    return 2 * (size + 2) ** 2


def _family(name: str, size: int, max_steps: int, sample: Callable[..., Level]) -> TestMaze:
    return TestMaze(name, size, size, max_steps, functools.partial(sample, size=size))


#: Name -> test maze. `PerfectMazeXL` is 101 x 101 with T = 21,218: leave it out of quick evaluations.
TEST_MAZES: dict[str, TestMaze] = {
    maze.name: maze
    for maze in (
        *(
            TestMaze(name, one.height, one.width, _area(one.width), one.sample_level)
            for name, one in FIXED_MAZES.items()
        ),
        _family("FourRooms", 17, 250, procedural.four_rooms),
        _family("Crossing", 9, 2 * _area(9), procedural.crossing),
        _family("PerfectMaze", 13, _area(13), procedural.perfect_maze),
        _family("PerfectMazeMedium", 19, _area(19), procedural.perfect_maze),
        _family("PerfectMazeXL", 101, _area(101), procedural.perfect_maze),
    )
}
