"""Writing a Minari folder; `minari` says what is in one, and reads it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from paperloop.errors import UserError
from paperloop.files import sha256
from paperloop_data import arrays
from paperloop_data.dataset import EpisodeDataset
from paperloop_data.formats import hdf5
from paperloop_data.formats.minari import (
    DATASET_ID,
    DIGESTS,
    LAYOUT_VERSION,
    MAIN_FILE,
    METADATA_FILE,
    STORED_NEXT,
    data_folder,
    json_digest,
)
from paperloop_data.formats.writing import (
    attributes_json,
    refuse_existing,
    saving,
    write_folder_atomically,
    write_record,
)
from paperloop_data.text import parsed, shown
from paperloop_data.transitions import next_rows

__all__ = ["write_minari"]


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
        path: the folder to make, which is returned.
        dataset_id: "(namespace/)name-v0"; by default the last part of the path.
        metadata: further metadata, such as "author", "env_spec", or "action_space" as Minari serialises it. What was
            read from a Minari folder is kept where it still fits; spaces without such knowledge are unbounded.
        overwrite: replace an older Minari folder there.
        compress: gzip; smaller, and several times slower.

    Raises:
        UserError: the path exists, or cannot be written, or the dataset has no final observations.
    """
    path = Path(path)
    refuse_existing(path, overwrite)
    if path.exists() and data_folder(path) is None:
        raise UserError(
            f"{shown(path)} exists and is not a Minari folder, so it is not overwritten; choose another name."
        )
    dataset_id = path.name if dataset_id is None else dataset_id
    if not DATASET_ID.fullmatch(dataset_id):
        raise UserError(f"A Minari dataset is named like 'namespace/name-v0'; got {dataset_id!r}; choose such a name.")
    following = next_rows(data)
    if following is None:
        raise UserError(
            f"{data.where}: Minari keeps one observation more than steps in each episode, and this dataset has no "
            "final observations; add them with replace(final_observations=...), or save as .hdf5 or .npz."
        )
    final = following[data.episode_ends - 1]
    infos, root = _infos(data, following)
    stated = data.attributes.get("minari")
    stated = dict(stated) if isinstance(stated, Mapping) else {}
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
        read_back = json.loads(json.dumps(contents))  # keys are texts there
        digests = {key: json_digest(value) for key, value in read_back.items()} | {
            MAIN_FILE: sha256(folder / MAIN_FILE)
        }
        (folder / METADATA_FILE).write_text(json.dumps({**read_back, DIGESTS: digests}))

    with saving(path):
        write_folder_atomically(path, fill)
    return path


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
        space = parsed(stated)
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
