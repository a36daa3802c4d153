"""Whole numbers that fit the device's 32-bit integers."""

from __future__ import annotations

from typing import Annotated

from paperloop.settings import Ge, Le

__all__ = ["Count", "CountOrZero", "Several"]

#: Counts, which must fit the device's 32-bit integers.
Count = Annotated[int, Ge(1), Le(2**31 - 1)]
CountOrZero = Annotated[int, Ge(0), Le(2**31 - 1)]
Several = Annotated[int, Ge(2), Le(2**31 - 1)]
