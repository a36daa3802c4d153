"""Checkpoints that are complete or absent, and that cannot be damaged unnoticed.

    checkpoints/
      0000000200/        one checkpoint; the name is the step
        payload/         what `Trainer.save` wrote
        manifest.json    step, method, seed, wall, progress, and each file's size and SHA-256
        DONE             the SHA-256 of manifest.json, written last: a folder without it is garbage
      latest             the name of the newest complete one, replaced atomically

Not every format notices a flipped byte (safetensors does not), hence the manifest; DONE guards the manifest.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from paperloop.errors import CheckpointError
from paperloop.files import fsync_folder, fsync_tree, sha256, write_atomically, write_json

__all__ = ["Checkpoints", "compare_leaves", "verify"]

#: 2: `metrics` and `config` in the manifest.
FORMAT = 2
TEMPORARY = ".tmp-"


class Checkpoints:
    """The checkpoints of one run, in a folder that is made when first needed; the `keep` newest are kept."""

    def __init__(self, folder: Path, keep: int = 3):
        self.folder = Path(folder)
        self.keep = keep

    def steps(self) -> list[int]:
        """Return the steps of the complete checkpoints (those with DONE), oldest first."""
        if not self.folder.is_dir():
            return []
        return sorted(int(p.name) for p in self.folder.iterdir() if p.name.isdecimal() and (p / "DONE").is_file())

    def path(self, step: int) -> Path:
        """Return the folder of the checkpoint at `step`."""
        return self.folder / f"{step:010d}"

    def save(self, step: int, write: Callable[[Path], None], meta: Mapping[str, Any]) -> Path:
        """Write one checkpoint, all of it or nothing, and return its folder.

        `write` fills the empty folder it is given (usually `Trainer.save` bound to a state); the manifest keeps `meta`.

        Raises:
            CheckpointError: it could not be written; earlier checkpoints are untouched.
        """
        final = self.path(step)
        temporary = self.folder / f"{TEMPORARY}{final.name}-{os.getpid()}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._clean()
            payload = temporary / "payload"
            payload.mkdir(parents=True)
            write(payload)
            files = {p.relative_to(temporary).as_posix(): p for p in sorted(payload.rglob("*")) if p.is_file()}
            digests = {name: {"bytes": p.stat().st_size, "sha256": sha256(p)} for name, p in files.items()}
            write_json(temporary / "manifest.json", {"format": FORMAT, "step": step, **meta, "files": digests})
            fsync_tree(temporary)
            if final.exists():  # the same step written again
                _remove(final)
            temporary.rename(final)
            fsync_folder(self.folder)
            write_atomically(final / "DONE", (sha256(final / "manifest.json") + "\n").encode())
            write_atomically(self.folder / "latest", (final.name + "\n").encode())
        except Exception as error:
            shutil.rmtree(temporary, ignore_errors=True)
            if not (final / "DONE").is_file():
                shutil.rmtree(final, ignore_errors=True)
            kept = self.steps()
            rest = f"the checkpoint at step {kept[-1]} is intact" if kept else "no earlier checkpoint exists"
            raise CheckpointError(
                f"Could not write the checkpoint of step {step} in {self.folder} ({_reason(error)}); {rest}: "
                "fix the cause (free space, permissions) and resume."
            ) from error
        for old in self.steps()[: -self.keep]:
            with contextlib.suppress(OSError):
                _remove(self.path(old))
        return final

    def latest(self) -> int | None:
        """Return the step of the newest complete checkpoint, or None where there is none.

        Raises:
            CheckpointError: `latest` names none of them.
        """
        steps = self.steps()
        pointer = self.folder / "latest"
        try:
            name = pointer.read_text(errors="replace").strip()
        except FileNotFoundError:
            return steps[-1] if steps else None  # killed between the first DONE and the first `latest`
        if name.isdecimal() and int(name) in steps:
            return steps[-1]  # a kill between DONE and `latest` leaves a newer one than it names, which is complete
        raise CheckpointError(
            f"{pointer} names {name!r}, which is not a complete checkpoint; the complete ones are at steps "
            f"{steps or 'none'}: restore it, or remove {pointer} to resume from the newest of these."
        )

    def find(self) -> int | None:
        """Return the step to resume from, verified byte by byte; None where no checkpoint exists.

        Raises:
            CheckpointError: the newest is damaged; the message says how to resume from the one before it.
        """
        newest = self.latest()
        if newest is None:
            return None
        try:
            verify(self.path(newest))
        except CheckpointError as error:
            if not (earlier := self.steps()[:-1]):
                raise
            raise CheckpointError(
                f"{str(error).rstrip('.')}; to resume from step {earlier[-1]}, remove {self.path(newest)} and "
                f"{self.folder / 'latest'}."
            ) from None
        return newest

    def manifest(self, step: int) -> dict[str, Any]:
        """Return the manifest of a verified checkpoint."""
        return json.loads((self.path(step) / "manifest.json").read_text())

    def _clean(self) -> None:
        """Remove what killed saves left: temporary folders and checkpoints without DONE."""
        for path in [*self.folder.iterdir()]:
            if path.name.startswith(TEMPORARY) or (path.name.isdecimal() and not (path / "DONE").is_file()):
                shutil.rmtree(path, ignore_errors=True)


def verify(folder: Path) -> dict[str, Any]:
    """Check every byte of one checkpoint against its manifest and return the manifest.

    Raises:
        CheckpointError: the message names the file, and what is wrong with it.
    """
    folder = Path(folder)
    try:
        return _verify(folder)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):  # whole, and yet not ours
        raise CheckpointError(f"Checkpoint {folder} is damaged: manifest.json is not a manifest.") from None
    except OSError as error:  # a bad sector, permissions
        name = f": {Path(error.filename).name}" if error.filename else ""
        raise CheckpointError(f"Checkpoint {folder} cannot be read ({error.strerror or error}{name}).") from None


def compare_leaves(saved: Mapping[str, Any], here: Mapping[str, Any], folder: Path) -> None:
    """Refuse saved leaves, given as path -> [shape, dtype], that are not those of the state here."""
    for name in {**here, **saved}:
        there, mine = saved.get(name), here.get(name)
        if there == mine:
            continue
        if there is None or mine is None:
            fault = f"it has no leaf {name}" if there is None else f"it has a leaf {name} that is unknown here"
        else:
            at = 0 if there[0] != mine[0] else 1
            fault = f"leaf {name} has {('shape', 'dtype')[at]} {there[at]}, not {mine[at]}"
        raise CheckpointError(
            f"The checkpoint in {folder} does not fit this configuration: {fault}; "
            "use the config.json that it was made with."
        )


def _verify(folder: Path) -> dict[str, Any]:
    done, manifest_path = folder / "DONE", folder / "manifest.json"
    for path in (manifest_path, done):
        if not path.is_file():
            raise CheckpointError(f"Checkpoint {folder} is incomplete: {path.name} is missing.")
    if done.read_text(errors="replace") != sha256(manifest_path) + "\n":
        raise CheckpointError(
            f"Checkpoint {folder} is damaged: manifest.json does not match the SHA-256 in DONE, so one of them changed."
        )
    manifest = json.loads(manifest_path.read_text())
    if manifest["format"] != FORMAT:
        raise CheckpointError(
            f"Checkpoint {folder} has format {manifest['format']}, and this version reads format {FORMAT}: "
            "use the paperloop version that wrote it."
        )
    if folder.name.isdecimal() and manifest["step"] != int(folder.name):
        raise CheckpointError(f"Checkpoint {folder} was renamed: its manifest.json is of step {manifest['step']}.")
    for name, expected in manifest["files"].items():
        path = folder / name
        if not path.is_file():
            raise CheckpointError(f"Checkpoint {folder} is damaged: {name} is missing.")
        size = path.stat().st_size
        if size != expected["bytes"]:
            raise CheckpointError(
                f"Checkpoint {folder} is damaged: {name} has {size} bytes instead of {expected['bytes']}."
            )
        if sha256(path) != expected["sha256"]:
            raise CheckpointError(f"Checkpoint {folder} is damaged: the content of {name} has changed.")
    for path in (folder / "payload").rglob("*"):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name not in manifest["files"]:
            raise CheckpointError(f"Checkpoint {folder} is damaged: {name} is not in its manifest.")
    return manifest


def _remove(folder: Path) -> None:
    """Remove a checkpoint, DONE first: a kill in the middle leaves garbage rather than a damaged checkpoint."""
    (folder / "DONE").unlink(missing_ok=True)
    shutil.rmtree(folder)


def _reason(error: BaseException) -> str:
    """The first line of an error, or its kind where it says nothing."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return next(iter(str(error).strip().splitlines()), "") or type(error).__name__
