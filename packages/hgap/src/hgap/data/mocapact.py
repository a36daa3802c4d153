"""MoCapAct's HDF5 files (Wagener et al., 2022) as episodes of the CMU humanoid's 224 observations.

A file has, for each snippet of a clip, a group of numbered rollouts: first those from the snippet's start, then those
from anywhere in it. `observable_indices/walker/NAME` says where an observable is within the 2,868 numbers of an
observation. Rewards, values and advantages are of the experts' tracking task, and are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np

from hgap.envs.cmu import OBSERVABLES
from paperloop.errors import UserError
from paperloop.files import check_is_file
from paperloop_data import EpisodeDataset

__all__ = ["read_mocapact"]

_STEP = 0.03


def read_mocapact(
    paths: Sequence[Path], *, actions: Literal["actions", "mean_actions"] = "actions", limit: int | None = None
) -> EpisodeDataset:
    """Return the rollouts of files as one dataset.

    Args:
        paths: of the files.
        actions: those that were executed, with noise, or the experts' means.
        limit: rollouts of each snippet and kind of start at most; None: all.

    Raises:
        UserError: a file is damaged, or is not laid out like MoCapAct's.
    """
    rows: dict[str, list[np.ndarray]] = {"observations": [], "actions": [], "final": []}
    lengths, ended, snippets = [], [], []
    for path in paths:
        for name, observations, taken, early in _episodes(check_is_file(path), actions, limit):
            rows["observations"].append(observations[:-1])
            rows["actions"].append(taken)
            rows["final"].append(observations[-1])
            lengths.append(len(taken))
            ended.append(early)
            snippets.append(name)
    if not lengths:
        raise UserError(f"No rollouts were found in {', '.join(map(str, paths))}.")
    last = np.cumsum(lengths) - 1
    terminated, truncated = (np.zeros(last[-1] + 1, bool) for _ in range(2))
    terminated[last], truncated[last] = ended, ~np.array(ended)
    names = sorted(set(snippets))
    of = np.repeat([names.index(snippet) for snippet in snippets], lengths).astype(np.int32)
    return EpisodeDataset(
        observations=np.concatenate(rows["observations"]), actions=np.concatenate(rows["actions"]),
        rewards=np.zeros(len(of), np.float32), terminated=terminated, truncated=truncated,
        episode_starts=last + 1 - np.array(lengths), final_observations=np.stack(rows["final"]),
        extras={"snippet": of},
        attributes={"env_id": "CMUHumanoid", "control_step": _STEP},
        provenance=({"action": "MoCapAct rollouts", "actions": actions, "snippets": names},),
    )  # fmt: skip


def _episodes(path: Path, kind: str, limit: int | None) -> Iterator[tuple[str, np.ndarray, np.ndarray, bool]]:
    try:
        with h5py.File(path, "r", locking="best-effort") as file:
            columns = _columns(file, path)
            start = int(file["n_start_rollouts"][()])
            for snippet in sorted(name for name in file if name.startswith("CMU_")):
                group = file[snippet]
                early = np.asarray(group["early_termination"], bool)
                numbers = sorted(int(name) for name in group if name.isdigit())
                if numbers != list(range(len(early))):
                    raise UserError(f"{path}, {snippet}: {len(numbers)} rollouts, and ends of {len(early)}.")
                for i in numbers:
                    if limit is None or (i if i < start else i - start) < limit:
                        yield (snippet, *_episode(group[str(i)], columns, kind, f"{path}, {snippet}/{i}"), early[i])
    except (OSError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise UserError(f"{path} is not a file of MoCapAct's, or is damaged ({str(error).splitlines()[0]}).") from None


def _columns(file: Any, path: Path) -> np.ndarray:
    """Return which numbers of an observation are the 224, in their order."""
    found = []
    for name, width in OBSERVABLES:
        at = np.asarray(file[f"observable_indices/walker/{name}"], np.int64).ravel()
        if len(at) != width or at.min() < 0:
            raise UserError(
                f"{path}: the observable {name} has {len(at)} places, from {at.min()}; {width} belong to it."
            )
        found.append(at)
    return np.concatenate(found)


def _episode(group: Any, columns: np.ndarray, kind: str, where: str) -> tuple[np.ndarray, np.ndarray]:
    whole, taken = group["observations/proprioceptive"], np.asarray(group[kind], np.float32)
    if whole.ndim != 2 or whole.shape[1] <= columns.max() or taken.shape != (len(whole) - 1, 56):
        raise UserError(
            f"{where}: observations {list(whole.shape)} and actions {list(taken.shape)} do not fit; T + 1 and T rows, "
            f"more than {columns.max()} and 56 columns are needed."
        )
    observations = np.asarray(whole[:], np.float32)[:, columns]
    if not (np.isfinite(observations).all() and np.isfinite(taken).all()):
        raise UserError(f"{where} has numbers that are not finite.")
    return observations, taken
