"""The place of what `otr label` writes: what may lie there, which process works on it, and whether it is finished.

While a process labels for OUT it holds the lock `.OUT.labels/.lock`. Finished chunks are kept next to the lock, and the
folder is removed when OUT is whole. The system releases a lock when its process dies, however it dies.
"""

from __future__ import annotations

import contextlib
import glob
import os
import re
import socket
import stat
import warnings
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from otr.episodes.truth import true_rewards
from otr.labels.keys import digest_of
from otr.labels.labelling import ATTRIBUTE
from paperloop.errors import UserError, setting
from paperloop.files import leftovers, remove, remove_leftovers
from paperloop_data import EpisodeDataset, next_rows
from paperloop_data.io import Format

__all__ = ["check_output", "finished", "hold", "output_format", "rehearse", "save_dataset", "sweep"]

#: Format by suffix.
SUFFIXES: dict[str, Format] = {".hdf5": "d4rl", ".h5": "d4rl", ".hdf": "d4rl", ".npz": "npz", "": "minari"}
WRITTEN = {"d4rl": "a file (HDF5)", "npz": "a file (npz)", "minari": "a folder (Minari)"}


def output_format(out: Path) -> Format:
    """Return the format that the suffix of `out` names: HDF5, npz, or without one a Minari folder.

    Raises:
        UserError: the suffix names no format.
    """
    found = SUFFIXES.get(out.suffix.lower())
    if found is None:
        raise UserError(f"{out}: the suffix {out.suffix!r} names no format: use .hdf5, .npz, or none for Minari.")
    return found


def check_output(data: EpisodeDataset, source: Path, out: Path) -> None:
    """Refuse before labelling what could not be written after it; whether `out` may be replaced is not asked here.

    Raises:
        UserError: `out` is the source, is of another kind than what is written, cannot be made, or the format cannot
            hold the data.
    """
    if out.name in ("", ".."):
        raise UserError(f"{out} is a folder that is there already: name the data to make in it.")
    wanted = WRITTEN[output_format(out)]
    folder = output_format(out) == "minari"
    if os.path.lexists(out):
        try:
            mode = out.stat().st_mode
            same = out.samefile(source)
        except OSError as error:  # a link that leads nowhere or in a circle
            raise UserError(f"{out} cannot be replaced ({error.strerror}): choose another {setting('out')}.") from None
        if same:
            raise UserError(f"{out} is the data itself, which stays as it is: choose another {setting('out')}.")
        if not stat.S_ISDIR(mode) if folder else not stat.S_ISREG(mode):
            kind = "a folder" if stat.S_ISDIR(mode) else "a file" if stat.S_ISREG(mode) else "neither file nor folder"
            raise UserError(f"{out} is {kind}, and what is written is {wanted}: choose another {setting('out')}.")
        if folder and not any((out / name).exists() for name in ("main_data.hdf5", "data/main_data.hdf5")):
            raise UserError(f"{out} is a folder, but not a Minari folder: choose another {setting('out')}.")
    parent = next(parent for parent in out.absolute().parents if os.path.lexists(parent))
    if not parent.is_dir():
        raise UserError(f"{out} cannot be made, because {parent} is not a folder: choose another {setting('out')}.")
    if not os.access(parent, os.W_OK):
        raise UserError(f"{out} cannot be written, because {parent} is read-only: choose another {setting('out')}.")
    if folder and next_rows(data) is None:
        raise UserError(
            f"{source}: Minari keeps the observation after each episode, and this file has none: write .hdf5 or .npz."
        )


@contextlib.contextmanager
def hold(out: Path) -> Generator[Path]:
    """Hold `out` for this process; nothing of that is left at the end but what others put into the folder.

    Yields:
        The folder `.OUT.labels` next to it, for finished chunks.

    Raises:
        UserError: another process holds it; the message names it. Or the folder cannot be made.
    """
    folder = out.with_name(f".{out.name}.labels")
    made = [parent for parent in folder.parents if not parent.exists()]
    try:
        file = _locked(folder, out)
    except OSError as error:
        raise UserError(f"{out} cannot be written ({error.strerror}): choose another {setting('out')}.") from None
    try:
        yield folder
    finally:
        with contextlib.suppress(OSError):
            (folder / ".lock").unlink()
        for path in (folder, *made):  # each only if it is empty
            with contextlib.suppress(OSError):
                path.rmdir()
        file.close()


def _locked(folder: Path, out: Path) -> Any:
    """The open lock file, held."""
    import fcntl  # POSIX only, as are the machines that train

    path = folder / ".lock"
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            file = path.open("a+")
        except FileNotFoundError:  # whoever held it is removing the folder
            continue
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with file:
                file.seek(0)
                holder = file.read().strip() or "another process"
            raise UserError(f"{out} is in use by {holder}: wait for it, or choose another {setting('out')}.") from None
        except OSError as error:  # a file system without locks
            warnings.warn(f"{out} cannot be locked ({error.strerror}): let one process write it.", stacklevel=4)
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):  # it was not removed in between
                file.truncate(0)
                file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
                file.flush()
                return file
        file.close()


def sweep(out: Path, folder: Path) -> None:
    """Remove what this labelling, and others that were killed, left next to a finished output.

    Args:
        out: the output, whole.
        folder: see `hold`.
    """
    remove_leftovers([*leftovers(out), *out.parent.glob(f".{glob.escape(out.name)}.*.old")])
    for path in folder.glob("*"):
        if path.name != ".lock":
            remove(path)


def finished(out: Path, key: str, data: EpisodeDataset, facts: Mapping[str, Any]) -> EpisodeDataset | None:
    """Return what `out` holds if that is what labelling `data` would write there; None if it is anything else.

    Args:
        out: what is there.
        key: of the labels, see `otr.labels.keys.label_key`.
        data: what is labelled.
        facts: what else the output has to say of its labels.
    """
    try:
        found = EpisodeDataset.load(out)
    except UserError:
        return None
    said = found.attributes.get(ATTRIBUTE)
    wanted = {**facts, "key": key, "rewards": digest_of(found.rewards)}
    same = (
        isinstance(said, Mapping)
        and all(said.get(name) == value for name, value in wanted.items())
        and next(iter(reversed(found.provenance)), {}).get("format") == output_format(out)
        and np.array_equal(found.episode_starts, data.episode_starts)
        and np.array_equal(found.observations, data.observations)
        and np.array_equal(true_rewards(found), true_rewards(data))
    )
    return found if same else None


def rehearse(data: EpisodeDataset, folder: Path, out: Path) -> None:
    """Write one episode in the format of the output and remove it: what a writer refuses is known before labelling.

    Raises:
        UserError: see `EpisodeDataset.save`.
    """
    path = folder / out.name
    remove(path)  # half of one, where a process was killed while it removed its own
    try:
        save_dataset(data.select([0]), path)
    finally:
        remove(path)


def save_dataset(data: EpisodeDataset, out: Path, *, overwrite: bool = False) -> Path:
    """Write the dataset, atomically; a Minari folder is named after `out`.

    Raises:
        UserError: see `EpisodeDataset.save`.
    """
    options: dict[str, Any] = {}
    if output_format(out) == "minari":
        name = re.sub(r"[^-\w]+", "-", out.name).strip("-") or "labelled"
        options["dataset_id"] = name if re.search(r"-v\d+$", name) else f"{name}-v0"
    return data.save(out, overwrite=overwrite, **options)
