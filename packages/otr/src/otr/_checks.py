"""What configurations check about numbers; the messages name the field, the value and what is allowed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from outerloop.errors import UserError

__all__ = ["at_least", "one_of", "positive"]


def one_of(field: str, value: Any, allowed: Sequence[Any]) -> None:
    """Raise unless `value` is one of `allowed`."""
    if value not in allowed:
        raise UserError(f"{field} is one of {', '.join(map(repr, allowed))}; got {value!r}.")


def at_least(field: str, value: Any, least: float) -> None:
    """Raise unless `value` is a finite number and at least `least`."""
    if not isinstance(value, int | float) or not math.isfinite(value) or value < least:
        raise UserError(f"{field} is a number of at least {least:g}; got {value!r}.")


def positive(field: str, value: Any) -> None:
    """Raise unless `value` is a finite number above 0."""
    if not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
        raise UserError(f"{field} is a number above 0; got {value!r}.")
