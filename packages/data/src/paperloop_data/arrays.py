"""What an array of a dataset must be: real numbers, one row a step, finite; and what is said when it is not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from paperloop.errors import UserError
from paperloop_data.text import shown

__all__ = [
    "blocks",
    "check_rows",
    "check_starts",
    "first_nonfinite",
    "flag_column",
    "frozen",
    "nonfinite_rows",
    "number_array",
    "number_column",
    "place",
    "same_bits",
    "starts_after",
    "starts_of",
]

#: Values looked at in one go where a temporary array is needed, so that a check of 1 GB does not allocate 1 GB.
BLOCK_VALUES = 1 << 20


def frozen(array: np.ndarray) -> np.ndarray:
    """Return a read-only view of `array`; the flag of the original is left alone."""
    view = array.view()
    view.flags.writeable = False
    return view


def number_array(value: Any, field: str, where: str) -> np.ndarray:
    """Return `value` as a contiguous array of native booleans, integers or floats, copied only where it must be.

    Raises:
        UserError: it is ragged, or holds text, objects, dates, structures or complex numbers.
    """
    try:
        array = np.asarray(value)
    except ValueError:  # NumPy refuses ragged nested lists
        raise UserError(
            f"{where}: {shown(field)} is ragged (its rows differ in shape); give one array with a row for each step."
        ) from None
    if array.dtype.kind not in "biuf":
        raise UserError(
            f"{where}: {shown(field)} is of type {array.dtype}; give real numbers (booleans, integers or floats)."
        )
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    return np.ascontiguousarray(array) if array.ndim else array


def number_column(value: Any, field: str, where: str) -> np.ndarray:
    """Return `value` as floats of shape (N,); (N, 1) is squeezed and integers become float64, which is lossless."""
    array = _column(number_array(value, field, where), field, where)
    return array if array.dtype.kind == "f" else array.astype(np.float64)


def flag_column(value: Any, field: str, where: str) -> np.ndarray:
    """Return `value` as booleans of shape (N,); (N, 1) is squeezed, and numbers are taken if each is 0 or 1."""
    array = _column(number_array(value, field, where), field, where)
    if array.dtype.kind == "b":
        return array
    wrong = (array != 0) & (array != 1)
    if wrong.any():
        row = int(wrong.argmax())
        raise UserError(
            f"{where}: {shown(field)} holds {array[row]} at row {row}; a flag is 0 or 1, so fix or recompute it."
        )
    return array.astype(bool)


def _column(array: np.ndarray, field: str, where: str) -> np.ndarray:
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise UserError(f"{where}: {shown(field)} is of shape {array.shape}; give one value for each step, shape (N,).")
    return array


def check_starts(starts: Any, steps: int, where: str) -> np.ndarray:
    """Return episode starts as int64 of shape (E,): 0 first, strictly increasing, all below `steps`."""
    array = np.asarray(starts)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise UserError(
            f"{where}: episode_starts is of shape {array.shape} and type {array.dtype}; "
            "give the row at which each episode starts as integers of shape (E,)."
        )
    array = array.astype(np.int64)
    if array.size == 0 or array[0] != 0:
        first = "empty" if array.size == 0 else f"{array[0]} at first"
        raise UserError(f"{where}: episode_starts is {first}; the first episode starts at row 0.")
    falls = np.diff(array) <= 0
    if falls.any():
        episode = int(falls.argmax())
        raise UserError(
            f"{where}: episode {episode} starts at row {array[episode]} and episode {episode + 1} at row "
            f"{array[episode + 1]}; episode_starts must increase strictly, so remove empty episodes and sort the rest."
        )
    if array[-1] >= steps:
        raise UserError(
            f"{where}: episode {array.size - 1} starts at row {array[-1]}, but there are only {steps} rows; "
            "give episode_starts that belong to these arrays."
        )
    return array


def blocks(array: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (first row, rows) over `array`, about `BLOCK_VALUES` values at a time."""
    width = max(1, int(np.prod(array.shape[1:])))
    rows = max(1, BLOCK_VALUES // width)
    for first in range(0, len(array), rows):
        yield first, array[first : first + rows]


def first_nonfinite(array: np.ndarray) -> int | None:
    """Return the first row of `array` that holds a NaN or an infinity, or None."""
    if array.dtype.kind != "f":
        return None
    for first, block in blocks(array):
        finite = np.isfinite(block)
        if not finite.all():
            rows = finite.reshape(len(block), -1).all(axis=1)
            return first + int(rows.argmin())
    return None


def nonfinite_rows(array: np.ndarray) -> np.ndarray:
    """Return booleans of shape (N,): which rows hold a NaN or an infinity."""
    found = np.zeros(len(array), bool)
    if array.dtype.kind == "f":
        for first, block in blocks(array):
            found[first : first + len(block)] = ~np.isfinite(block).reshape(len(block), -1).all(axis=1)
    return found


def place(row: int, starts: np.ndarray) -> str:
    """Return "row 12 (episode 1, step 3)" for a row of the flat arrays."""
    episode = int(np.searchsorted(starts, row, side="right")) - 1
    return f"row {row} (episode {episode}, step {row - int(starts[episode])})"


def same_bits(a: np.ndarray | None, b: np.ndarray | None) -> bool:
    """Whether two arrays agree in type, shape and every bit; -0.0 differs from 0.0, and a NaN equals itself."""
    if a is None or b is None:
        return a is b
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    if a.size == 0:
        return True
    a, b = np.ascontiguousarray(a), np.ascontiguousarray(b)
    return bool(np.array_equal(a.reshape(-1).view(np.uint8), b.reshape(-1).view(np.uint8)))


def check_rows(array: Any, field: str, steps: int, where: str) -> None:
    """Raise unless `array` has one row for each of the `steps` observations."""
    if np.ndim(array) == 0 or len(array) != steps:
        rows = "is a single number" if np.ndim(array) == 0 else f"has {len(array)} rows"
        raise UserError(
            f"{where}: {shown(field)} {rows}, but observations has {steps}; give arrays with one row for each step."
        )


def starts_of(lengths: np.ndarray) -> np.ndarray:
    """Return the first row of each episode, (E,) int64, from their lengths."""
    return np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int64)


def starts_after(ends: np.ndarray) -> np.ndarray:
    """Return the first row of each episode, (E,) int64, from booleans that say which rows are last."""
    last = np.flatnonzero(ends)
    return np.concatenate([[0], last[last < len(ends) - 1] + 1])
