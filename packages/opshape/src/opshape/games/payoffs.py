"""Two-by-two payoffs: presets, the class of a game, checks. Plain Python, so that settings can use it.

A payoff table is `table[a1][a2] = (r1, r2)`, with action 0 for "cooperate" (heads) and 1 for "defect" (tails).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from paperloop.errors import UserError

__all__ = ["PAYOFFS", "Payoffs", "check_payoffs", "classify", "swap"]

Cell = tuple[float, float]
Payoffs = tuple[tuple[Cell, Cell], tuple[Cell, Cell]]

#: The names and what they stand for. `chicken` is that of Meta-Value Learning (Cooijmans et al. 2023), whose collision
#: costs 100.
PAYOFFS: dict[str, Payoffs] = {
    "ipd": (((-1.0, -1.0), (-3.0, 0.0)), ((0.0, -3.0), (-2.0, -2.0))),
    "imp": (((1.0, -1.0), (-1.0, 1.0)), ((-1.0, 1.0), (1.0, -1.0))),
    "chicken": (((0.0, 0.0), (-1.0, 1.0)), ((1.0, -1.0), (-100.0, -100.0))),
    "stag_hunt": (((4.0, 4.0), (1.0, 3.0)), ((3.0, 1.0), (2.0, 2.0))),
    "battle_of_the_sexes": (((3.0, 2.0), (0.0, 0.0)), ((0.0, 0.0), (2.0, 3.0))),
}


def check_payoffs(table: Sequence[Any], where: str = "payoffs") -> Payoffs:
    """Return `table` as nested tuples of floats.

    Raises:
        UserError: it does not have the shape 2 x 2 x 2, or holds something that is not a finite number.
    """
    try:
        rows = tuple(tuple(tuple(float(r) for r in cell) for cell in row) for row in table)
    except (TypeError, ValueError):
        rows = ()
    if len(rows) != 2 or any(len(row) != 2 or any(len(cell) != 2 for cell in row) for row in rows):
        raise UserError(
            f"{where} is {table!r}; it must have the form [[CC, CD], [DC, DD]], each a pair (own reward, the other's)."
        )
    if not all(math.isfinite(r) for row in rows for cell in row for r in cell):
        raise UserError(f"{where} holds a number that is not finite: {table!r}.")
    return rows  # ty: ignore[invalid-explicit-return]


def swap(table: Payoffs) -> Payoffs:
    """Return the same game as the other player sees it: his action first, his reward first."""
    return tuple(tuple((table[b][a][1], table[b][a][0]) for b in (0, 1)) for a in (0, 1))  # ty: ignore


def classify(table: Payoffs) -> str:
    """Return which game a payoff table is: a key of `PAYOFFS`, "harmony", or "other".

    Symmetric games are told apart by the order of R (both cooperate), S (only I do), T (only the other does) and
    P (nobody does): T > R > P > S with 2 R > T + S is the iterated prisoner's dilemma, T > R > S > P chicken,
    R > T >= P > S the stag hunt. Matching pennies has a constant sum and no equilibrium in pure strategies; in the
    battle of the sexes both equilibria are on the diagonal and the players disagree about them.
    """
    (cc, cd), (dc, dd) = table
    if table == swap(table):
        r, s, t, p = cc[0], cd[0], dc[0], dd[0]
        if t > r > p > s and 2 * r > t + s:
            return "ipd"
        if t > r > s > p:
            return "chicken"
        if r > t >= p > s:
            return "stag_hunt"
        if r > t and s > p:
            return "harmony"
    equilibria = [
        (a, b)
        for a in (0, 1)
        for b in (0, 1)
        if table[a][b][0] >= table[1 - a][b][0] and table[a][b][1] >= table[a][1 - b][1]
    ]
    if not equilibria and len({cell[0] + cell[1] for row in table for cell in row}) == 1:
        return "imp"
    if equilibria == [(0, 0), (1, 1)] and (cc[0] - dd[0]) * (cc[1] - dd[1]) < 0:
        return "battle_of_the_sexes"
    return "other"
