"""Minari folders: `data/metadata.json` beside `data/main_data.hdf5`, which holds one group for each episode.

Source: Minari 0.5.4, `minari/dataset/_storages/hdf5_storage.py`, whose files these are; the package is not needed.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from paperloop.errors import UserError
from paperloop_data import arrays
from paperloop_data.dataset import EpisodeDataset
from paperloop_data.formats import hdf5
from paperloop_data.formats.memory import check_fits
from paperloop_data.formats.reading import build, changed_options, wants_extra
from paperloop_data.formats.writing import (
    attributes_json,
    read_record,
    refuse_existing,
    saving,
    write_folder_atomically,
    write_record,
)
from paperloop_data.transitions import next_rows

__all__ = ["MAIN_FILE", "data_folder", "read_minari", "write_minari"]

MAIN_FILE = "main_data.hdf5"
METADATA_FILE = "metadata.json"

#: The version of the layout that is written; Minari reads those it lists.
LAYOUT_VERSION = "0.5.3"

#: Minari's own pattern of a dataset's name: (namespace/)name-v<number>.
DATASET_ID = re.compile(r"(?:[-_\w][-_\w/]*[-_\w]+/)?[-_\w]+?-v\d+")

#: Metadata that follow from the episodes, or that are ours, and are therefore not attributes.
DERIVED = ("total_episodes", "total_steps", "dataset_size", "data_format", "jpeg_encoding", "paperloop")

#: Where next observations go that are not the next rows, which the layout has no room for.
STORED_NEXT = "next_observations"


def data_folder(path: Path) -> Path | None:
    """Return the folder with the data in or below `path`, or None where there is none."""
    return next((f for f in (path / "data", path) if (f / MAIN_FILE).is_file() or (f / METADATA_FILE).is_file()), None)


def read_minari(
    path: str | Path,
    *,
    observation_keys: Sequence[str] | None = None,
    action_keys: Sequence[str] | None = None,
    extras: bool | Sequence[str] = True,
    drop_nonfinite: bool = False,
) -> EpisodeDataset:
    """Read a Minari dataset folder in its HDF5 format.

    The last of an episode's T+1 observations becomes its final observation. `infos/*` with T or T+1 rows become extras,
    aligned with the observation they came with (of T+1 rows the last is left out). The metadata become
    `attributes["minari"]`.

    Args:
        path: the dataset's folder, which holds `data/`, or that `data/` itself.
        observation_keys: for Dict and Tuple observations, the parts to flatten and concatenate as the observation, such
            as ("observation", "desired_goal"); nested parts are "a/b", parts of a Tuple "_index_0". The other parts
            become extras, such as "observations/achieved_goal".
        action_keys: the same for actions.
        extras: False for none, or the names of those wanted.
        drop_nonfinite: leave out episodes with NaN or infinities instead of refusing the dataset.

    Raises:
        UserError: h5py is missing, the folder is damaged or incomplete, its format or spaces are not supported, or its
            arrays do not fit together. The message names the episode.
    """
    path = Path(path)
    folder = data_folder(path)
    if folder is None:
        raise UserError(f"{path} is no Minari folder: neither data/{MAIN_FILE} nor {MAIN_FILE} is in it.")
    options = changed_options(locals(), observation_keys=None, action_keys=None, extras=True, drop_nonfinite=False)
    metadata = _read_metadata(folder, path.name)
    main = folder / MAIN_FILE
    if not main.is_file():
        raise UserError(f"{path}: {MAIN_FILE} is missing; copy the folder again.")
    ours = json.loads(metadata["paperloop"]) if "paperloop" in metadata else {}
    with hdf5.opened_to_read(main, f"{path.name}/{MAIN_FILE}") as file:
        groups = _episode_groups(file, metadata, path.name)
        fields, skipped = _read_episodes(groups, metadata, observation_keys, action_keys, extras, path.name)
    root = set(ours.pop("root_extras", ()))
    fields["extras"] = {
        name.removeprefix("infos/") if name in root else name: value for name, value in fields["extras"].items()
    }
    attributes = {**ours, "minari": {key: value for key, value in metadata.items() if key not in DERIVED}}
    if skipped:
        attributes["not_loaded"] = skipped
    return build(
        fields,
        attributes=attributes,
        read=read_record(path, main, "minari", options),
        drop_nonfinite=drop_nonfinite,
    )


def write_minari(
    data: EpisodeDataset,
    path: str | Path,
    *,
    dataset_id: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    compress: bool = False,
) -> Path:
    """Write a Minari dataset folder that `minari.MinariDataset(path / "data")` reads.

    To find it with `minari.load_dataset(dataset_id)`, let the path be `<MINARI_DATASETS_PATH>/<dataset_id>`. Extras are
    stored under `infos/`.

    Args:
        data: the dataset, with next or final observations.
        path: the folder to make.
        dataset_id: "(namespace/)name-v0"; by default the last part of the path.
        metadata: further metadata, such as "author", "env_spec", or "action_space" as Minari serialises it. What was
            read from a Minari folder is kept where it still fits; spaces without such knowledge are unbounded.
        overwrite: replace an older Minari folder there.
        compress: gzip; smaller, and several times slower.

    Returns:
        The path.

    Raises:
        UserError: the path exists, or cannot be written, or the dataset has no final observations.
    """
    path = Path(path)
    hdf5.import_h5py()
    refuse_existing(path, overwrite)
    if path.exists() and data_folder(path) is None:
        raise UserError(f"{path} exists and is no Minari folder, so it is not overwritten; choose another name.")
    dataset_id = path.name if dataset_id is None else dataset_id
    if not DATASET_ID.fullmatch(dataset_id):
        raise UserError(f"A Minari dataset is named like 'namespace/name-v0'; got {dataset_id!r}: pass dataset_id.")
    following = next_rows(data)
    if following is None:
        raise UserError(
            f"{data.where}: Minari keeps one observation more than steps in each episode, and this dataset has no "
            "final observations; add them with replace(final_observations=...), or save as .hdf5 or .npz."
        )
    final = following[data.episode_ends - 1]
    infos, root = _infos(data, following)
    stated = dict(data.attributes.get("minari", {}))
    provenance = (*data.provenance, write_record("minari"))
    ours = {key: value for key, value in data.attributes.items() if key != "minari"}
    if root:
        ours["root_extras"] = root
    contents = {
        **stated,
        "observation_space": _space(stated.get("observation_space"), data.observations),
        "action_space": _space(stated.get("action_space"), data.actions),
        **dict(metadata or {}),
        "total_episodes": data.num_episodes,
        "total_steps": data.num_steps,
        "data_format": "hdf5",
        "jpeg_encoding": False,
        "dataset_id": dataset_id,
        "minari_version": stated.get("minari_version", LAYOUT_VERSION),
        "paperloop": attributes_json(ours, provenance, data.where),
    }

    def fill(temporary: Path) -> None:
        folder = temporary / "data"
        folder.mkdir()
        with hdf5.opened_to_write(folder / MAIN_FILE) as file:
            for number in range(data.num_episodes):
                rows = slice(int(data.episode_starts[number]), int(data.episode_ends[number]))
                group = file.create_group(f"episode_{number}")
                group.attrs["id"] = number
                group.attrs["total_steps"] = rows.stop - rows.start
                observations = np.concatenate([data.observations[rows], final[number][None]])
                episode = {
                    "observations": observations,
                    "actions": data.actions[rows],
                    "rewards": data.rewards[rows],
                    "terminations": data.terminated[rows],
                    "truncations": data.truncated[rows],
                } | {f"infos/{name}": array[rows] for name, array in infos.items()}
                for name, array in episode.items():
                    hdf5.write_array(group, name, array, compress)
        contents["dataset_size"] = round((folder / MAIN_FILE).stat().st_size / 1e6, 1)
        (folder / METADATA_FILE).write_text(json.dumps(contents))

    with saving(path):
        write_folder_atomically(path, fill)
    return path


# Reading


def _read_metadata(folder: Path, where: str) -> dict[str, Any]:
    try:
        metadata = json.loads((folder / METADATA_FILE).read_text())
    except FileNotFoundError:
        raise UserError(f"{where}: {METADATA_FILE} is missing; copy the folder again.") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{where}: {METADATA_FILE} is damaged ({error}); copy the folder again.") from None
    if not isinstance(metadata, dict):
        raise UserError(f"{where}: {METADATA_FILE} is no JSON object; copy the folder again.")
    stored_as = metadata.get("data_format", "hdf5")
    if stored_as != "hdf5":
        raise UserError(
            f"{where} is stored as {stored_as}; only Minari's HDF5 format is read, so write it again with "
            "data_format='hdf5'."
        )
    return metadata


def _episode_groups(file: Any, metadata: Mapping[str, Any], where: str) -> list[Any]:
    """The groups of the episodes in order, as h5py's low-level identifiers, which open ten times faster."""
    present = {name for name in file if name.startswith("episode_")}
    count = metadata.get("total_episodes", len(present))
    if count != len(present):
        raise UserError(
            f"{where}: {METADATA_FILE} says {count} episodes, {MAIN_FILE} holds {len(present)}; copy the folder again."
        )
    if not present:
        raise UserError(f"{where}: there are no episodes in it; give at least one.")
    missing = next((n for n in range(len(present)) if f"episode_{n}" not in present), None)
    if missing is not None:
        raise UserError(f"{where}: episode {missing} is missing; copy the folder again.")
    low = hdf5.import_h5py().h5g
    return [low.open(file.id, f"episode_{number}".encode()) for number in range(len(present))]


def _leaves(item: Any, prefix: str = "") -> dict[str, Any]:
    """The datasets below an item, by path; the item itself under "" if it is one."""
    if hasattr(item, "dtype"):
        return {prefix: item}
    found: dict[str, Any] = {}
    for name, child in item.items():
        if child is None:  # a link to nowhere
            raise KeyError(f"{prefix}/{name} cannot be opened")
        found |= _leaves(child, f"{prefix}/{name}" if prefix else name)
    return found


def _read_episodes(
    groups: list[Any],
    metadata: Mapping[str, Any],
    observation_keys: Sequence[str] | None,
    action_keys: Sequence[str] | None,
    extras: bool | Sequence[str],
    where: str,
) -> tuple[dict[str, Any], list[str]]:
    reader = _Reader(groups, where)
    lengths, starts = reader.lengths, reader.starts
    total = sum(leaf.nbytes for leaf in _leaves(reader.head).values()) / int(lengths[0]) * int(lengths.sum())
    check_fits(int(total), where)

    fields: dict[str, Any] = {"episode_starts": starts}
    fields["rewards"], _ = reader.read("rewards")
    fields["terminated"], _ = reader.read("terminations")
    fields["truncated"], _ = reader.read("truncations")
    fields["observations"], final, rest = _parts(reader, "observations", observation_keys, metadata)
    fields["actions"], _, more = _parts(reader, "actions", action_keys, metadata)

    further, skipped = {}, []
    infos = [f"infos/{name}" for name in sorted(_leaves(reader.head["infos"]))] if "infos" in reader.head else []
    stored_next = f"infos/{STORED_NEXT}"
    for name in [*rest, *more, *infos]:
        if name != stored_next and not wants_extra(extras, name):
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
    where, leaves = reader.where, _leaves(reader.head[field])
    singular = field.removesuffix("s")
    if "" in leaves:
        if keys is not None:
            raise UserError(f"{where}: {field} is one array, so {singular}_keys does not apply; leave it out.")
        _refuse_jpeg(leaves[""], metadata.get(f"{singular}_space"), field, where)
        values, final = reader.read(field)
        return values, final, []
    if keys is None:
        raise UserError(
            f"{where}: {field} is made of parts ({', '.join(sorted(leaves))}); name those to concatenate, such as "
            f"{singular}_keys=({next(iter(sorted(leaves)))!r},)."
        )
    unknown = [key for key in keys if key not in leaves]
    if unknown or not keys:
        raise UserError(
            f"{where}: {field} has no part {unknown[0] if unknown else '(none given)'!r}; it has "
            f"{', '.join(sorted(leaves))}."
        )
    read = [reader.read(f"{field}/{key}") for key in keys]
    values = np.concatenate([part.reshape(len(part), -1) for part, _ in read], axis=1)
    finals = [part.reshape(len(part), -1) for _, part in read if part is not None]
    final = np.concatenate(finals, axis=1) if len(finals) == len(read) else None
    return values, final, [f"{field}/{name}" for name in leaves if name not in keys]


def _refuse_jpeg(dataset: Any, space: Any, field: str, where: str) -> None:
    """Minari stores images as rows of JPEG bytes; the space tells, because the rows are then not of its shape."""
    try:
        shape = tuple(json.loads(space)["shape"])
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
        head: the first episode's group.
    """

    def __init__(self, groups: list[Any], where: str) -> None:
        h5py = hdf5.import_h5py()
        self.where, self._groups = where, groups
        self._h5g, self._h5d, self._all = h5py.h5g, h5py.h5d, h5py.h5s.ALL
        self.head = h5py.Group(groups[0])
        for name in ("observations", "actions", "rewards", "terminations", "truncations"):
            self._open(name, 0, item=True)
        self.lengths = np.array([self._open("rewards", n).shape[0] for n in range(len(groups))], np.int64)
        if not self.lengths.all():
            raise UserError(f"{where}: episode {int(self.lengths.argmin())} has no steps; remove it with Minari.")
        self.starts = np.concatenate([[0], np.cumsum(self.lengths)[:-1]])

    def _open(self, name: str, number: int, item: bool = False) -> Any:
        try:
            return self.head[name] if item else self._h5d.open(self._groups[number], name.encode())
        except KeyError:
            if self._linked(name, number):
                raise  # it is there, but damaged
            raise _UnfitError(
                f"{self.where}: episode {number} has no {name}; copy or write the folder again."
            ) from None

    def _linked(self, name: str, number: int) -> bool:
        group = self._groups[number]
        *parents, last = name.encode().split(b"/")
        for parent in parents:
            if not group.links.exists(parent):
                return False
            group = self._h5g.open(group, parent)
        return group.links.exists(last)

    def read(self, name: str) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the T rows of every episode, (N, ...), and the T+1st, (E, ...), where there is one.

        Raises:
            UserError: it is damaged; `_UnfitError`: it is no array of numbers of one shape in every episode.
        """
        head = self._open(name, 0, item=True)
        if head.dtype.kind not in "biuf":
            raise _UnfitError(f"{self.where}: {name} are of type {head.dtype}; only numbers are read.")
        dtype, shape, kind = head.dtype.newbyteorder("="), head.shape[1:], head.id.get_type()
        longer = head.shape[:1] == (int(self.lengths[0]) + 1,)
        values = np.empty((int(self.lengths.sum()), *shape), dtype)
        final = np.empty((len(self.lengths), *shape), dtype) if longer else None
        for number, (start, length) in enumerate(zip(self.starts.tolist(), self.lengths.tolist(), strict=True)):
            dataset = self._open(name, number)
            wanted = (length + longer, *shape)
            if dataset.shape != wanted or dataset.get_type() != kind:
                raise _UnfitError(
                    f"{self.where}: episode {number} has {name} of shape {dataset.shape} and type {dataset.dtype}, "
                    f"where {wanted} and {head.dtype} follow from its {length} rewards and from episode 0; mend or "
                    "remove it."
                )
            rows = np.empty(wanted, dtype)
            try:
                dataset.read(self._all, self._all, rows)
            except (OSError, RuntimeError) as error:
                raise UserError(
                    f"{self.where}: {name} of episode {number} is damaged ({str(error).splitlines()[0]}); copy the "
                    "folder again."
                ) from error
            values[start : start + length] = rows[:length]
            if final is not None:
                final[number] = rows[length]
        return values, final


# Writing


def _infos(data: EpisodeDataset, following: np.ndarray) -> tuple[dict[str, np.ndarray], list[str]]:
    """Extras by their name under `infos/`, and the full names of those that did not come from there."""
    infos: dict[str, np.ndarray] = {}
    root = []
    for name, array in data.extras.items():
        short = name.removeprefix("infos/")
        if short in infos or short == STORED_NEXT:
            raise UserError(f"{data.where}: two extras would be stored as 'infos/{short}'; rename {name!r}.")
        infos[short] = array
        if short == name:
            root.append(f"infos/{name}")
    if data.next_observations is not None:
        inside = np.ones(data.num_steps, bool)
        inside[data.episode_ends - 1] = False
        rows = np.flatnonzero(inside)
        if not arrays.same_bits(following[rows], data.observations[rows + 1]):
            infos[STORED_NEXT] = following
    return infos, root


def _space(stated: Any, values: np.ndarray) -> str:
    """Minari's JSON of a Gymnasium space: the one that was read if it still fits, else one without knowledge."""
    shape = list(values.shape[1:])
    try:
        space = json.loads(stated)
        if space["type"] == "Box" and space["shape"] == shape and space["dtype"] == str(values.dtype):
            return stated
        if space["type"] in ("Discrete", "MultiDiscrete", "MultiBinary") and values.dtype.kind in "biu":
            return stated
    except (TypeError, ValueError, KeyError):
        pass  # nothing stated, or a Dict that has been flattened
    kind = values.dtype.kind
    if kind == "b":
        return json.dumps({"type": "MultiBinary", "n": shape or 1})
    if kind in "iu" and not shape:
        start = min(0, int(values.min()))
        return json.dumps({"type": "Discrete", "dtype": "int64", "start": start, "n": int(values.max()) - start + 1})
    bounds = (-math.inf, math.inf) if kind == "f" else (np.iinfo(values.dtype).min, np.iinfo(values.dtype).max)
    low, high = (np.full(shape, bound).tolist() for bound in bounds)
    return json.dumps({"type": "Box", "dtype": str(values.dtype), "shape": shape, "low": low, "high": high})
