"""Settings of environments, of what edits their levels, and of what builds them."""

from __future__ import annotations

from typing import Annotated, Literal

from minimax_ued.settings.counts import Count, CountOrZero
from paperloop.settings import Ge, Gt, Le, Lt, Note, fault, settings

__all__ = ["CartPoleConfig", "EditorConfig", "MazeConfig", "MutationConfig"]


@settings
class MazeConfig:
    """The maze environment and its random level generator.

    Attributes:
        height: rows of the maze, outer wall not counted.
        width: columns of the maze, outer wall not counted.
        n_walls: cells drawn as walls by the random generator.
        replace_walls: draw wall cells with replacement, so that the number of distinct walls varies.
        sample_n_walls: draw the number of walls uniformly from 0 to `n_walls`.
        view_size: edge of the square the agent sees in front of it, in cells; odd.
        see_through_walls: no occlusion.
        see_agent: show the agent in its own cell.
        normalize: observe float32 images of codes divided by 10 instead of uint8 codes.
        max_steps: T, steps after which an episode is cut off.
    """

    height: Annotated[int, Ge(1), Le(255)] = 13
    width: Annotated[int, Ge(1), Le(255)] = 13
    n_walls: CountOrZero = 60
    replace_walls: bool = True
    sample_n_walls: bool = False
    view_size: Annotated[int, Ge(3), Le(15)] = 5
    see_through_walls: bool = True
    see_agent: bool = False
    normalize: bool = True
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

    spread: Annotated[float, Gt(1), Le(100)] = 4.0
    max_steps: Count = 200
    success: Annotated[float, Ge(0), Lt(1), Note("no episode lasts longer than T")] = 0.95


@settings
class MutationConfig:
    """How ACCEL edits levels (Parker-Holder et al. 2022, arXiv 2203.01302).

    Attributes:
        operator: a name in the `mutations` of the environment.
        n_edits: edits of one mutation.
        parents: which replayed levels are edited: each of them, or the `n_parents` that the student finds easiest or
            hardest, each as often as the others. Easy means a high return and a low score.
        n_parents: how many levels "easy" and "hard" keep.
    """

    operator: str = "move_goal_flip_walls"
    n_edits: Count = 20
    parents: Literal["batch", "easy", "hard"] = "batch"
    n_parents: Count = 4


@settings
class EditorConfig:
    """The environment in which a teacher builds a maze, cell after cell.

    Attributes:
        n_walls: walls it may place.
        noise_dim: length of the random vector that the teacher sees, redrawn at each step.
        replace_walls: a wall on a wall has no effect; otherwise whatever is placed on a cell that is not free goes to
            a random free cell.
        budget: how many walls are placed: "all", or a part of `n_walls` that the position of the first wall or an
            action of its own before the first wall says.
        set_direction: the teacher chooses where the agent faces, in one more step; otherwise it is random.
    """

    n_walls: Count = 60
    noise_dim: CountOrZero = 50
    replace_walls: bool = True
    budget: Literal["all", "first_wall", "first_action"] = "all"
    set_direction: bool = False
