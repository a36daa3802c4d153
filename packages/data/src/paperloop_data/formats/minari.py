"""Minari folders: `data/metadata.json` and `data/main_data.hdf5`, which holds one group for each episode.

Source: Minari 0.5.4, `minari/dataset/_storages/hdf5_storage.py`, whose files these are; the package is not needed.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from paperloop.errors import UserError, setting
from paperloop.files import check_is_file
from paperloop_data import arrays
from paperloop_data.dataset import EpisodeDataset
from paperloop_data.formats import hdf5
from paperloop_data.formats.reading import Reading, build, check_fits
from paperloop_data.formats.writing import (
    read_record,
)
from paperloop_data.text import checked_attributes, names, parsed, shown

__all__ = [
    "DATASET_ID", "DIGESTS", "LAYOUT_VERSION", "MAIN_FILE", "METADATA_FILE", "STORED_NEXT", "data_folder",
    "json_digest", "read_minari",
]  # fmt: skip

MAIN_FILE = "main_data.hdf5"
METADATA_FILE = "metadata.json"

#: The version of the layout that is written; Minari reads those it lists.
LAYOUT_VERSION = "0.5.3"

#: Minari's own pattern of a dataset's name: (namespace/)name-v<number>.
DATASET_ID = re.compile(r"(?:[-_\w][-_\w/]*[-_\w]+/)?[-_\w]+?-v\d+")

#: Where we keep the SHA-256 of the main file and of each of the metadata that we write.
DIGESTS = "paperloop_sha256"

#: Metadata that follow from the episodes, or that are ours, and are therefore not attributes.
DERIVED = ("total_episodes", "total_steps", "dataset_size", "data_format", "jpeg_encoding", "paperloop", DIGESTS)

#: Where next observations go that are not the next rows, which the layout has no room for.
STORED_NEXT = "next_observations"


def data_folder(path: Path) -> Path | None:
    """Return the folder with the data in or below `path`, or None where there is none."""
    return next((f for f in (path / "data", path) if (f / MAIN_FILE).is_file() or (f / METADATA_FILE).is_file()), None)


def read_minari(path: str | Path, **options: Any) -> EpisodeDataset:
    """Read a Minari dataset folder in its HDF5 format.

    The last of an episode's T+1 observations becomes its final observation. `infos/*` with T or T+1 rows become extras,
    aligned with the observation they came with (of T+1 rows the last is left out). The metadata become
    `attributes["minari"]`.

    The path is that of the folder that holds `data/`, or of `data/` itself; options are fields of
    `paperloop_data.Reading`.

    Raises:
        UserError: the folder is damaged or incomplete, was changed after we wrote it, its format or spaces are not
            supported, or its arrays do not fit together. The message names the episode.
    """
    path = Path(path)
    where, folder, reading = shown(path.name), data_folder(path), Reading.of(path, options, minari=True)
    if folder is None:
        raise UserError(f"{shown(path)} is not a Minari folder: neither data/{MAIN_FILE} nor {MAIN_FILE} is in it.")
    metadata = _read_metadata(folder, where)
    main = folder / MAIN_FILE
    if not main.exists():
        raise UserError(f"{shown(path)}: {MAIN_FILE} is missing; copy the folder again.")
    read = read_record(path, check_is_file(main), "minari", reading.changed())
    _refuse_changed(metadata, read["sha256"], where)
    ours = checked_attributes(metadata["paperloop"], where) if "paperloop" in metadata else {}
    with hdf5.opened_to_read(main, f"{where}/{MAIN_FILE}") as file:
        groups = _episode_groups(file, metadata, where)
        reader = _Reader(groups, where, main.stat().st_size, lambda name: _needed(name, reading))
        total = metadata.get("total_steps", int(reader.lengths.sum()))
        if total != reader.lengths.sum():
            raise UserError(
                f"{where}: {METADATA_FILE} says {shown(total)} steps, {MAIN_FILE} holds {reader.lengths.sum()}; copy "
                "the folder again."
            )
        fields, skipped = _read_episodes(reader, metadata, reading)
    root = set(ours.pop("root_extras", ()))
    fields["extras"] = {
        name.removeprefix("infos/") if name in root else name: value for name, value in fields["extras"].items()
    }
    reading.check_extras(fields["extras"], where)
    attributes = {**ours, "minari": {key: value for key, value in metadata.items() if key not in DERIVED}}
    if skipped:
        attributes["not_loaded"] = skipped
    return build(fields, attributes=attributes, read=read, drop_nonfinite=reading.drop_nonfinite)


def _read_metadata(folder: Path, where: str) -> dict[str, Any]:
    path = folder / METADATA_FILE
    if not path.exists():
        raise UserError(f"{where}: {METADATA_FILE} is missing; copy the folder again.")
    check_is_file(path)
    try:
        metadata = parsed(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"{where}: {METADATA_FILE} is damaged ({shown(error)}); copy the folder again.") from None
    if not isinstance(metadata, dict):
        raise UserError(f"{where}: {METADATA_FILE} is not a JSON object; copy the folder again.")
    stored_as = metadata.get("data_format", "hdf5")
    if stored_as != "hdf5":
        raise UserError(
            f"{where} is stored as {shown(stored_as)}; only Minari's HDF5 format is read, so write it again with "
            "data_format='hdf5'."
        )
    return metadata


def json_digest(value: Any) -> str:
    """Return the SHA-256 of a value as JSON, in hexadecimal digits."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _refuse_changed(metadata: Mapping[str, Any], main: str, where: str) -> None:
    """Raise if the folder is one of ours and was changed after it was written; Minari's own keep no digests."""
    digests = metadata.get(DIGESTS)
    for name, digest in digests.items() if isinstance(digests, Mapping) else ():
        if digest != (main if name == MAIN_FILE else json_digest(metadata[name]) if name in metadata else None):
            what = MAIN_FILE if name == MAIN_FILE else f"{shown(name)} in {METADATA_FILE}"
            raise UserError(
                f"{where}: {what} is not what was written; copy the folder again or, if the change is meant, delete "
                f"the entry {DIGESTS!r} of {METADATA_FILE}."
            )


def _episode_groups(file: h5py.File, metadata: Mapping[str, Any], where: str) -> list[h5py.h5g.GroupID]:
    """The groups of the episodes in order, as h5py's low-level identifiers, which open ten times faster."""
    present = {name for name in file if name.startswith("episode_")}
    count = metadata.get("total_episodes", len(present))
    if count != len(present):
        raise UserError(
            f"{where}: {METADATA_FILE} says {shown(count)} episodes, {MAIN_FILE} holds {len(present)}; copy the folder "
            "again."
        )
    if not present:
        raise UserError(f"{where}: it has no episodes; give at least one.")
    missing = next((n for n in range(len(present)) if f"episode_{n}" not in present), None)
    if missing is not None:
        raise UserError(f"{where}: episode {missing} is missing; copy the folder again.")
    found = [hdf5.follow(file.id, name.encode(), name, where) for name in map("episode_{}".format, range(len(present)))]
    for number, group in enumerate(found):
        if not isinstance(group, h5py.h5g.GroupID):
            raise UserError(f"{where}: episode_{number} is not a group of arrays; copy the folder again.")
    return found


def _needed(name: str, reading: Reading) -> bool:
    """Whether a link of this name in an episode must lead somewhere."""
    field, _, part = name.partition("/")
    keys = {"observations": reading.observation_keys, "actions": reading.action_keys}.get(field)
    if field != "infos" and (keys is None or not part or any(f"{key}/".startswith(f"{part}/") for key in keys)):
        return field in ("observations", "actions", "rewards", "terminations", "truncations")
    return reading.may_want(name) or (field == "infos" and part == STORED_NEXT) or bool(part and reading.may_want(part))


def _read_episodes(reader: _Reader, metadata: Mapping[str, Any], reading: Reading) -> tuple[dict[str, Any], list[str]]:
    """Return the array fields, extras among them, and the names of arrays that are not numbers of one shape."""
    lengths = reader.lengths
    total = sum(leaf.nbytes for leaf in reader.leaves.values()) / int(lengths[0]) * int(lengths.sum())
    check_fits(int(total), reader.where)

    fields: dict[str, Any] = {"episode_starts": reader.starts}
    fields["rewards"], _ = reader.read("rewards")
    fields["terminated"], _ = reader.read("terminations")
    fields["truncated"], _ = reader.read("truncations")
    fields["observations"], final, rest = _parts(reader, "observations", reading.observation_keys, metadata)
    fields["actions"], _, more = _parts(reader, "actions", reading.action_keys, metadata)

    further, skipped = {}, []
    stored_next = f"infos/{STORED_NEXT}"
    for name in [*rest, *more, *sorted(name for name in reader.leaves if name.startswith("infos/"))]:
        if name != stored_next and not (reading.wants(name) or reading.wants(name.removeprefix("infos/"))):
            continue
        try:
            further[name], _ = reader.read(name)
        except _UnfitError:
            skipped.append(name)
    following = further.pop(stored_next, None)
    fields["next_observations"] = following
    fields["final_observations"] = final if following is None else None
    fields["extras"] = further
    return fields, skipped


def _parts(
    reader: _Reader, field: str, keys: Sequence[str] | None, metadata: Mapping[str, Any]
) -> tuple[np.ndarray, np.ndarray | None, list[str]]:
    """Read observations or actions: (rows, final rows or None, names of the parts that were not asked for)."""
    where, option = reader.where, f"{field.removesuffix('s')}_keys"
    if field in reader.leaves:
        if keys is not None:
            raise UserError(f"{where}: {field} is one array, so {setting(option)} does not apply; leave it out.")
        _refuse_jpeg(reader.leaves[field], metadata.get(f"{field.removesuffix('s')}_space"), field, where)
        values, final = reader.read(field)
        return values, final, []
    parts = {name.removeprefix(f"{field}/"): name for name in reader.leaves if name.startswith(f"{field}/")}
    if not keys:
        raise UserError(
            f"{where}: {field} are made of parts ({names(parts)}); name those to concatenate, such as "
            f"{setting(option, (min(parts, default='observation'),))}."
        )
    unknown = [key for key in keys if key not in parts]
    if unknown:
        raise UserError(f"{where}: {field} has no part {unknown[0]!r}; it has {names(parts)}.")
    read = [reader.read(parts[key]) for key in keys]
    values = np.concatenate([part.reshape(len(part), -1) for part, _ in read], axis=1)
    finals = [part.reshape(len(part), -1) for _, part in read if part is not None]
    final = np.concatenate(finals, axis=1) if len(finals) == len(read) else None
    return values, final, [name for part, name in parts.items() if part not in keys]


def _refuse_jpeg(dataset: h5py.Dataset, space: Any, field: str, where: str) -> None:
    """Minari stores images as rows of JPEG bytes; the space tells, because the rows are then not of its shape."""
    try:
        shape = tuple(parsed(space)["shape"])
    except (TypeError, ValueError, KeyError):
        return
    if dataset.dtype.kind == "O" or (dataset.dtype == np.uint8 and len(shape) > 1 and dataset.shape[1:] != shape):
        raise UserError(f"{where}: {field} are JPEG images; write the dataset again with jpeg_encoding=False.")


class _UnfitError(UserError):
    """An array that is not there, or not of one shape and type, in every episode."""


class _Reader:
    """Reads one named array over all episodes into one allocation.

    Attributes:
        lengths: (E,) int64, by the rewards.
        starts: (E,) int64.
        leaves: the datasets of the first episode, by path.
    """

    def __init__(
        self, groups: list[h5py.h5g.GroupID], where: str, file_bytes: int, wanted: Callable[[str], bool]
    ) -> None:
        self.where, self._groups, self._file_bytes = where, groups, file_bytes
        self.leaves = hdf5.datasets(h5py.Group(groups[0]), where, wanted)
        for name in ("observations", "actions", "rewards", "terminations", "truncations"):
            parts = name in ("observations", "actions") and any(leaf.startswith(f"{name}/") for leaf in self.leaves)
            if name not in self.leaves and not parts:
                raise UserError(f"{where}: episode 0 has no {name}; it holds {names(self.leaves)}.")
        opened = [self._open("rewards", number) for number in range(len(groups))]
        self.lengths = np.array([dataset.shape[0] if dataset.shape else 0 for dataset in opened], np.int64)
        if not self.lengths.all():
            raise UserError(f"{where}: episode {int(self.lengths.argmin())} has no steps; remove it with Minari.")
        self.starts = arrays.starts_of(self.lengths)

    def _open(self, name: str, number: int) -> h5py.h5d.DatasetID:
        path = f"episode_{number}/{name}"
        found = hdf5.follow(self._groups[number], name.encode(errors="surrogateescape"), path, self.where)
        if not isinstance(found, h5py.h5d.DatasetID):
            raise _UnfitError(f"{self.where}: episode {number} has no {shown(name)}; copy or write it again.")
        return found

    def read(self, name: str) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the T rows of every episode, (N, ...), and the T+1st, (E, ...), where there is one.

        Raises:
            UserError: it is damaged; `_UnfitError`: it is not an array of numbers of one shape in every episode.
        """
        if name not in self.leaves:
            raise _UnfitError(f"{self.where}: {shown(name)} are not one array; write the dataset again.")
        head = self.leaves[name]
        if head.dtype.kind not in "biuf":
            raise _UnfitError(f"{self.where}: {shown(name)} are of type {head.dtype}; only numbers are read.")
        dtype, shape, kind = head.dtype.newbyteorder("="), head.shape[1:], head.id.get_type()
        longer = head.shape[:1] == (int(self.lengths[0]) + 1,)
        values = np.empty((int(self.lengths.sum()), *shape), dtype)
        final = np.empty((len(self.lengths), *shape), dtype) if longer else None
        for number, (start, length) in enumerate(zip(self.starts.tolist(), self.lengths.tolist(), strict=True)):
            dataset = self._open(name, number)
            wanted = (length + longer, *shape)
            shape_here = dataset.shape
            if shape_here != wanted or dataset.get_type() != kind:
                raise _UnfitError(
                    f"{self.where}: episode {number} has {shown(name)} of shape {shape_here} and type "
                    f"{dataset.dtype}, where {wanted} and {head.dtype} follow from its {length} rewards and from "
                    "episode 0; fix or remove it."
                )
            hdf5.check_stored(dataset, wanted, f"episode_{number}/{name}", self.where, self._file_bytes)
            rows = np.empty(wanted, dtype)
            try:
                dataset.read(h5py.h5s.ALL, h5py.h5s.ALL, rows)
            except (OSError, RuntimeError) as error:
                raise UserError(
                    f"{self.where}: {shown(name)} of episode {number} is damaged ({hdf5.reason(error)}); copy the "
                    "folder again."
                ) from error
            values[start : start + length] = rows[:length]
            if final is not None:
                final[number] = rows[length]
        return values, final
