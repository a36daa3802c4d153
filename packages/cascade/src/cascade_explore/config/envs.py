"""Settings of environments."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from paperloop.settings import Count, Seed, fault, settings

__all__ = ["Cheetah", "Crafter", "FourRooms", "Gym", "KeyCorridor", "MultiRoom", "Walker"]


@settings
class FourRooms:
    """MiniGrid's four rooms around a cross of walls, 19 x 19.

    Attributes:
        layouts: how many fixed layouts; each episode draws one of them.
        layout_seed: of the first layout; the others follow.
        max_steps: after which an episode is cut.
        pixels: show the view as an image of 64 x 64 instead of symbols; its direction is not seen then.
    """

    type: Literal["four_rooms"] = "four_rooms"
    layouts: Count = 1
    layout_seed: Seed = 0
    max_steps: Count = 100
    pixels: bool = False


@settings
class MultiRoom:
    """MiniGrid's chain of rooms behind closed doors.

    Attributes:
        rooms: in the chain.
        size: largest outer side of a room; the smallest is 4.
        layouts: how many fixed layouts; each episode draws one of them.
        layout_seed: of the first layout; the others follow.
        max_steps: after which an episode is cut (None: 20 a room).
        pixels: show the view as an image of 64 x 64 instead of symbols; its direction is not seen then.
    """

    type: Literal["multi_room"] = "multi_room"
    rooms: Count = 4
    size: Annotated[int, Field(ge=4, le=10)] = 5
    layouts: Count = 1
    layout_seed: Seed = 0
    max_steps: Count | None = None
    pixels: bool = False

    def __post_init__(self) -> None:
        if self.rooms > 8:
            raise fault(self, "rooms", "at most 8, which is what the grid of 25 x 25 holds")


@settings
class KeyCorridor:
    """MiniGrid's corridor: find the key, open the locked door, pick up the ball.

    Attributes:
        rows: of rooms.
        size: outer side of a room.
        layouts: how many fixed layouts; each episode draws one of them.
        layout_seed: of the first layout; the others follow.
        max_steps: after which an episode is cut (None: 30 times the square of `size`).
        pixels: show the view as an image of 64 x 64 instead of symbols; its direction is not seen then.
    """

    type: Literal["key_corridor"] = "key_corridor"
    rows: Count = 3
    size: Annotated[int, Field(ge=3, le=10)] = 3
    layouts: Count = 1
    layout_seed: Seed = 0
    max_steps: Count | None = None
    pixels: bool = False


@settings
class Gym:
    """Any gymnasium environment whose observations are a Box and whose actions are a Box or Discrete.

    Images, uint8 of three axes, are reduced to 64 x 64; other observations are numbers.

    Attributes:
        id: as `gymnasium.make` takes it; `module:Id` imports the module first.
    """

    type: Literal["gym"] = "gym"
    id: str = "CartPole-v1"


@settings
class Walker:
    """dm_control's planar walker from proprioception or pixels, stand, walk, run and flip as tasks.

    Attributes:
        repeat: control steps of 25 ms for each action.
        seconds: after which an episode is cut.
        pixels: show an image of 64 x 64 instead of numbers; a frame takes about 40 ms of a core without a GPU.
    """

    type: Literal["walker"] = "walker"
    repeat: Count = 2
    seconds: Count = 25
    pixels: bool = False


@settings
class Cheetah:
    """dm_control's cheetah from proprioception or pixels; run, run_backward, flip and flip_backward as tasks.

    Attributes:
        repeat: control steps of 10 ms for each action.
        seconds: after which an episode is cut.
        pixels: show an image of 64 x 64 instead of numbers; a frame takes about 40 ms of a core without a GPU.
    """

    type: Literal["cheetah"] = "cheetah"
    repeat: Count = 2
    seconds: Count = 10
    pixels: bool = False


@settings
class Crafter:
    """Crafter's world in 64 x 64 pixels, its 22 achievements as tasks.

    Attributes:
        max_steps: after which an episode is cut.
    """

    type: Literal["crafter"] = "crafter"
    max_steps: Count = 10_000
