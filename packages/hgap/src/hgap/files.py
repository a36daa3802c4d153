"""Reading the package's own .npz files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import paperloop_data
from paperloop.errors import UserError
from paperloop.files import check_is_file

__all__ = ["read_arrays"]


def read_arrays(path: Path, what: str, error: type[UserError] = UserError) -> dict[str, np.ndarray]:
    """Return the arrays of an .npz file by name.

    Args:
        path: of the file.
        what: it should be, such as "a file of policies".
        error: what is raised.

    Raises:
        UserError: the file is missing, damaged or of another kind.
    """
    check_is_file(path)
    try:
        return paperloop_data.read_arrays(path)
    except UserError:
        raise error(f"{path} is not {what}, or is damaged.") from None
