"""Reading and writing npz archives of arrays.

Whatever is wrong with one is a sentence, and nothing is allocated on its word.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from paperloop.errors import UserError, setting
from paperloop.files import check_is_file, write_atomically

__all__ = ["read_arrays", "write_arrays"]

#: Bytes that an archive may unpack to: our policies have megabytes, chunks of episodes a few hundred.
LARGEST = 16 << 30

#: Bytes that deflate can make of one.
RATIO = 1032


def read_arrays(path: Path, what: str) -> dict[str, np.ndarray]:
    """Return the arrays of an npz archive.

    Args:
        path: the file.
        what: what it should be, for messages, such as "a policy".

    Raises:
        UserError: it is missing, not a regular file, damaged, or holds pickled objects; or a header in it promises
            more than the file can hold.
    """
    check_is_file(path)
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(member.file_size for member in archive.infolist()) > LARGEST:
                raise ValueError(f"it unpacks to more than {LARGEST >> 30} GiB")
            for member in archive.infolist():
                _check_header(archive, member)
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except Exception as error:  # whatever zipfile, zlib and NumPy make of damaged bytes
        if "allow_pickle" in str(error):
            raise UserError(
                f"{path} holds pickled objects, which are never loaded; give {what} as an npz file of arrays."
            ) from None
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"{path} is damaged or not an npz file ({reason}); give {what} as an npz file of arrays."
        ) from error


def write_arrays(path: str | Path, arrays: Mapping[str, np.ndarray], *, overwrite: bool = False) -> Path:
    """Write an npz archive atomically. Equal arrays give equal bytes: no time is recorded.

    Raises:
        UserError: the path exists, does not end in .npz, or cannot be written.
    """
    path = Path(path)
    if path.suffix != ".npz":
        raise UserError(f"{path}: a policy is an npz file; give a name that ends in .npz.")
    if path.exists() and not overwrite:
        raise UserError(f"{path} exists already; give {setting('overwrite', True)}, or choose another name.")

    def fill(temporary: Path) -> None:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, array in arrays.items():
                member = zipfile.ZipInfo(f"{name}.npy")  # with a fixed date, unlike numpy.savez
                member.compress_type = zipfile.ZIP_DEFLATED
                with archive.open(member, "w") as file:
                    np.lib.format.write_array(file, array, allow_pickle=False)

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, fill)
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror or error}); choose another folder.") from error
    return path


def _check_header(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
    """Raise if a member, or the array's header in it, promises more than there is: NumPy would allocate it."""
    if member.file_size > RATIO * member.compress_size + 1024:
        raise ValueError(f"{member.filename} claims {member.file_size} bytes")
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
        size = math.prod(shape) * dtype.itemsize
        if not dtype.hasobject and size != member.file_size - file.tell():
            raise ValueError(f"{member.filename} claims an array of {size} bytes")
