"""Which format a path is of."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paperloop.errors import UserError
from paperloop_data.dataset import EpisodeDataset
from paperloop_data.formats.d4rl import read_d4rl, write_d4rl
from paperloop_data.formats.hdf5 import is_hdf5
from paperloop_data.formats.minari import MAIN_FILE, data_folder, read_minari, write_minari
from paperloop_data.formats.npz import read_npz, write_npz

__all__ = ["load", "save"]

HDF5_SUFFIXES = (".hdf5", ".h5", ".hdf")


def load(path: Path, options: Mapping[str, Any]) -> EpisodeDataset:
    """See `EpisodeDataset.load`."""
    if path.is_dir():
        if data_folder(path) is None:
            raise UserError(f"{path} is no Minari folder: neither data/{MAIN_FILE} nor {MAIN_FILE} is in it.")
        return read_minari(path, **options)
    if not path.exists():
        raise UserError(f"There is no dataset at {path}; check the path.")
    try:
        with path.open("rb") as file:
            head = file.read(8)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); check its permissions.") from None
    if path.name == MAIN_FILE and (path.parent / "metadata.json").exists():
        return read_minari(path.parent, **options)
    if is_hdf5(path) or path.suffix.lower() in HDF5_SUFFIXES:
        return read_d4rl(path, **options)
    if head[:4] in (b"PK\x03\x04", b"PK\x05\x06") or path.suffix.lower() == ".npz":
        return read_npz(path, **options)
    if path.suffix.lower() in (".pkl", ".pickle"):
        raise UserError(f"{path} is a pickle, which can run code and is never loaded; convert it to npz.")
    raise UserError(f"{path} is no HDF5 file, npz archive or Minari folder; convert it to one of these.")


def save(data: EpisodeDataset, path: Path, format: str | None, overwrite: bool, options: Mapping[str, Any]) -> Path:
    """See `EpisodeDataset.save`."""
    suffix = path.suffix.lower()
    if format is None:
        if suffix in HDF5_SUFFIXES:
            format = "d4rl"
        elif suffix == ".npz":
            format = "npz"
        elif suffix == "":
            format = "minari"
        else:
            raise UserError(
                f"{path}: the suffix {suffix!r} names no format; use .hdf5, .npz or none (Minari), or pass format=."
            )
    writers = {"d4rl": write_d4rl, "npz": write_npz, "minari": write_minari}
    if format not in writers:
        raise UserError(f"The format is 'd4rl', 'npz' or 'minari'; got {format!r}.")
    return writers[format](data, path, overwrite=overwrite, **options)
