"""The D4RL HDF5 layout: flat arrays of N rows, further ones under `infos/`, scalars under `metadata/`.

Source: D4RL 1.1, `scripts/generation/mujoco/collect_data.py` and `d4rl/offline_env.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from paperloop.errors import UserError
from paperloop.files import write_atomically
from paperloop_data.arrays import starts_after
from paperloop_data.dataset import EpisodeDataset
from paperloop_data.formats import hdf5
from paperloop_data.formats.flat import FIELDS, build_flat, wanted
from paperloop_data.formats.reading import Reading, check_fits
from paperloop_data.formats.writing import attributes_json, read_record, refuse_existing, saving, write_record
from paperloop_data.text import checked_attributes, shown
from paperloop_data.transitions import next_rows

__all__ = ["read_d4rl", "write_d4rl"]

#: What we keep next to D4RL's own arrays; its loader takes both for metadata.
STARTS = "metadata/episode_starts"
ATTRIBUTES = "metadata/paperloop"


def read_d4rl(path: str | Path, **options: Any) -> EpisodeDataset:
    """Read a D4RL HDF5 file.

    Everything with one row a step beyond D4RL's own arrays becomes an extra under its full name, such as "infos/goal";
    texts, numbers under `metadata/` and attributes of the file become `attributes["metadata"]`. `virtual/` (chunks of
    files that were split) is ignored. Nothing is read from other files: external links, external storage and virtual
    datasets are refused where they are among what is read; links within the file are followed.

    Args:
        path: the file.
        options: fields of `paperloop_data.Reading`.

    Raises:
        UserError: the file is locked or damaged, misses an array, or its arrays do not fit together.
    """
    path = Path(path)
    where, reading = shown(path.name), Reading.of(path, options, minari=False)
    with hdf5.opened_to_read(path, where) as file:
        holds = hdf5.datasets(file, where, lambda name: _needed(name, reading))
        attributes, skipped = _attributes(file, holds, where)
        arrays = {
            name: dataset
            for name, dataset in holds.items()
            if name in FIELDS or not (name.startswith(("metadata/", "virtual/")) or _is_text(dataset))
        }
        names, odd = wanted(arrays, reading)
        check_fits(sum(holds[name].nbytes for name in names), where)
        found = {name: hdf5.read(holds[name], name, where) for name in names}
    if skipped or odd:
        attributes["not_loaded"] = sorted({*attributes.get("not_loaded", ()), *skipped, *odd})
    read = read_record(path, path, "d4rl", reading.changed())
    return build_flat(found, holds, attributes=attributes, read=read, reading=reading)


def _needed(name: str, reading: Reading) -> bool:
    """Whether a link of this name must lead somewhere."""
    place = name.split("/")[0]
    return name in FIELDS or place == "metadata" or (place != "virtual" and reading.may_want(name))


def _attributes(file: h5py.File, holds: Mapping[str, h5py.Dataset], where: str) -> tuple[dict[str, Any], list[str]]:
    """What the file says about itself, and the names of metadata too large to be attributes."""
    attributes: dict[str, Any] = {}
    if ATTRIBUTES in holds:
        attributes = checked_attributes(hdf5.read_text(holds[ATTRIBUTES], ATTRIBUTES, where), where)
    skipped, metadata = [], hdf5.facts(file)
    if isinstance(file.get("metadata"), h5py.Group):
        metadata |= hdf5.facts(file["metadata"])
    for name, dataset in holds.items():
        stated = name.startswith("metadata/") and name not in (STARTS, ATTRIBUTES)
        if not stated and not (_is_text(dataset) and not name.startswith(("virtual/", "metadata/"))):
            continue
        small = dataset.size is not None and dataset.size <= hdf5.SMALL
        value = hdf5.plain(hdf5.read(dataset, name, where)) if small else None
        if value is None:
            skipped.append(name)
        else:
            metadata[name.removeprefix("metadata/")] = value
    if metadata:
        ours = attributes.get("metadata", {})  # our record of them has a checksum
        attributes["metadata"] = metadata | (ours if isinstance(ours, dict) else {})
    return attributes, skipped


def _is_text(dataset: h5py.Dataset) -> bool:
    return dataset.shape == () and (dataset.dtype.kind == "S" or h5py.check_string_dtype(dataset.dtype) is not None)


def write_d4rl(data: EpisodeDataset, path: str | Path, *, overwrite: bool = False, compress: bool = False) -> Path:
    """Write a dataset as a D4RL HDF5 file, atomically, with a checksum on every block.

    D4RL's own loader reads it. The layout knows two ends, terminal and time-out: a *cut* episode is written as timed
    out, except at the very last row, so that no reader bridges two episodes. Where the flags do not tell the episodes
    apart (AntMaze), their starts are kept under `metadata/episode_starts`, which `read_d4rl` honours.

    Final observations are written as next observations, (N, *obs). `compress` is gzip, as in D4RL's files, which is
    several times slower. Returns the path.

    Raises:
        UserError: the path exists, cannot be written, or an extra has a name that D4RL uses.
    """
    path = Path(path)
    refuse_existing(path, overwrite)
    reserved = [name for name in data.extras if name in FIELDS or name.split("/")[0] in ("metadata", "virtual")]
    if reserved:
        raise UserError(f"{data.where}: the extra {reserved[0]!r} has a name that D4RL files use otherwise; rename it.")
    timeouts = data.truncated.copy()
    timeouts[data.episode_ends[:-1] - 1] |= data.cut[:-1]
    contents = {name: getattr(data, name) for name in ("observations", "actions", "rewards")}
    contents |= {"terminals": data.terminated, "timeouts": timeouts}
    if (following := next_rows(data)) is not None:
        contents["next_observations"] = following
    if not np.array_equal(starts_after(data.terminated | timeouts), data.episode_starts):
        contents[STARTS] = data.episode_starts
    text = attributes_json(data.attributes, (*data.provenance, write_record("d4rl")), data.where)
    stated = data.attributes.get("metadata")
    metadata = {n: hdf5.plain(v) for n, v in stated.items()} if isinstance(stated, Mapping) else {}

    def fill(temporary: Path) -> None:
        with hdf5.opened_to_write(temporary) as file:
            for name, array in {**contents, **data.extras}.items():
                hdf5.write_array(file, name, array, compress)
            for name, value in metadata.items():
                if value is not None and f"metadata/{name}" not in (STARTS, ATTRIBUTES):
                    file.create_dataset(f"metadata/{name}", data=value)
            hdf5.write_text(file, ATTRIBUTES, text)

    with saving(path):
        write_atomically(path, fill)
    return path
