"""Levels in files: mazes of the user's, or those that a run has kept.

Two formats. Text, which a person can draw: `Level.from_text`'s pictures with blank lines between them,

    >..#
    .#.G

    v.#
    ..G

and npz with the arrays `wall_map` bool `[L, H, W]`, `goal_pos` `[L, 2]`, `agent_pos` `[L, 2]` and `agent_dir` `[L]`.
"""

from __future__ import annotations

import io
import math
import os
import re
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from minimax_ued.envs.maze.level import Level, check_level, pad_level, stack_levels
from paperloop.errors import UserError
from paperloop.files import check_is_file, write_atomically

__all__ = ["load_levels", "save_levels"]

_ARRAYS = ("wall_map", "goal_pos", "agent_pos", "agent_dir")
_LEVEL_BYTES = 1500  # that one level takes in addition to its cells while it is checked
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
#: What NumPy, zipfile and zlib raise on rubbish.
_DAMAGED = (
    *(ValueError, OSError, EOFError, KeyError, OverflowError, MemoryError, RecursionError),
    *(NotImplementedError, RuntimeError, SyntaxError, TypeError, struct.error, tokenize.TokenError),
    *(zipfile.BadZipFile, zlib.error),
)


def load_levels(path: Path | str) -> Level:
    """Read levels and check each of them.

    Mazes of different sizes are padded with walls to the largest, which changes nothing for an agent with a view.

    Args:
        path: a `.npz` file, or text.

    Returns:
        NumPy arrays with a leading axis.

    Raises:
        UserError: the file cannot be read, declares more than it has or than fits into memory, holds no level, or one
            that is not valid; the message says which.
    """
    path = check_is_file(path)
    _check_memory(path, path.stat().st_size)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"The levels {path} cannot be read: {error.strerror}.") from None
    if path.suffix == ".npz" or content[:2] == b"PK":
        levels = _from_npz(path, content)
    else:
        levels = _from_text(path, content)
    height = max(level.wall_map.shape[0] for level in levels)
    width = max(level.wall_map.shape[1] for level in levels)
    _check_memory(path, len(levels) * height * width)
    return stack_levels([pad_level(level, height, width) for level in levels])


def save_levels(path: Path | str, levels: Level) -> Path:
    """Write levels with a leading axis as npz, whole or not at all, and return the path. Its folder is made.

    Raises:
        UserError: the file cannot be written.
    """
    path, content = Path(path), io.BytesIO()
    np.savez_compressed(content, **{name: np.asarray(getattr(levels, name)) for name in _ARRAYS})  # ty: ignore[invalid-argument-type]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content.getvalue())
    except OSError as error:
        raise UserError(f"The levels {path} cannot be written: {error.strerror or error}.") from error
    return path


def _from_text(path: Path, content: bytes) -> list[Level]:
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise UserError(f"The levels {path} are neither an .npz file nor text: give one of the two.") from None
    drawings = [part for part in re.split(r"\n[ \t\r]*\n", text) if part.strip()]
    if not drawings:
        raise UserError(f"The levels {path} are empty: draw at least one maze.")
    return [
        _checked(path, number, lambda drawing=drawing: check_level(Level.from_text(drawing)))
        for number, drawing in enumerate(drawings, 1)
    ]


def _from_npz(path: Path, content: bytes) -> list[Level]:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            _check_sizes(path, archive)
        with np.load(io.BytesIO(content), allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in _ARRAYS if name in stored}
    except _DAMAGED as error:
        raise UserError(f"The levels {path} are not an intact .npz file ({error}): write it again.") from None
    for name in _ARRAYS:
        if name not in arrays:
            raise UserError(f"The levels {path} lack the array {name!r}: an .npz of levels has {', '.join(_ARRAYS)}.")
    counts = {name: len(array) if array.ndim else 0 for name, array in arrays.items()}
    if len(set(counts.values())) != 1 or not counts["wall_map"]:
        told = ", ".join(f"{name} {n}" for name, n in counts.items())
        raise UserError(f"The levels {path} need arrays of one length, one entry a level; they have {told}.")
    return [
        _checked(
            path,
            number + 1,
            lambda number=number: check_level(Level(**{name: arrays[name][number] for name in _ARRAYS})),
        )
        for number in range(counts["wall_map"])
    ]


def _check_sizes(path: Path, archive: zipfile.ZipFile) -> None:
    """Before anything is unpacked: whether the arrays have the bytes that they declare, and fit into memory."""
    needed = 0
    for member in archive.infolist():
        name = member.filename.removesuffix(".npy")
        if name not in _ARRAYS:
            continue
        with archive.open(member) as file:
            version = np.lib.format.read_magic(file)
            if version not in _HEADERS:
                raise ValueError(f"the array {name!r} is of version {version}")
            shape, _, dtype = _HEADERS[version](file)
            declared, there = math.prod(shape) * dtype.itemsize, member.file_size - file.tell()
        if dtype.hasobject or declared != there:
            raise ValueError(f"the array {name!r} declares {dtype} {shape}, {declared} bytes, and has {there}")
        needed += declared + (_LEVEL_BYTES * shape[0] if name == "wall_map" and shape else 0)
    _check_memory(path, needed)


def _check_memory(path: Path, needed: int) -> None:
    try:
        there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not on this system
        return
    if 0 < there < needed:
        raise UserError(
            f"The levels {path} take {needed / 2**30:.1f} GiB of memory, and this machine has {there / 2**30:.1f} GiB: "
            "split the file, or check that it is not damaged."
        )


def _checked(path: Path, number: int, make: Callable[[], Any]) -> Any:
    """Say in which level of the file an error is."""
    try:
        return make()
    except UserError as error:
        raise UserError(f"Level {number} of {path}: {error}") from None
