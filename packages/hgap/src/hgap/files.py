"""Reading the package's own .npz files."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np

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
        UserError: there is no such file, or it is damaged or of another kind.
    """
    try:
        with np.load(check_is_file(path), allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error):
        raise error(f"{path} is not {what}, or is damaged.") from None
