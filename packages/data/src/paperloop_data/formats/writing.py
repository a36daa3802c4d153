"""What every writer does around its own format: refuse to overwrite, say plainly why a disk said no, leave a record."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import shutil
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from paperloop.errors import UserError, setting
from paperloop.files import fsync_folder, fsync_tree, leftovers, remove, remove_leftovers, sha256
from paperloop_data.text import parsed, shown

__all__ = ["attributes_json", "read_record", "refuse_existing", "saving", "write_folder_atomically", "write_record"]


def read_record(path: Path, file: Path, format: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the provenance of a reading: name of the path, SHA-256 of the file, format, options, version.

    Only the last part of the path is recorded, so that no home folder ends up in a published file.
    """
    return {
        "action": "read",
        "file": path.name,
        "sha256": sha256(file),
        "format": format,
        "options": dict(options),
        "paperloop": importlib.metadata.version("paperloop-data"),
    }


def write_record(format: str) -> dict[str, Any]:
    """Return the provenance of a writing."""
    return {"action": "write", "format": format, "paperloop": importlib.metadata.version("paperloop-data")}


def attributes_json(attributes: Mapping[str, Any], provenance: tuple[Mapping[str, Any], ...], where: str) -> str:
    """Return attributes and provenance as one JSON text."""
    try:
        text = json.dumps({**attributes, "provenance": list(provenance)}, default=_plain)
        parsed(text)
        return text
    except (TypeError, ValueError, RecursionError) as error:
        raise UserError(
            f"{where}: attributes must be of types that JSON knows ({error}); convert or drop them."
        ) from None


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is not JSON")


def refuse_existing(path: Path, overwrite: bool, fix: str | None = None) -> None:
    """Raise unless `path` is free or may be replaced."""
    overwriting = setting("overwrite", True)
    if not overwrite and os.path.lexists(path):
        raise UserError(f"{shown(path)} exists already; {fix or f'choose another name, or give {overwriting}'}.")


@contextlib.contextmanager
def saving(path: Path) -> Generator[None]:
    """Make the parent folder, remove partial files of killed processes, and turn refusals into one sentence."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(leftovers(path))
        yield
    except UserError:
        raise
    except (OSError, RuntimeError, ValueError) as error:  # h5py raises the latter two for some failed writes
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise UserError(
            f"{shown(path)} cannot be written ({reason}); free some space or choose another folder; nothing was "
            "changed."
        ) from error


def write_folder_atomically(path: Path, fill: Callable[[Path], None]) -> None:
    """Make the folder `path` through a temporary sibling, fsync and rename; an old one is replaced as a whole.

    A folder cannot be swapped in one system call that Python offers: while an old one is being replaced there is an
    instant in which only its renamed copy exists, and a kill in it leaves both copies, each whole, under hidden names.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    aside = path.with_name(f".{path.name}.{os.getpid()}.old")
    try:
        temporary.mkdir()
        fill(temporary)
        fsync_tree(temporary)
        if os.path.lexists(path):
            path.rename(aside)
        try:
            temporary.rename(path)
        except BaseException:
            if os.path.lexists(aside):
                aside.rename(path)
            raise
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    fsync_folder(path.parent)
    remove(aside)
