"""Memory-one strategies: the classics, and zero-determinant ones with their fit.

A strategy is five probabilities of cooperation in the order of `opshape.games.exact.STATES`: CC, CD, DC, DD, START,
own action first. Plain Python and NumPy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from opshape.games.payoffs import PAYOFFS, Payoffs
from paperloop.errors import UserError

__all__ = ["STRATEGIES", "ZeroDeterminant", "fit_zero_determinant", "strategy", "zero_determinant"]

Strategy = tuple[float, float, float, float, float]

STRATEGIES: dict[str, Strategy] = {
    "tit_for_tat": (1.0, 0.0, 1.0, 0.0, 1.0),
    "grim": (1.0, 0.0, 0.0, 0.0, 1.0),
    "win_stay_lose_shift": (1.0, 0.0, 0.0, 1.0, 1.0),
    "all_c": (1.0, 1.0, 1.0, 1.0, 1.0),
    "all_d": (0.0, 0.0, 0.0, 0.0, 0.0),
    "random": (0.5, 0.5, 0.5, 0.5, 0.5),
}


class ZeroDeterminant(NamedTuple):
    """The line (own - kappa) = chi (other - kappa) that a strategy comes closest to enforcing.

    Attributes:
        chi: the extortion factor: 1 is fair, more is extortion, less is generosity; NaN where the strategy ignores
            what its own reward depends on.
        phi: how fast it pays back.
        kappa: the reward at which both get the same; NaN for chi = 1.
        residual: root mean square of what the fit leaves of the four probabilities; 0 for a zero-determinant strategy.
    """

    chi: float
    phi: float
    kappa: float
    residual: float


def zero_determinant(
    payoffs: Payoffs = PAYOFFS["ipd"],
    *,
    chi: float,
    phi: float,
    kappa: float | None = None,
    discount: float = 1.0,
    start: float = 0.0,
) -> Strategy:
    """Return the strategy that enforces (own - kappa) = chi (other - kappa) whatever the other player does.

    Press and Dyson 2012: p - [1, 1, 0, 0] = phi ((S_X - kappa) - chi (S_Y - kappa)) over CC, CD, DC, DD. With
    discounting the left side is d p + (1 - d) p_START - [1, 1, 0, 0] (Hilbe, Traulsen and Sigmund 2015).

    Args:
        payoffs: `table[own][other]`.
        chi: the extortion factor.
        phi: the scale; small enough that all are probabilities.
        kappa: the baseline; None takes mutual defection, which is extortion.
        discount: d in (0, 1].
        start: the probability of cooperation in the first round.

    Raises:
        UserError: these parameters give no probabilities; the message says which state is out of range.
    """
    import numpy as np  # here, because the settings name strategies and `--help` must not wait

    own, other = (np.array([cell[i] for row in payoffs for cell in row]) for i in (0, 1))
    base = own[3] if kappa is None else kappa
    cooperated = np.array([1.0, 1.0, 0.0, 0.0])
    p = (cooperated + phi * ((own - base) - chi * (other - base)) - (1 - discount) * start) / discount
    for state, value in zip(("CC", "CD", "DC", "DD"), p, strict=True):
        if not -1e-9 <= value <= 1 + 1e-9:
            raise UserError(
                f"A zero-determinant strategy with chi = {chi:g}, phi = {phi:g} and kappa = {base:g} would cooperate "
                f"with probability {value:.3g} after {state}: take a smaller phi, or a kappa between mutual defection "
                "and mutual cooperation."
            )
    return (*(float(x) for x in np.clip(p, 0, 1)), float(start))  # ty: ignore[invalid-explicit-return]


def fit_zero_determinant(cooperation: Sequence[float], payoffs: Payoffs = PAYOFFS["ipd"]) -> ZeroDeterminant:
    """Return the zero-determinant strategy closest to measured probabilities of cooperation, by least squares.

    Args:
        cooperation: after CC, CD, DC and DD (a fifth value, START, is ignored); NaN where a state did not occur.
        payoffs: `table[own][other]`.

    Returns:
        The fit; all NaN where the states seen cannot tell the three parameters apart.
    """
    import numpy as np  # here, because the settings name strategies and `--help` must not wait

    own, other = (np.array([cell[i] for row in payoffs for cell in row]) for i in (0, 1))
    p = np.asarray(cooperation, float)[:4]
    seen = np.isfinite(p)
    design = np.stack([own, other, np.ones(4)], 1)[seen]
    if np.linalg.matrix_rank(design) < 3:  # as in matching pennies, where one's gain is the other's loss
        return ZeroDeterminant(*[float("nan")] * 4)
    target = (p - np.array([1.0, 1.0, 0.0, 0.0]))[seen]
    (a, b, c), *_ = np.linalg.lstsq(design, target, rcond=None)
    residual = float(np.sqrt(np.mean((design @ [a, b, c] - target) ** 2)))
    chi = -b / a if abs(a) > 1e-9 else float("nan")
    kappa = -c / (a * (1 - chi)) if abs(a) > 1e-9 and abs(1 - chi) > 1e-9 else float("nan")
    return ZeroDeterminant(float(chi), float(a), float(kappa), residual)


def strategy(name: str, payoffs: Payoffs = PAYOFFS["ipd"]) -> Strategy:
    """Return a strategy by name; `zd:CHI:PHI` and `zd:CHI:PHI:KAPPA` are zero-determinant ones.

    Raises:
        UserError: the name is unknown.
    """
    if name in STRATEGIES:
        return STRATEGIES[name]
    kind, *numbers = name.split(":")
    if kind == "zd" and len(numbers) in (2, 3):
        try:
            chi, phi, *kappa = (float(x) for x in numbers)
        except ValueError:
            raise UserError(f"The strategy {name!r} has something that is not a number: write zd:CHI:PHI.") from None
        return zero_determinant(payoffs, chi=chi, phi=phi, kappa=kappa[0] if kappa else None)
    raise UserError(f"There is no strategy {name!r}; there are {', '.join(STRATEGIES)} and zd:CHI:PHI[:KAPPA].")
