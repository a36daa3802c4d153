"""Datasets made of the episodes of others: a selection, or several one after another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from paperloop.errors import UserError
from paperloop_data.transitions import next_rows

if TYPE_CHECKING:
    from paperloop_data.dataset import EpisodeDataset

__all__ = ["concatenate_datasets", "select_episodes"]


def select_episodes(data: EpisodeDataset, episodes: Any) -> EpisodeDataset:
    """See `EpisodeDataset.select`."""
    from paperloop_data.dataset import EpisodeDataset

    index = _indices(data, episodes)
    step = {"action": "select", "episodes": len(index), "of": data.num_episodes}
    provenance = (*data.provenance, step)
    per_row = {n: getattr(data, n) for n in ("observations", "actions", "rewards", "terminated", "truncated")}
    per_row |= {f"extras/{name}": array for name, array in data.extras.items()}
    if data.next_observations is not None:
        per_row["next_observations"] = data.next_observations
    lengths = data.lengths[index]
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    if (np.diff(index) == 1).all():  # neighbours in order: views
        rows: Any = slice(int(data.episode_starts[index[0]]), int(data.episode_ends[index[-1]]))
        taken = {name: array[rows] for name, array in per_row.items()}
    else:
        rows = np.arange(lengths.sum()) + np.repeat(data.episode_starts[index] - starts, lengths)
        taken = {name: np.take(array, rows, axis=0) for name, array in per_row.items()}
    extras = {name: taken.pop(f"extras/{name}") for name in data.extras}
    final = None if data.final_observations is None else data.final_observations[index]
    return EpisodeDataset(
        **taken,
        episode_starts=starts,
        final_observations=final,
        extras=extras,
        attributes=data.attributes,
        provenance=provenance,
    )


def _indices(data: EpisodeDataset, episodes: Any) -> np.ndarray:
    if isinstance(episodes, slice):
        index = np.arange(data.num_episodes)[episodes]
    else:
        index = np.asarray(episodes)
        if index.dtype.kind == "b" and index.shape == (data.num_episodes,):
            index = np.flatnonzero(index)
    if index.ndim != 1 or (index.size and index.dtype.kind not in "iu"):
        raise UserError(
            f"{data.where}: episodes are selected by a slice, by integers, or by {data.num_episodes} booleans; "
            f"got an array of shape {index.shape} and type {index.dtype}."
        )
    if not index.size:
        raise UserError(f"{data.where}: the selection holds none of the {data.num_episodes} episodes; widen it.")
    index = index.astype(np.int64)
    wrong = (index < -data.num_episodes) | (index >= data.num_episodes)
    if wrong.any():
        raise UserError(
            f"{data.where}: there is no episode {index[wrong][0]}; indices run from 0 to {data.num_episodes - 1}."
        )
    return np.where(index < 0, index + data.num_episodes, index)


def concatenate_datasets(datasets: list[EpisodeDataset], extras: str) -> EpisodeDataset:
    """See `EpisodeDataset.concatenate`."""
    from paperloop_data.dataset import EpisodeDataset

    if not datasets:
        raise UserError("concatenate() needs at least one dataset.")
    if extras not in ("all", "common"):
        raise UserError(f"The extras of concatenate() are 'all' or 'common'; got {extras!r}.")
    head = datasets[0]
    for number, data in enumerate(datasets[1:], start=1):
        for name in ("observations", "actions"):
            one, other = getattr(head, name).shape[1:], getattr(data, name).shape[1:]
            if one != other:
                raise UserError(
                    f"{data.where}: {name} of dataset {number} have shape {other} a step, those of dataset 0 "
                    f"({head.where}) {one}; concatenate datasets of one environment."
                )
        differing = sorted(head.extras.keys() ^ data.extras.keys())
        if differing and extras == "all":
            raise UserError(
                f"{data.where}: dataset {number} and dataset 0 ({head.where}) do not share the extra "
                f"{differing[0]!r}; pass extras='common' to keep only what all have."
            )
        for name in head.extras.keys() & data.extras.keys():
            one, other = head.extras[name].shape[1:], data.extras[name].shape[1:]
            if one != other:
                raise UserError(
                    f"{data.where}: the extra {name!r} of dataset {number} has shape {other} a step, that of dataset 0 "
                    f"({head.where}) {one}; leave it out of one of them with replace(extras=...)."
                )
    common = [name for name in head.extras if all(name in data.extras for data in datasets)]

    fields: dict[str, Any] = {
        name: np.concatenate([getattr(data, name) for data in datasets])
        for name in ("observations", "actions", "rewards", "terminated", "truncated")
    }
    offsets = np.concatenate([[0], np.cumsum([data.num_steps for data in datasets])[:-1]])
    fields["episode_starts"] = np.concatenate(
        [data.episode_starts + offset for data, offset in zip(datasets, offsets, strict=True)]
    )
    if all(data.final_observations is not None for data in datasets):
        fields["final_observations"] = np.concatenate([data.final_observations for data in datasets])
    else:
        following = [next_rows(data) for data in datasets]
        stored = [rows for rows in following if rows is not None]
        if stored and len(stored) < len(datasets):
            number = next(i for i, rows in enumerate(following) if rows is None)
            raise UserError(
                f"{datasets[number].where}: dataset {number} stores no next observations, but others do; give them, or "
                "drop those of the others with replace(next_observations=None, final_observations=None)."
            )
        fields["next_observations"] = np.concatenate(stored) if stored else None
    fields["extras"] = {name: np.concatenate([data.extras[name] for data in datasets]) for name in common}
    attributes = {
        key: value
        for key, value in head.attributes.items()
        if all(key in data.attributes and data.attributes[key] == value for data in datasets)
    }
    step = {"action": "concatenate", "parts": [list(data.provenance) for data in datasets]}
    return EpisodeDataset(**fields, attributes=attributes, provenance=(step,))
