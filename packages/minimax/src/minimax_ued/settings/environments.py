"""Settings of environments, and of what builds their levels."""

from __future__ import annotations

from typing import Annotated, Literal

from minimax_ued.settings.counts import Count, CountOrZero
from paperloop.settings import Ge, Gt, Le, Lt, Note, fault, settings

__all__ = ["CartPoleConfig", "EditorConfig", "MazeConfig", "OwnConfig"]


@settings
class MazeConfig:
    """The maze environment and its random level generator.

    Attributes:
        height: rows of the maze, outer wall not counted.
        width: columns of the maze, outer wall not counted.
        n_walls: cells drawn as walls by the random generator, with replacement, so that the number of walls varies.
        sample_n_walls: draw the number of walls uniformly from 0 to `n_walls`.
        view_size: edge of the square the agent sees in front of it, in cells; odd.
        see_through_walls: no occlusion.
        max_steps: T, steps after which an episode is cut off.
    """

    type: Literal["maze"] = "maze"
    height: Annotated[int, Ge(1), Le(255)] = 13
    width: Annotated[int, Ge(1), Le(255)] = 13
    n_walls: CountOrZero = 60
    sample_n_walls: bool = False
    view_size: Annotated[int, Ge(3), Le(15)] = 5
    see_through_walls: bool = True
    max_steps: Count = 250

    def __post_init__(self) -> None:
        if self.view_size % 2 == 0:
            raise fault(self, "view_size", "odd, because the agent stands in the middle column of its view")
        cells = self.height * self.width
        if cells < 2:
            raise fault(
                self,
                "height",
                text=f"{{height}} x {{width}} is {self.height} x {self.width}, but a maze needs at least two cells: "
                "one for the agent and one for the goal.",
            )
        if self.n_walls > cells - 2:
            room = f"at most {cells - 2}, so that {self.height} x {self.width} cells keep room for agent and goal"
            raise fault(self, "n_walls", room)


@settings
class CartPoleConfig:
    """CartPole of gymnax with its physics as the level (extra `gymnax`).

    A level is a point in the unit cube; each coordinate is one physical constant on a logarithmic scale between its
    nominal value divided by `spread` and times `spread`.

    Attributes:
        spread: the largest factor between a constant and its nominal value; above 1.
        max_steps: T, steps after which an episode is cut off.
        success: part of T that a successful episode lasts longer than; below 1.
    """

    type: Literal["cartpole"] = "cartpole"
    spread: Annotated[float, Gt(1), Le(100)] = 4.0
    max_steps: Count = 200
    success: Annotated[float, Ge(0), Lt(1), Note("no episode lasts longer than T")] = 0.95


@settings
class OwnConfig:
    """An environment of the user's own, which is given to `UEDTrainer`."""

    type: Literal["own"] = "own"


@settings
class EditorConfig:
    """The environment in which a teacher builds a maze, cell after cell.

    Attributes:
        n_walls: walls it may place.
        noise_dim: length of the random vector that the teacher sees, redrawn at each step.
    """

    n_walls: Count = 60
    noise_dim: CountOrZero = 50
