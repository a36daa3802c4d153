"""Finished chunks of labels on disk: what a killed labelling resumes from.

<store>/<key>/
  manifest.json        settings, and what fitting found out, under a hash of themselves
  chunk-000000.labels  SHA-256 of what follows, then an npz archive of the labels

Whatever is not exactly what was written, such as a chunk with a flipped byte, one of another key or number, or an
edited manifest, is made again, with a warning that names the file.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from otr.labellers.interface import Labels
from paperloop.errors import UserError
from paperloop.files import remove_leftovers, write_atomically, write_json
from paperloop.settings import json_hash, read_json

__all__ = ["ChunkStore"]

SCHEMA = 2
DIGEST = 32


class ChunkStore:
    """The chunks of one labelling. Nothing is written before `begin`.

    Args:
        folder: the folder that holds stores of several keys.
        key: a hash of everything that the labels depend on.
        chunks: how many chunks there are in all.

    Raises:
        UserError: the folder cannot be used.
    """

    def __init__(self, folder: Path, key: str, chunks: int) -> None:
        self.folder = Path(folder) / key
        self._key, self._chunks = key, chunks
        there = next(parent for parent in self.folder.absolute().parents if os.path.lexists(parent))
        if not there.is_dir():
            raise self._unusable(f"{there} is not a folder")
        if not os.access(there, os.W_OK):
            raise self._unusable(f"{there} is read-only")
        if os.path.lexists(self.folder) and not self.folder.is_dir():
            raise self._unusable(f"{self.folder} is not a folder")
        remove_leftovers(self.folder.glob(".*.tmp"))

    def description(self) -> dict[str, Any] | None:
        """Return what `begin` was given; None where there is no manifest, or another."""
        path = self.folder / "manifest.json"
        if not os.path.lexists(path):
            return None
        try:
            manifest = read_json(path)
        except UserError:
            manifest = None
        if isinstance(manifest, dict):
            stated = manifest.pop("digest", None)
            if stated == json_hash(manifest) and manifest.get("key") == self._key:
                return dict(manifest["description"])
        warnings.warn(f"{path} was changed or damaged: it is made again.", stacklevel=3)
        return None

    def begin(self, settings: Mapping[str, Any], description: Mapping[str, Any]) -> None:
        """Write the manifest.

        Args:
            settings: what a reader of the file wants to know.
            description: what comes with the labels, JSON-ready.

        Raises:
            UserError: it cannot be written.
        """
        manifest = {
            "schema": SCHEMA,
            "key": self._key,
            "chunks": self._chunks,
            **settings,
            "description": dict(description),
        }
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_json(self.folder / "manifest.json", {**manifest, "digest": json_hash(manifest)})
        except OSError as error:
            raise self._unusable(error.strerror) from None

    def save(self, number: int, part: Labels) -> None:
        """Write a chunk.

        Raises:
            UserError: it cannot be written.
        """
        arrays: dict[str, Any] = {"rewards": part.rewards}
        arrays |= {f"steps/{name}": values for name, values in part.steps.items()}
        arrays |= {f"episodes/{name}": values for name, values in part.episodes.items()}
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        content = buffer.getvalue()
        path = self._path(number)
        try:
            write_atomically(path, self._digest(number, content) + content)
        except OSError as error:
            raise UserError(
                f"{path} cannot be written ({error.strerror}): free some space, then start again."
            ) from None

    def load(self, number: int, *, steps: int, episodes: int) -> Labels | None:
        """Return a finished chunk; None where there is none, or it is damaged.

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
            part = Labels(
                values["rewards"],
                {name.removeprefix("steps/"): v for name, v in values.items() if name.startswith("steps/")},
                {name.removeprefix("episodes/"): v for name, v in values.items() if name.startswith("episodes/")},
            )
            fits = all(len(v) == steps for v in (part.rewards, *part.steps.values()))
            if fits and all(len(v) == episodes for v in part.episodes.values()):
                return part
        warnings.warn(f"{path} is damaged: its labels are made again.", stacklevel=3)
        return None

    def _path(self, number: int) -> Path:
        return self.folder / f"chunk-{number:06d}.labels"

    def _digest(self, number: int, content: bytes) -> bytes:
        digest = hashlib.sha256(f"{self._key} {number}\n".encode())
        digest.update(content)
        return digest.digest()

    def _unusable(self, why: str | None) -> UserError:
        return UserError(f"The store {self.folder} cannot be used ({why}): choose another folder.")
