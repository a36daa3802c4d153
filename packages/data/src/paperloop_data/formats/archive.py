"""Npz archives of arrays: read without trusting what is in them, written so that equal arrays give equal bytes."""

from __future__ import annotations

import math
import zipfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from paperloop.errors import UserError
from paperloop.files import check_is_file, write_atomically
from paperloop_data.formats.reading import check_fits
from paperloop_data.formats.writing import refuse_existing, saving
from paperloop_data.text import shown

__all__ = ["read_arrays", "write_arrays"]

#: Deflate makes data at most this many times smaller.
DEFLATE_LIMIT = 1032


def read_arrays(path: str | Path) -> dict[str, np.ndarray]:
    """Return the arrays of an npz archive. Pickled objects are never loaded, and nothing is allocated on its word.

    Raises:
        UserError: it is missing, not a regular file, damaged, or holds pickled objects or one name twice; or a header
            in it promises more than the file, or this machine, can hold.
    """
    path = Path(path)
    where = shown(path.name)
    check_is_file(path)
    try:
        with zipfile.ZipFile(path) as archive:
            check_fits(sum(member.file_size for member in archive.infolist()), where)
            held = Counter(member.filename.removesuffix(".npy") for member in archive.infolist())
            if twice := [name for name, count in held.items() if count > 1]:
                raise UserError(
                    f"{where} holds {shown(twice[0])} more than once; write it again with one of each name."
                )
            for member in archive.infolist():
                _check_header(archive, member)
        with np.load(path, allow_pickle=False) as archive:
            return {name: value for name in archive.files if isinstance(value := archive[name], np.ndarray)}
    except UserError:
        raise
    except Exception as error:  # whatever zipfile, zlib, lzma and NumPy make of damaged bytes
        if "allow_pickle" in str(error):
            raise UserError(
                f"{where} holds pickled objects, which can run code and are never loaded; write its arrays as numbers."
            ) from None
        reason = shown(str(error).splitlines()[0]) if str(error) else type(error).__name__
        raise UserError(
            f"{where} is damaged, cut short, or not an npz archive ({reason}); fetch or write it again."
        ) from error


def _check_header(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
    """Raise if an array's header promises another size than its member has, or the member more than its bytes can hold.

    Raises:
        ValueError: it does. NumPy would allocate what the header says.
    """
    if not member.filename.endswith(".npy"):
        return  # NumPy gives its bytes, which are not read further
    ratio = 1 if member.compress_type == zipfile.ZIP_STORED else DEFLATE_LIMIT
    if member.file_size > ratio * member.compress_size + DEFLATE_LIMIT and member.compress_type in (0, 8):
        raise ValueError(f"{member.filename} claims {member.file_size} bytes in {member.compress_size}")
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read_header(file)
        size = math.prod(shape) * dtype.itemsize
        if not dtype.hasobject and size != member.file_size - file.tell():
            raise ValueError(f"{member.filename} claims shape {shape}, which its {member.file_size} bytes do not hold")


def write_arrays(
    path: str | Path, arrays: Mapping[str, np.ndarray], *, overwrite: bool = False, compress: bool = False
) -> Path:
    """Write an npz archive atomically, and return its path. Equal arrays give equal bytes: no time is recorded.

    Args:
        path: the file; its folder is made if absent.
        arrays: name -> array, none of objects.
        overwrite: replace a file that is there.
        compress: deflate the arrays, which is several times slower.

    Raises:
        UserError: the path exists or cannot be written.
    """
    path = Path(path)
    refuse_existing(path, overwrite)
    method = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED

    def fill(temporary: Path) -> None:
        with zipfile.ZipFile(temporary, "w", method) as archive:
            for name, array in arrays.items():
                member = zipfile.ZipInfo(f"{name}.npy")  # its date is fixed, unlike that of numpy.savez
                member.compress_type = method
                with archive.open(member, "w", force_zip64=True) as file:
                    np.lib.format.write_array(file, array, allow_pickle=False)

    with saving(path):
        write_atomically(path, fill)
    return path
