"""Datasets in files: load and save whatever the format, find Minari's local ones by their ids, fetch from the web."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, Literal

from paperloop import files
from paperloop.errors import UserError
from paperloop_data.dataset import EpisodeDataset
from paperloop_data.formats.archive import read_arrays, write_arrays
from paperloop_data.formats.d4rl import read_d4rl, write_d4rl
from paperloop_data.formats.hdf5 import is_hdf5
from paperloop_data.formats.minari import DATASET_ID, MAIN_FILE, data_folder, read_minari
from paperloop_data.formats.minari_writing import write_minari
from paperloop_data.formats.npz import read_npz, write_npz
from paperloop_data.formats.writing import refuse_existing, saving
from paperloop_data.text import shown

__all__ = [
    "Format", "dataset_path", "download", "format_of", "is_minari", "load", "read_arrays", "read_d4rl", "read_minari",
    "read_npz", "save", "write_arrays", "write_d4rl", "write_minari", "write_npz",
]  # fmt: skip

Format = Literal["d4rl", "minari", "npz"]

SUFFIXES: dict[str, Format] = {".hdf5": "d4rl", ".h5": "d4rl", ".hdf": "d4rl", ".npz": "npz", "": "minari"}


def dataset_path(name: str | Path) -> Path:
    """Return where a dataset lies: the path itself if something is there, else the local Minari dataset of that id.

    Minari keeps datasets in the folder that the environment variable MINARI_DATASETS_PATH names, by default
    `~/.minari/datasets`. Nothing is downloaded.

    Raises:
        UserError: there is neither.
    """
    path = Path(name)
    try:
        path.stat()
    except FileNotFoundError:
        identity = path.as_posix()
        root = Path(os.environ.get("MINARI_DATASETS_PATH") or "~/.minari/datasets").expanduser()
        if not DATASET_ID.fullmatch(identity):
            raise UserError(f"There is no dataset at {shown(path)}; check the path.") from None
        if data_folder(root / identity) is None:
            raise UserError(
                f"There is no dataset at {identity}, and no Minari dataset of that id in {shown(root)}; fetch it with "
                f"`minari download {identity}`, or let MINARI_DATASETS_PATH name the folder that it is in."
            ) from None
        return root / identity
    except (OSError, ValueError) as error:  # a circle of links, a folder that may not be entered, a null byte
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{shown(path)} cannot be read: {reason}.") from None
    return path


def format_of(name: str | Path) -> Format:
    """Return the format of a dataset, by its content."""
    path = dataset_path(name)
    if path.is_dir():
        if not os.access(path, os.R_OK | os.X_OK):
            raise UserError(f"{shown(path)} cannot be read: you lack the permission.")
        if data_folder(path) is None:
            raise UserError(f"{shown(path)} is not a Minari folder: neither data/{MAIN_FILE} nor {MAIN_FILE} is in it.")
        return "minari"
    files.check_is_file(path)
    if path.name == MAIN_FILE and (path.parent / "metadata.json").exists():
        return "minari"
    by_suffix = SUFFIXES.get(path.suffix.lower() or "none")
    with path.open("rb") as file:
        head = file.read(4)
    if is_hdf5(path) or by_suffix == "d4rl":
        return "d4rl"
    if head in (b"PK\x03\x04", b"PK\x05\x06") or by_suffix == "npz":
        return "npz"
    if path.suffix.lower() in (".pkl", ".pickle"):
        raise UserError(f"{shown(path)} is a pickle, which can run code and is never loaded; convert it to npz.")
    raise UserError(f"{shown(path)} is not an HDF5 file, npz archive or Minari folder; convert it to one of these.")


def is_minari(name: str | Path) -> bool:
    """Whether a path, or the id of a local dataset, is read as a Minari folder; False where nothing can be read."""
    try:
        return format_of(name) == "minari"
    except UserError:
        return False


def load(name: str | Path, **options: Any) -> EpisodeDataset:
    """Read a D4RL HDF5 file, a Minari folder or an npz archive; see `EpisodeDataset.load`."""
    path, format = dataset_path(name), format_of(name)
    if format == "minari":
        return read_minari(path.parent if path.name == MAIN_FILE else path, **options)
    return read_d4rl(path, **options) if format == "d4rl" else read_npz(path, **options)


def save(
    data: EpisodeDataset, path: str | Path, *, format: Format | None = None, overwrite: bool = False, **options: Any
) -> Path:
    """Write a dataset; see `EpisodeDataset.save`."""
    path = Path(path)
    chosen = format or SUFFIXES.get(path.suffix.lower())
    writers = {"d4rl": write_d4rl, "npz": write_npz, "minari": write_minari}
    if chosen is None:
        raise UserError(
            f"{shown(path)}: the suffix {path.suffix!r} is not that of a format; use .hdf5, .npz or none (Minari), or "
            "name the format."
        )
    if chosen not in writers:
        raise UserError(f"The format is 'd4rl', 'npz' or 'minari'; got {chosen!r}.")
    return writers[chosen](data, path, overwrite=overwrite, **options)


def download(
    url: str,
    path: str | Path,
    sha256: str,
    *,
    overwrite: bool = False,
    timeout: float = 30.0,
    progress: Callable[[int, int | None], None] | None = None,
) -> Path:
    """Fetch `url` to `path`, which appears only once it is whole and its checksum is right.

    A file that is already there with the right checksum is left as it is, and nothing is fetched: so a machine without
    a network works with files put there by hand.

    Args:
        url: an http or https address.
        path: where to put it; missing parent folders are made.
        sha256: the checksum, 64 hexadecimal digits.
        overwrite: replace a file of another checksum.
        timeout: seconds without a byte before giving up.
        progress: called with (bytes so far, bytes in all or None).

    Returns:
        The path.

    Raises:
        UserError: the server cannot be reached or answers with an error, the content is cut short or has another
            checksum, or another file is in the way. Nothing is left behind.
    """
    path, sha256 = Path(path), sha256.lower()
    if not re.fullmatch("[0-9a-f]{64}", sha256):
        raise UserError(f"A SHA-256 has 64 hexadecimal digits; got {sha256!r}.")
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        raise UserError(f"download() takes http and https addresses; got {url!r}.")
    if path.is_file() and files.sha256(path) == sha256:
        return path
    refuse_existing(path, overwrite, "its checksum is another one; move it away")
    by_hand = f"where there is no network, put the file at {path} by hand (SHA-256 {sha256})"

    def fetch(temporary: Path) -> None:
        digest, received = hashlib.sha256(), 0
        with _network(url, by_hand):
            answer = urllib.request.urlopen(url, timeout=timeout)
        with answer, temporary.open("wb") as file:
            length = answer.headers.get("Content-Length")
            total = int(length) if length and length.isdigit() else None
            while True:
                with _network(url, by_hand):
                    piece = answer.read(1 << 20)
                if not piece:
                    break
                digest.update(piece)
                received += len(piece)
                file.write(piece)
                if progress is not None:
                    progress(received, total)
        if total is not None and received != total:
            raise UserError(f"{url} broke off after {received} of {total} bytes; try again, or {by_hand}.")
        if digest.hexdigest() != sha256:
            raise UserError(
                f"{url} has the SHA-256 {digest.hexdigest()} and not {sha256}; the file there has changed or the "
                "checksum is wrong, so nothing was kept."
            )

    with saving(path):
        files.write_atomically(path, fetch)
    return path


@contextlib.contextmanager
def _network(url: str, by_hand: str) -> Generator[None]:
    try:
        yield
    except urllib.error.HTTPError as error:
        raise UserError(f"{url} answers {error.code} {error.reason}; check the address, or {by_hand}.") from None
    except (OSError, http.client.HTTPException) as error:  # URLError, timeouts and broken connections
        reason = getattr(error, "reason", error)
        raise UserError(f"{url} cannot be fetched ({reason}); try again, or {by_hand}.") from None
