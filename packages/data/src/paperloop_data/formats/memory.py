"""Asking before reading: a file that declares more than this machine's memory is refused, not half loaded."""

from __future__ import annotations

import os

from paperloop.errors import UserError

__all__ = ["check_fits"]


def check_fits(needed: int, where: str) -> None:
    """Raise if `needed` bytes exceed the physical memory, where the system tells how much that is.

    Raises:
        UserError: it does not fit. A damaged header that declares an absurd shape ends here as well.
    """
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not on this system
        return
    if total > 0 and needed > total:
        raise UserError(
            f"{where}: its arrays need {needed / 2**30:.1f} GiB, but this machine has {total / 2**30:.1f} GiB; leave "
            "out extras (extras=False), split the file, or check that it is not damaged."
        )
