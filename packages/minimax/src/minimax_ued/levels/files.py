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
import re
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from minimax_ued.envs.maze.level import Level, check_level, pad_level, stack_levels
from paperloop.errors import UserError
from paperloop.files import check_is_file, write_atomically

__all__ = ["load_levels", "save_levels"]

_ARRAYS = ("wall_map", "goal_pos", "agent_pos", "agent_dir")
#: What NumPy, zipfile and zlib raise on rubbish.
_DAMAGED = (
    *(ValueError, OSError, EOFError, KeyError, MemoryError, SyntaxError),
    *(tokenize.TokenError, zipfile.BadZipFile, zlib.error),
)


def load_levels(path: Path | str) -> Level:
    """Read levels and check each of them.

    Mazes of different sizes are padded with walls to the largest, which changes nothing for an agent with a view.

    Args:
        path: a `.npz` file, or text.

    Returns:
        NumPy arrays with a leading axis.

    Raises:
        UserError: the file cannot be read, holds no level, or one that is not valid; the message says which.
    """
    path = check_is_file(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"The levels {path} cannot be read: {error.strerror}.") from None
    found, levels = (_from_npz if content[:2] == b"PK" else _from_text)(path, content), []
    while True:
        try:  # to say in which level of the file an error is
            levels.append(check_level(next(found)))
        except StopIteration:
            break
        except UserError as error:
            raise UserError(f"Level {len(levels) + 1} of {path}: {error}") from None
    height = max(level.wall_map.shape[0] for level in levels)
    width = max(level.wall_map.shape[1] for level in levels)
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


def _from_text(path: Path, content: bytes) -> Iterator[Level]:
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise UserError(f"The levels {path} are neither an .npz file nor text: give one of the two.") from None
    drawings = [part for part in re.split(r"\n[ \t\r]*\n", text) if part.strip()]
    if not drawings:
        raise UserError(f"The levels {path} are empty: draw at least one maze.")
    return map(Level.from_text, drawings)


def _from_npz(path: Path, content: bytes) -> Iterator[Level]:
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as stored:
            arrays = {name: np.asarray(stored[name]) for name in _ARRAYS if name in stored}
    except _DAMAGED as error:
        raise UserError(f"The levels {path} are not an intact .npz file ({error}): write it again.") from None
    for name in _ARRAYS:
        if name not in arrays:
            raise UserError(f"The levels {path} lack the array {name!r}: an .npz of levels has {', '.join(_ARRAYS)}.")
    counts = {name: len(array) if array.ndim else 0 for name, array in arrays.items()}
    if len(set(counts.values())) != 1 or not counts["wall_map"]:
        told = ", ".join(f"{name} {n}" for name, n in counts.items())
        raise UserError(f"The levels {path} need arrays of one length, one entry a level; they have {told}.")
    return (Level(**{name: array[i] for name, array in arrays.items()}) for i in range(counts["wall_map"]))
