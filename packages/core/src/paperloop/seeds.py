"""Named sub-seeds, so that no two parts of a run share a random stream by accident."""

from __future__ import annotations

import hashlib
import operator
from typing import Any

from paperloop.errors import UserError

__all__ = ["check_seed", "fold_seed"]


def check_seed(seed: Any) -> int:
    """Return `seed` as a Python integer in [0, 2**63)."""
    try:
        value = operator.index(seed)  # takes NumPy integers, refuses floats
    except TypeError:
        raise UserError(f"A seed is an integer from 0 to 2**63 - 1; got {seed!r}.") from None
    if isinstance(seed, bool) or not 0 <= value < 2**63:
        raise UserError(f"A seed is an integer from 0 to 2**63 - 1; got {seed!r}.")
    return value


def fold_seed(seed: int, *labels: str | int) -> int:
    """Return a seed in [0, 2**32) that depends on `seed` and on every label, and on nothing else.

    The same on every machine, Python and library version: it is the head of a SHA-256.

    >>> fold_seed(0, "eval", "mazes") == fold_seed(0, "eval", "mazes")
    True
    >>> fold_seed(0, "eval") == fold_seed(0, "train")
    False
    """
    text = "\x1f".join([str(check_seed(seed)), *(f"{type(label).__name__}:{label}" for label in labels)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
