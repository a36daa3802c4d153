"""How arrays of one program are laid out over devices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["Constraint", "unconstrained"]

#: (tree, axis) -> the tree, laid out over devices along that axis.
Constraint = Callable[[Any, int], Any]


def unconstrained(tree: Any, axis: int) -> Any:
    """Return `tree`: everything on one device."""
    return tree
