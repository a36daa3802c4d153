"""The settings of games. Loads no array library."""

from __future__ import annotations

import warnings
from typing import Literal

from opshape.games.payoffs import PAYOFFS, Payoffs, classify
from paperloop.settings import fault, settings

__all__ = ["CoinGame", "InTheMatrix", "Matrix"]


@settings
class Matrix:
    """An iterated 2 x 2 game.

    Attributes:
        name: a preset; "custom" takes `payoffs` without comparing them with a class of games.
        payoffs: own reward and the other's after CC, CD, DC and DD: eight numbers; None takes the preset's.
    """

    type: Literal["matrix"] = "matrix"
    name: Literal["ipd", "imp", "chicken", "stag_hunt", "battle_of_the_sexes", "custom"] = "ipd"
    payoffs: tuple[float, float, float, float, float, float, float, float] | None = None

    def __post_init__(self) -> None:
        if self.payoffs is None:
            if self.name == "custom":
                raise fault(self, "payoffs", "given for a custom game: eight numbers")
        elif self.name != "custom" and classify(self.table) != self.name:
            warnings.warn(
                f"the payoffs {self.payoffs} are called {self.name}, but are {_article(classify(self.table))}: call "
                "them custom, or correct them",
                stacklevel=2,
            )

    @property
    def table(self) -> Payoffs:
        """The payoffs as `table[a1][a2] = (r1, r2)`."""
        if self.payoffs is None:
            return PAYOFFS[self.name]
        p = self.payoffs
        return ((p[0], p[1]), (p[2], p[3])), ((p[4], p[5]), (p[6], p[7]))


def _article(name: str) -> str:
    return "of no class known here" if name == "other" else f"of the class {name}"


@settings
class CoinGame:
    """CoinGame with two coins on a 3 x 3 torus.

    Attributes:
        egocentric: views have oneself in the centre.
        taken: what a stolen coin costs its owner.
    """

    type: Literal["coin_game"] = "coin_game"
    egocentric: bool = True
    taken: float = -2.0


@settings
class InTheMatrix:
    """Coins are collected in a room, and then played as strategies of a matrix game.

    Attributes:
        payoffs: of the matrix game.
        fixed_coins: red and blue alternate; otherwise their cells are drawn in every episode.
        directions: how many directions players may start in; 3 is the reference's, which never draws the fourth.
    """

    type: Literal["in_the_matrix"] = "in_the_matrix"
    payoffs: Literal["ipd", "imp"] = "ipd"
    fixed_coins: bool = True
    directions: Literal[3, 4] = 4
