"""The folder that a report goes to."""

from __future__ import annotations

from pathlib import Path

from paperloop.errors import UserError

__all__ = ["made"]


def made(out: Path) -> Path:
    """Return the folder, made if absent.

    Raises:
        UserError: it cannot be made.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{out} cannot be made ({error.strerror}): choose another folder.") from None
    return out
