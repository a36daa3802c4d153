"""What a configuration's `__post_init__` checks: choices and flags by annotation, numbers by the range it names.

    @dataclass(frozen=True, kw_only=True)
    class PPO:
        lr: float = 3e-4
        gamma: float = 0.99
        epochs: int = 4
        clip: float | None = 0.2
        hidden: tuple[int, ...] = (64, 64)
        loss: Literal["clip", "kl"] = "clip"

        def __post_init__(self) -> None:
            check(self, lr=POSITIVE, gamma=SHARE, epochs=ONE_OR_MORE, clip=POSITIVE, hidden=ONE_OR_MORE)

    PPO(epochs=0)      # UserError: PPO.epochs is 0; it must be an integer of at least 1.
    PPO(clip=None)     # allowed, because the annotation says so
    PPO(loss="huber")  # UserError: PPO.loss is 'huber'; it must be one of 'clip', 'kl'.

Whether a number is whole, may be None, or is a tuple of numbers follows from the annotation, so that a range says
nothing but the range.
"""

from __future__ import annotations

import math
import numbers
import types
import typing
from dataclasses import dataclass
from typing import Any, Literal

from paperloop.config import field_types
from paperloop.errors import UserError

__all__ = [
    "FINITE",
    "NOT_NEGATIVE",
    "ONE_OR_MORE",
    "POSITIVE",
    "POSITIVE_SHARE",
    "SHARE",
    "Range",
    "at_least",
    "check",
    "refusal",
]


@dataclass(frozen=True)
class Range:
    """An interval of numbers.

    >>> 0.5 in Range(0, 1), 0 in Range(0, 1, open_low=True), float("inf") in Range(0)
    (True, False, False)

    Attributes:
        low: lower bound.
        high: upper bound.
        open_low: `low` itself is outside.
        open_high: `high` itself is outside.
        infinite: an infinite bound is inside. NaN never is.
        note: why, or what the bounds are, in a few words for the message.
    """

    low: float = -math.inf
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False
    infinite: bool = False
    note: str = ""

    def __contains__(self, value: Any) -> bool:
        """Whether a number lies inside; what is no number (a bool is none) does not."""
        if not _is_number(value) or not self.low <= value <= self.high:  # NaN fails the comparison
            return False
        if (self.open_low and value == self.low) or (self.open_high and value == self.high):
            return False
        try:
            return self.infinite or math.isfinite(value)
        except OverflowError:  # an integer that no float can hold
            return False

    def describe(self, *, whole: bool = False, several: bool = False) -> str:
        """Return what is allowed, for a message: "an integer of at least 1", "a number in (0, 1]".

        Args:
            whole: integers only.
            several: one or more of them.
        """
        has_low, has_high = self.low > -math.inf, self.high < math.inf
        noun = "integer" if whole else "number" if self.infinite or (has_low and has_high) else "finite number"
        text = f"one or more {noun}s" if several else f"{'an' if whole else 'a'} {noun}"
        if has_low and has_high:
            if whole and not self.open_low and not self.open_high:
                text += f" from {_number(self.low)} to {_number(self.high)}"
            else:
                brackets = "[("[self.open_low], "])"[self.open_high]
                text += f" in {brackets[0]}{_number(self.low)}, {_number(self.high)}{brackets[1]}"
        elif has_low:
            text += f" {'greater than' if self.open_low else 'of at least'} {_number(self.low)}"
        elif has_high:
            text += f" {'less than' if self.open_high else 'of at most'} {_number(self.high)}"
        return f"{text} ({self.note})" if self.note else text


def at_least(low: float, note: str = "") -> Range:
    """Return the range of finite numbers from `low` on."""
    return Range(low, note=note)


#: Any finite number.
FINITE = Range()
#: Above 0.
POSITIVE = Range(0, open_low=True)
#: From 0 on.
NOT_NEGATIVE = at_least(0)
#: From 1 on: counts of what there must be.
ONE_OR_MORE = at_least(1)
#: [0, 1]: probabilities and shares.
SHARE = Range(0, 1)
#: (0, 1]: shares of which something must be left.
POSITIVE_SHARE = Range(0, 1, open_low=True)


def check(config: Any, **ranges: Range) -> None:
    """Refuse a configuration with a field out of its range, or with a choice or flag that its annotation does not have.

    - Fields annotated `bool` hold True or False, and those annotated `Literal[...]` one of its values, whether they are
      named or not; None where the annotation allows it.
    - A named field holds a number in its range: an integer where the annotation is `int`, and never a bool. NumPy's
      numbers are numbers. None is allowed where the annotation says so.
    - A named field annotated `tuple[int, ...]` or `tuple[float, ...]` holds one or more such numbers.

    Fields of other types, and numbers that are not named, are not looked at.

    Args:
        config: the dataclass instance.
        ranges: field -> what it may hold.

    Raises:
        UserError: the first field that holds something else; names class and field, the value, and what is allowed.
        TypeError: a named field does not exist or holds no numbers: the developer's error.
    """
    hints = field_types(type(config))
    if unknown := ranges.keys() - hints.keys():
        raise TypeError(f"{type(config).__name__} has no field {sorted(unknown)[0]!r} to check")
    for name, hint in hints.items():
        union = typing.get_origin(hint) in (typing.Union, types.UnionType)
        parts = typing.get_args(hint) if union else (hint,)
        optional = types.NoneType in parts
        if optional and getattr(config, name) is None:
            continue
        if name in ranges:
            allowed = _check_number(config, name, ranges[name], parts)
        else:
            allowed = _check_choice(config, name, parts)
        if allowed:
            raise refusal(config, name, f"{allowed}, or None" if optional else allowed)


def refusal(config: Any, name: str, allowed: str) -> UserError:
    """Return the error, to be raised, of a field whose value is not `allowed`: for rules that are no range.

    >>> raise refusal(maze, "view_size", "odd, because the agent stands in the middle column")  # doctest: +SKIP
    UserError: Maze.view_size is 4; it must be odd, because the agent stands in the middle column.
    """
    return UserError(f"{type(config).__name__}.{name} is {getattr(config, name)!r}; it must be {allowed}.")


def _check_number(config: Any, name: str, allowed: Range, parts: tuple[Any, ...]) -> str:
    """Return what is allowed where the field holds something else, and "" where all is well."""
    value = getattr(config, name)
    several = next((part for part in parts if typing.get_origin(part) is tuple), None)
    kinds = set(typing.get_args(several) if several else parts)
    if not kinds & {int, float}:
        raise TypeError(f"{type(config).__name__}.{name} is annotated {parts}, which holds no numbers to check")
    whole = float not in kinds
    if several:
        good = isinstance(value, tuple | list) and bool(value) and all(_fits(v, allowed, whole) for v in value)
    else:
        good = _fits(value, allowed, whole)
    return "" if good else allowed.describe(whole=whole, several=bool(several))


def _check_choice(config: Any, name: str, parts: tuple[Any, ...]) -> str:
    """As `_check_number`, for bool and Literal fields; "" for all others."""
    value = getattr(config, name)
    kinds = [part for part in parts if part is not types.NoneType]
    if kinds == [bool]:
        return "" if isinstance(value, bool) else "true or false"
    if len(kinds) == 1 and typing.get_origin(kinds[0]) is Literal:
        choices = typing.get_args(kinds[0])
        return "" if value in choices else "one of " + ", ".join(map(repr, choices))
    return ""


def _fits(value: Any, allowed: Range, whole: bool) -> bool:
    return value in allowed and (not whole or isinstance(value, numbers.Integral))


def _is_number(value: Any) -> bool:
    """Whether a value is Python's or NumPy's integer or float: no bool, and no fraction."""
    if isinstance(value, bool):
        return False
    real = isinstance(value, numbers.Real) and not isinstance(value, numbers.Rational)
    return real or isinstance(value, numbers.Integral)


def _number(value: float) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
