"""The D4RL HDF5 layout: flat arrays of N rows, `infos/*` beside them, scalars under `metadata/`.

Source: D4RL 1.1, `scripts/generation/mujoco/collect_data.py` and `d4rl/offline_env.py`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from paperloop.errors import UserError
from paperloop.files import write_atomically
from paperloop_data.dataset import EpisodeDataset
from paperloop_data.formats import hdf5
from paperloop_data.formats.boundaries import EndRule, StepCounter, starts_after
from paperloop_data.formats.flat import CORE, build_flat
from paperloop_data.formats.memory import check_fits
from paperloop_data.formats.reading import changed_options, wants_extra
from paperloop_data.formats.writing import attributes_json, read_record, refuse_existing, saving, write_record
from paperloop_data.transitions import next_rows

__all__ = ["read_d4rl", "write_d4rl"]

#: What we keep beside D4RL's own arrays; its loader takes both for metadata.
STARTS = "metadata/episode_starts"
ATTRIBUTES = "metadata/paperloop"

#: Metadata arrays up to this size become attributes; larger ones are a policy's weights, which are left where they are.
SMALL = 64


def read_d4rl(
    path: str | Path,
    *,
    episode_ends: EndRule = "auto",
    max_episode_steps: int | None = None,
    step_counter: StepCounter = "exact",
    default_reward: float | None = None,
    states_only: bool = False,
    extras: bool | Sequence[str] = True,
    drop_nonfinite: bool = False,
) -> EpisodeDataset:
    """Read a D4RL HDF5 file.

    Everything with one row a step beyond D4RL's own arrays becomes an extra under its full name, such as "infos/goal";
    metadata scalars and texts become `attributes["metadata"]`. `virtual/` (chunks of files that were split) is ignored.

    Args:
        path: the file.
        episode_ends: what ends an episode: "auto", "flags", "timeouts", "steps", "goal" or "mismatch". See
            `paperloop_data.formats.boundaries.resolve_ends`. For AntMaze give "goal" or "timeouts".
        max_episode_steps: the time limit, for files without `timeouts`. Files without `terminals` need it too;
            then no step counts as terminal, and a warning says so.
        step_counter: "d4rl" repeats the off-by-one of D4RL's own counter in such files.
        default_reward: the reward of every step where the file has none.
        states_only: for demonstrations of states: where the file has no actions, they are of no width, (N, 0), and
            where it has no flags of termination, no step terminates.
        extras: False for none, or the names of those wanted.
        drop_nonfinite: leave out episodes with NaN or infinities instead of refusing the file.

    Raises:
        UserError: h5py is missing, or the file is damaged, misses an array, or its arrays do not fit together.
    """
    path = Path(path)
    options = changed_options(
        locals(),
        episode_ends="auto",
        max_episode_steps=None,
        step_counter="exact",
        default_reward=None,
        states_only=False,
        extras=True,
        drop_nonfinite=False,
    )
    with hdf5.opened_to_read(path, path.name) as file:
        found = _datasets(file)
        attributes, skipped = _attributes(found)
        steps = found["observations"].shape[:1] if "observations" in found else ()
        wanted, ignored = {}, []
        for name, dataset in found.items():
            if name in CORE:
                wanted[name] = dataset
            elif not name.startswith(("metadata/", "virtual/")) and wants_extra(extras, name):
                if dataset.shape and dataset.shape[:1] == steps and dataset.dtype.kind in "biuf":
                    wanted[name] = dataset
                else:
                    ignored.append(name)
        check_fits(sum(dataset.nbytes for dataset in wanted.values()), path.name)
        values = {name: _read(dataset, name, path.name) for name, dataset in wanted.items()}
        starts = _read(found[STARTS], STARTS, path.name) if STARTS in found else None
    if ignored or skipped:
        attributes["not_loaded"] = sorted({*attributes.get("not_loaded", ()), *ignored, *skipped})
    if not isinstance(extras, bool):
        missing = sorted(set(extras) - values.keys())
        if missing:
            raise UserError(f"{path.name}: there is no extra {missing[0]!r}; leave it out of extras.")
    return build_flat(
        {name: value for name, value in values.items() if name in CORE},
        {name: value for name, value in values.items() if name not in CORE},
        starts=starts,
        attributes=attributes,
        read=read_record(path, path, "d4rl", options),
        episode_ends=episode_ends,
        max_episode_steps=max_episode_steps,
        step_counter=step_counter,
        default_reward=default_reward,
        states_only=states_only,
        drop_nonfinite=drop_nonfinite,
    )


def write_d4rl(data: EpisodeDataset, path: str | Path, *, overwrite: bool = False, compress: bool = False) -> Path:
    """Write a dataset as a D4RL HDF5 file, atomically, with a checksum on every block.

    D4RL's own loader reads it. The layout knows two ends, terminal and time-out: a *cut* episode is written as timed
    out, except at the very last row, so that no reader bridges two episodes. Where the flags do not tell the episodes
    apart (AntMaze), their starts are kept under `metadata/episode_starts`, which `read_d4rl` honours.

    Args:
        data: the dataset. Final observations are written as next observations, (N, *obs).
        path: the file to make.
        overwrite: replace what is there.
        compress: gzip, as D4RL's files; smaller, and several times slower.

    Returns:
        The path.

    Raises:
        UserError: the path exists, cannot be written, or an extra has a name that D4RL uses.
    """
    path = Path(path)
    hdf5.import_h5py()
    refuse_existing(path, overwrite)
    reserved = [name for name in data.extras if name in CORE or name.split("/")[0] in ("metadata", "virtual")]
    if reserved:
        raise UserError(f"{data.where}: the extra {reserved[0]!r} has a name that D4RL files use otherwise; rename it.")
    timeouts = data.truncated.copy()
    timeouts[data.episode_ends[:-1] - 1] |= data.cut[:-1]
    contents = {
        "observations": data.observations,
        "actions": data.actions,
        "rewards": data.rewards,
        "terminals": data.terminated,
        "timeouts": timeouts,
    }
    following = next_rows(data)
    if following is not None:
        contents["next_observations"] = following
    if not np.array_equal(starts_after(data.terminated | timeouts), data.episode_starts):
        contents[STARTS] = data.episode_starts
    provenance = (*data.provenance, write_record("d4rl"))
    text = attributes_json(data.attributes, provenance, data.where)
    stated = data.attributes.get("metadata", {})
    metadata = {n: v for n, v in stated.items() if isinstance(v, str | int | float | list)}

    def fill(temporary: Path) -> None:
        with hdf5.opened_to_write(temporary) as file:
            for name, array in {**contents, **data.extras}.items():
                hdf5.write_array(file, name, array, compress)
            for name, value in metadata.items():
                file.create_dataset(f"metadata/{name}", data=value)
            hdf5.write_text(file, ATTRIBUTES, text)

    with saving(path):
        write_atomically(path, fill)
    return path


def _datasets(file: Any) -> dict[str, Any]:
    """Every dataset below the root, by its path."""
    found: dict[str, Any] = {}
    h5py = hdf5.import_h5py()
    file.visititems(lambda name, item: found.__setitem__(name, item) if isinstance(item, h5py.Dataset) else None)
    return found


def _read(dataset: Any, name: str, where: str) -> np.ndarray:
    try:
        return dataset[()]
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"{where}: {name} is damaged or cut short ({str(error).splitlines()[0]}); fetch or write the file again."
        ) from error


def _attributes(found: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """What the file says about itself, and the names of metadata too large to be attributes."""
    attributes = json.loads(hdf5.read_text(found[ATTRIBUTES])) if ATTRIBUTES in found else {}
    metadata, skipped = {}, []
    for name, dataset in found.items():
        if not name.startswith("metadata/") or name in (STARTS, ATTRIBUTES):
            continue
        if dataset.size is None or dataset.size > SMALL:
            skipped.append(name)
            continue
        value = dataset[()]
        if isinstance(value, bytes):
            value = value.decode(errors="replace")
        elif isinstance(value, np.generic | np.ndarray) and value.dtype.kind in "biuf":
            value = value.tolist()
        else:
            skipped.append(name)
            continue
        metadata[name.removeprefix("metadata/")] = value
    if metadata:
        attributes["metadata"] = metadata | attributes.get("metadata", {})  # our record of them has a checksum
    return attributes, skipped
