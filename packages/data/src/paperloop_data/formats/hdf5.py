"""Opening and filling HDF5 files: h5py on demand, checksums on every block, one sentence for damage."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np

from paperloop.errors import UserError

__all__ = ["import_h5py", "is_hdf5", "opened_to_read", "opened_to_write", "read_text", "write_array", "write_text"]

SIGNATURE = b"\x89HDF\r\n\x1a\n"

#: Blocks of about this many bytes: large enough to read fast, small enough for the checksum of each to mean something.
BLOCK_BYTES = 1 << 20


def import_h5py() -> Any:
    """Return h5py.

    Raises:
        UserError: it is not installed.
    """
    try:
        import h5py
    except ImportError:
        raise UserError("HDF5 files and Minari folders need h5py; run: pip install h5py.") from None
    return h5py


def is_hdf5(path: Path) -> bool:
    """Whether the file starts as HDF5 does."""
    with path.open("rb") as file:
        return file.read(len(SIGNATURE)) == SIGNATURE


@contextlib.contextmanager
def opened_to_read(path: Path, where: str) -> Generator[Any]:
    """Open `path` for reading; whatever HDF5 finds damaged, at once or while reading, is one sentence.

    Raises:
        UserError: the file is damaged, cut short, or no HDF5 file.
    """
    h5py = import_h5py()
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError) as error:
        if isinstance(error, PermissionError | FileNotFoundError | IsADirectoryError):
            raise UserError(f"{path} cannot be read ({os.strerror(error.errno or 0)}); check the path.") from None
        reason = str(error).strip("'\"").splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"{where} is damaged, cut short, or no HDF5 file ({reason}); fetch or write it again."
        ) from error


@contextlib.contextmanager
def opened_to_write(path: Path) -> Generator[Any]:
    """Create `path`. The file format of HDF5 1.10 is asked for, because it has checksums on its own structures.

    Raises:
        OSError: the disk is full, or failed otherwise.
    """
    h5py = import_h5py()
    with path.open("w+b", buffering=0) as raw:
        disk = _Disk(raw)
        try:
            with h5py.File(disk, "w", libver=("v110", "v110")) as file:
                yield file
        finally:
            if disk.failure is not None:  # before whatever HDF5 made of it
                raise disk.failure


class _Disk(io.RawIOBase):
    """A file that notes a failed write and goes on, because HDF5 does not: it crashes the process on closing."""

    def __init__(self, raw: io.FileIO) -> None:
        self.raw = raw
        self.failure: OSError | None = None

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        done = 0
        try:
            while self.failure is None and done < len(view):
                done += self.raw.write(view[done:]) or 0
        except OSError as error:
            self.failure = error
        return len(view)

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        count = 0 if self.failure else self.raw.readinto(view) or 0
        view[count:] = bytes(len(view) - count)  # what was not written reads as zeros
        return len(view)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self.raw.seek(offset, whence)

    def tell(self) -> int:
        return self.raw.tell()

    def truncate(self, size: int | None = None) -> int:
        try:
            return self.raw.truncate(size)
        except OSError as error:
            self.failure = self.failure or error
            return size or 0

    def flush(self) -> None:
        """Nothing is held back; the caller syncs the whole file."""

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True


def write_array(group: Any, name: str, array: np.ndarray, compress: bool = False) -> None:
    """Store `array` in blocks with a Fletcher-32 checksum each, so that a flipped bit is an error when read."""
    if array.size == 0:
        group.create_dataset(name, data=array)
        return
    width = max(1, array[0].nbytes) if array.ndim > 1 else array.itemsize
    rows = min(len(array), max(1, BLOCK_BYTES // width))
    options: dict[str, Any] = {"compression": "gzip", "compression_opts": 4, "shuffle": True} if compress else {}
    group.create_dataset(name, data=array, chunks=(rows, *array.shape[1:]), fletcher32=True, **options)


def write_text(group: Any, name: str, text: str) -> None:
    """Store `text` as bytes of UTF-8, with the checksum that HDF5 offers for blocks but not for strings."""
    write_array(group, name, np.frombuffer(text.encode(), np.uint8))


def read_text(dataset: Any) -> str:
    """Return what `write_text` stored."""
    return bytes(dataset[()]).decode()
