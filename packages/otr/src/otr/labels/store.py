"""Finished chunks of labels on disk: what a killed labelling resumes from.

<store>/<key>/chunk-000000.labels is a SHA-256, and then an npz archive of the labels and of what their labeller says of
itself. Whatever is not exactly what was written, such as a chunk with a flipped byte, or one of another key or number,
is made again, with a warning that names the file.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from otr.labellers.interface import Labels
from paperloop.errors import UserError
from paperloop.files import remove_leftovers, write_atomically

__all__ = ["ChunkStore"]

SCHEMA = 3
DIGEST = 32


class ChunkStore:
    """The chunks of one labelling. Nothing is written before the first `save`.

    Args:
        folder: the folder that holds stores of several keys.
        key: a hash of everything that the labels depend on.

    Raises:
        UserError: the folder cannot be used.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self.folder, self._key = Path(folder) / key, key
        there = next(parent for parent in (self.folder, *self.folder.absolute().parents) if os.path.lexists(parent))
        if not there.is_dir() or not os.access(there, os.W_OK):
            what = "is read-only" if there.is_dir() else "is not a folder"
            raise UserError(f"The store {self.folder} cannot be used ({there} {what}): choose another folder.")
        remove_leftovers(self.folder.glob(".*.tmp"))

    def save(self, number: int, part: Labels, description: Mapping[str, Any]) -> None:
        """Write a chunk, and what its labeller says of itself, JSON-ready.

        Raises:
            UserError: it cannot be written.
        """
        arrays: dict[str, Any] = {"rewards": part.rewards, "description": np.array(json.dumps(dict(description)))}
        arrays |= {f"episodes/{name}": values for name, values in part.episodes.items()}
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        content = buffer.getvalue()
        path = self._path(number)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_atomically(path, self._digest(number, content) + content)
        except OSError as error:
            raise UserError(
                f"{path} cannot be written ({error.strerror}): free some space, then start again."
            ) from None

    def load(self, number: int, *, steps: int, episodes: int) -> tuple[Labels, dict[str, Any]] | None:
        """Return a finished chunk and its description; None where there is none, or it is damaged.

        Args:
            number: which.
            steps: how many it has to have.
            episodes: likewise.
        """
        path = self._path(number)
        if not os.path.lexists(path):
            return None
        content = b""
        if path.is_file():  # opening a named pipe would wait for ever
            with contextlib.suppress(OSError):
                content = path.read_bytes()
        if len(content) > DIGEST and self._digest(number, content[DIGEST:]) == content[:DIGEST]:
            with np.load(io.BytesIO(content[DIGEST:]), allow_pickle=False) as archive:
                values = {name: archive[name] for name in archive.files}
            rewards, description = values.pop("rewards"), json.loads(str(values.pop("description")))
            part = Labels(rewards, {name.removeprefix("episodes/"): value for name, value in values.items()})
            if len(rewards) == steps and all(len(value) == episodes for value in values.values()):
                return part, description
        warnings.warn(f"{path} is damaged: its labels are made again.", stacklevel=3)
        return None

    def _path(self, number: int) -> Path:
        return self.folder / f"chunk-{number:06d}.labels"

    def _digest(self, number: int, content: bytes) -> bytes:
        return hashlib.sha256(f"{self._key} {number}\n".encode() + content).digest()
