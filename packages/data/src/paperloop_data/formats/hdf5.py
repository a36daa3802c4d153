"""HDF5: one sentence for damage, nothing read from outside the file, a checksum on every block written."""

from __future__ import annotations

import contextlib
import errno
import io
import math
import os
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py import h5i, h5l, h5o  # ty: ignore[missing-module-member]

from paperloop.errors import UserError
from paperloop.files import check_is_file
from paperloop_data.text import shown

SIGNATURE = b"\x89HDF\r\n\x1a\n"

#: Blocks of about this many bytes: large enough to read fast, small enough for the checksum of each to mean something.
BLOCK_BYTES = 1 << 20

#: Soft links on the way to one object; more are taken for a circle, as HDF5 itself does.
SOFT_LINKS = 16

#: Values up to this size may be facts about a file; larger ones are arrays, such as a policy's weights.
SMALL = 64


def is_hdf5(path: Path) -> bool:
    """Whether the file starts as HDF5 does."""
    with path.open("rb") as file:
        return file.read(len(SIGNATURE)) == SIGNATURE


@contextlib.contextmanager
def opened_to_read(path: Path, where: str) -> Generator[h5py.File]:
    """Open `path` for reading; whatever HDF5 finds damaged, at once or while reading, is one sentence."""
    check_is_file(path)
    try:
        with h5py.File(path, "r", locking="best-effort") as file:
            yield file
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError, MemoryError) as error:
        why = reason(error)
        if "unable to lock file" in why:
            if getattr(error, "errno", None) in (errno.EAGAIN, errno.EACCES):
                raise UserError(
                    f"{where} is locked: another process has it open for writing; wait until that one is done, or read "
                    "a copy."
                ) from None
            raise UserError(
                f"{where} is on a file system without file locks; set the environment variable "
                "HDF5_USE_FILE_LOCKING=FALSE, or read a copy on a local disk."
            ) from None
        raise UserError(
            f"{where} is damaged, cut short, or not an HDF5 file ({why}); fetch or write it again."
        ) from error


def reason(error: BaseException) -> str:
    """Return the first line of what an error says."""
    lines = str(error).strip("'\"").splitlines()
    return shown(lines[0]) if lines else type(error).__name__


# Reading, without leaving the file


def datasets(
    item: h5py.Group | h5py.Dataset, where: str, wanted: Callable[[str], bool] = lambda path: True
) -> dict[str, h5py.Dataset]:
    """Return every dataset below an item by its path from there; the item itself under "" if it is one.

    Soft links are followed within the file. What a group holds is given once, under its own path where it has one.
    A link that leads nowhere or out of the file is left out, unless its path is `wanted`.
    """
    found: dict[str, h5py.Dataset] = {}
    seen, pending, linked = set(), [("", item)], []
    while pending or linked:
        prefix, item = pending.pop() if pending else linked.pop(0)
        if isinstance(item, h5py.Dataset):
            found[prefix] = item
        elif isinstance(item, h5py.Group) and item not in seen:
            seen.add(item)
            for name in item:
                path, encoded = f"{prefix}/{name}" if prefix else name, name.encode(errors="surrogateescape")
                try:
                    target = follow(item.id, encoded, path, where)
                except LinkError:
                    if wanted(path):
                        raise
                    continue
                kinds = {h5py.h5g.GroupID: h5py.Group, h5py.h5d.DatasetID: h5py.Dataset}
                if type(target) in kinds:
                    soft = item.id.links.get_info(encoded).type == h5l.TYPE_SOFT
                    (linked if soft else pending).append((path, kinds[type(target)](target)))
    return dict(sorted(found.items()))


class LinkError(UserError):
    """A link that is not followed: it leads nowhere, in a circle, or out of the file."""


def follow(group: h5py.h5g.GroupID, name: bytes, path: str, where: str) -> Any:
    """Return the object, by h5py's low-level identifier, that a name below `group` stands for, within the file.

    None where there is no such name. Messages call it `path`.

    Raises:
        LinkError: an external link, or a soft link that leads nowhere, in a circle, or to such a link.
    """
    at, parts, aim, left = group, name.split(b"/"), "", SOFT_LINKS
    while parts:
        part = parts.pop(0)
        if part in (b"", b"."):
            continue
        if not isinstance(at, h5py.h5g.GroupID) or not at.links.exists(part):
            if not aim:
                return None
            raise LinkError(
                f"{where}: {shown(path)} is a soft link to {shown(aim)}, which is not in the file; remove the link, or "
                "store the data there."
            )
        kind = at.links.get_info(part).type
        if kind == h5l.TYPE_HARD:
            at = h5o.open(at, part)
        elif kind == h5l.TYPE_SOFT and left:
            left -= 1
            target = at.links.get_val(part)
            aim = aim or target.decode(errors="replace")
            at = h5py.h5g.open(h5i.get_file_id(at), b"/") if target.startswith(b"/") else at
            parts = [*target.split(b"/"), *parts]
        else:
            what = "goes in a circle" if kind == h5l.TYPE_SOFT else "is a link to elsewhere"
            raise LinkError(
                f"{where}: {shown(path)} {what}, and links out of the file are not followed; store the data itself in "
                "the file."
            )
    return at


def check_stored(dataset: h5py.h5d.DatasetID, shape: tuple[int, ...], path: str, where: str, file_bytes: int) -> None:
    """Raise unless all values of a dataset of `shape` are in its own file. What was never written reads as zeros."""
    size = math.prod(shape)
    if size == 0:
        return
    properties = dataset.get_create_plist()
    layout = properties.get_layout()
    if layout == h5py.h5d.VIRTUAL or properties.get_external_count():
        kind = "is a virtual dataset" if layout == h5py.h5d.VIRTUAL else "is in external storage"
        raise UserError(
            f"{where}: {shown(path)} {kind}, so its values are in other files, which are not followed; store the "
            "values in the file."
        )
    if layout == h5py.h5d.COMPACT:
        return
    missing, needed = dataset.get_storage_size() == 0, size * dataset.get_type().get_size()
    if layout == h5py.h5d.CHUNKED:
        chunks = math.prod(-(-n // c) for n, c in zip(shape, properties.get_chunk(), strict=True))
        missing = dataset.get_num_chunks() < chunks
        needed = 0  # chunks may be compressed; those that are there have been counted
    if missing or needed > file_bytes:
        what = "were never written" if missing else f"would take {needed} bytes, more than the file has"
        raise UserError(f"{where}: values of {shown(path)} {what}; fetch or write the file again.")


def read(dataset: h5py.Dataset, path: str, where: str) -> Any:
    """Return the values of a dataset, after `check_stored`."""
    check_stored(dataset.id, dataset.shape, path, where, os.stat(dataset.file.filename).st_size)
    try:
        return dataset[()]
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"{where}: {shown(path)} is damaged or cut short ({reason(error)}); fetch or write the file again."
        ) from error


def facts(item: h5py.Group) -> dict[str, Any]:
    """Return the small attributes of a group that are texts or numbers."""
    found = {}
    for name in item.attrs:
        with contextlib.suppress(OSError, TypeError, ValueError, RuntimeError):  # types that h5py cannot read
            value = plain(item.attrs[name])
            if value is not None:
                found[name] = value
    return found


def plain(value: Any) -> Any:
    """Return a small text, number or list of numbers as Python has it; None for anything else."""
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist() if value.dtype.kind in "biufU" and value.size <= SMALL else None
    return value if isinstance(value, str | bool | int | float) else None


def read_text(dataset: h5py.Dataset, path: str, where: str) -> str:
    """Return what `write_text` stored."""
    if dataset.dtype != np.uint8 or len(dataset.shape) != 1:
        raise UserError(f"{where}: {path} is not a text of bytes; fetch or write the file again.")
    return read(dataset, path, where).tobytes().decode()


# Writing


@contextlib.contextmanager
def opened_to_write(path: Path) -> Generator[h5py.File]:
    """Create `path`. The file format of HDF5 1.10 is asked for, because it has checksums on its own structures.

    Raises:
        OSError: the disk is full, or failed otherwise.
    """
    with _Disk(path, "w+b") as disk:
        try:
            with h5py.File(disk, "w", libver=("v110", "v110")) as file:
                yield file
        finally:
            if disk.failure is not None:  # before whatever HDF5 made of it
                raise disk.failure


class _Disk(io.FileIO):
    """A file that notes a failed write and continues, because HDF5 does not: it crashes the process on closing."""

    failure: OSError | None = None

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        done = 0
        try:
            while self.failure is None and done < len(view):
                done += super().write(view[done:]) or 0
        except OSError as error:
            self.failure = error
        return len(view)

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        count = 0 if self.failure else super().readinto(view) or 0
        view[count:] = bytes(len(view) - count)  # what was not written reads as zeros
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        try:
            return super().truncate(size)
        except OSError as error:
            self.failure = self.failure or error
            return size or 0


def write_array(group: h5py.Group, name: str, array: np.ndarray, compress: bool = False) -> None:
    """Store `array` in blocks with a Fletcher-32 checksum each, so that a flipped bit is an error when read."""
    if array.size == 0:
        group.create_dataset(name, data=array)
        return
    width = max(1, array[0].nbytes) if array.ndim > 1 else array.itemsize
    rows = min(len(array), max(1, BLOCK_BYTES // width))
    options: dict[str, Any] = {"compression": "gzip", "compression_opts": 4, "shuffle": True} if compress else {}
    group.create_dataset(name, data=array, chunks=(rows, *array.shape[1:]), fletcher32=True, **options)


def write_text(group: h5py.Group, name: str, text: str) -> None:
    """Store `text` as bytes of UTF-8, with the checksum that HDF5 offers for blocks but not for strings."""
    write_array(group, name, np.frombuffer(text.encode(), np.uint8))
