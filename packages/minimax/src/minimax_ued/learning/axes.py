"""Mapping a function over a leading axis that often has length one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

__all__ = ["over_axis"]


def over_axis(n: int, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return `function` mapped over a leading axis of length `n` of all arguments and results.

    No `vmap` over one entry: it would turn every branch inside into a choice that pays for both sides.
    """
    if n > 1:
        return jax.vmap(function)

    def single(*args: Any) -> Any:
        return jax.tree.map(lambda x: x[None], function(*jax.tree.map(lambda x: x[0], args)))

    return single
