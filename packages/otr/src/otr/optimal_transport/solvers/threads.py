"""How many threads to use."""

from __future__ import annotations

import os

__all__ = ["thread_count"]


def thread_count(asked: int) -> int:
    """Return `asked`, or for 0 the cores that this process may use."""
    if asked:
        return asked
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
