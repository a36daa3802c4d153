"""What is made of a dataset: flat transitions under two named semantics, and datasets of the episodes of others."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np

from paperloop.errors import UserError, setting
from paperloop_data.arrays import PER_STEP, EpisodeArrays, frozen, starts_of

__all__ = [
    "Semantics",
    "Transitions",
    "concatenate_datasets",
    "make_transitions",
    "next_rows",
    "select_episodes",
    "top_episodes",
]

Data = TypeVar("Data", bound=EpisodeArrays)
Semantics = Literal["d4rl", "exact"]


class Transitions(NamedTuple):
    """M transitions, in the order of the file. The arrays are read-only; copy one to change it."""

    observations: np.ndarray  # (M, *obs), s
    actions: np.ndarray  # (M, *act), a
    rewards: np.ndarray  # (M,), r
    next_observations: np.ndarray  # (M, *obs), s'; meaningless where `terminals` holds under "d4rl" semantics
    terminals: np.ndarray  # (M,) booleans: the environment ended here, so a value target must not bootstrap from s'
    rows: np.ndarray  # (M,) int64: the row of the dataset each came from, to fetch extras with, or to write labels back


def make_transitions(data: EpisodeArrays, semantics: Semantics, dtype: np.dtype | None) -> Transitions:
    """See `EpisodeDataset.transitions`."""
    if semantics == "d4rl":
        return _d4rl(data, dtype)
    if semantics != "exact":
        raise UserError(f"The semantics of transitions are 'd4rl' or 'exact'; got {semantics!r}.")
    following = next_rows(data)
    if following is None:
        raise UserError(
            f"{data.where}: there are no stored next observations, so the last step of each episode has none; use "
            f"{setting('semantics', 'd4rl')}, which leaves those steps out, or give next_observations or "
            "final_observations."
        )
    floats = [_cast(array, dtype) for array in (data.observations, data.actions, data.rewards, following)]
    return Transitions(*floats, data.terminated, frozen(np.arange(data.num_steps)))


def next_rows(data: EpisodeArrays) -> np.ndarray | None:
    """Return the observation after each step, (N, *obs), from what is stored; None where nothing is."""
    if data.next_observations is not None:
        return data.next_observations
    if data.final_observations is None:
        return None
    following = np.empty_like(data.observations)
    following[:-1] = data.observations[1:]
    following[data.episode_ends - 1] = data.final_observations
    return frozen(following)


def _d4rl(data: EpisodeArrays, dtype: np.dtype | None) -> Transitions:
    # The last row has no next row. A time-out is left out, because its next row belongs to the next episode; a terminal
    # step is kept, because nothing bootstraps from its next observation. An end with neither flag is a cut: the flags
    # of a D4RL file can leave one only at the last row, and elsewhere (episodes stored one by one) it is a time-out.
    last = data.episode_ends - 1
    keep = ~data.truncated
    keep[last] &= data.terminated[last]
    keep[-1] = False
    rows = np.flatnonzero(keep)
    now = [_take(array, rows, dtype) for array in (data.observations, data.actions, data.rewards)]
    following, terminals = _take(data.observations, rows + 1, dtype), _take(data.terminated, rows, None)
    return Transitions(*now, following, terminals, frozen(rows))


def _cast(array: np.ndarray, dtype: np.dtype | None) -> np.ndarray:
    """Floats as `dtype`; integers and booleans (discrete actions, images) stay as they are."""
    if dtype is None or array.dtype.kind != "f":
        return array
    return frozen(array.astype(dtype, copy=False))


def _take(array: np.ndarray, rows: np.ndarray, dtype: np.dtype | None) -> np.ndarray:
    # np.take with an index array is several times faster than fancy indexing for rows of a few values.
    return frozen(_cast(np.take(array, rows, axis=0), dtype))


def select_episodes(data: Data, episodes: Any) -> Data:
    """See `EpisodeDataset.select`."""
    index = _indices(data, episodes)
    step = {"action": "select", "episodes": len(index), "of": data.num_episodes}
    lengths = data.lengths[index]
    starts = starts_of(lengths)
    neighbours = (np.diff(index) == 1).all()  # in order, so that views will do
    if neighbours:
        rows: Any = slice(int(data.episode_starts[index[0]]), int(data.episode_ends[index[-1]]))
    else:
        rows = np.arange(lengths.sum()) + np.repeat(data.episode_starts[index] - starts, lengths)

    def taken(array: np.ndarray | None) -> Any:
        return None if array is None else array[rows] if neighbours else np.take(array, rows, axis=0)

    return dataclasses.replace(
        data,
        **{name: taken(getattr(data, name)) for name in (*PER_STEP, "next_observations")},
        episode_starts=starts,
        final_observations=None if data.final_observations is None else data.final_observations[index],
        extras={name: taken(array) for name, array in data.extras.items()},
        provenance=(*data.provenance, step),
    )


def _indices(data: EpisodeArrays, episodes: Any) -> np.ndarray:
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


def top_episodes(data: Data, count: int | None, fraction: float | None, scores: Any | None) -> Data:
    """See `EpisodeDataset.top`."""
    if (count is None) == (fraction is None):
        raise UserError("Give top() either count or fraction.")
    if fraction is not None:
        if not 0 < fraction <= 1:
            raise UserError(f"The fraction of top() lies in (0, 1]; got {fraction}.")
        count = int(np.ceil(fraction * data.num_episodes - 1e-9))  # 0.1 of 30 episodes is 3, despite rounding
    assert count is not None
    if not 1 <= count <= data.num_episodes:
        raise UserError(
            f"{data.where}: top({count}) of {data.num_episodes} episodes; count lies in 1 to {data.num_episodes}."
        )
    ranked = data.returns() if scores is None else np.asarray(scores, np.float64)
    if ranked.shape != (data.num_episodes,) or np.isnan(ranked).any():
        raise UserError(f"{data.where}: scores are {data.num_episodes} numbers without NaN, one for each episode.")
    return select_episodes(data, np.argsort(-ranked, kind="stable")[:count])


def concatenate_datasets(datasets: list[Data]) -> Data:
    """See `EpisodeDataset.concatenate`."""
    if not datasets:
        raise UserError("concatenate() needs at least one dataset.")
    head = datasets[0]
    for number, data in enumerate(datasets[1:], start=1):
        for name, one in _by_step(head).items():
            other = _by_step(data).get(name, one)
            if one.shape[1:] != other.shape[1:]:
                raise UserError(
                    f"{data.where}: {name!r} of dataset {number} has shape {other.shape[1:]} a step, that of dataset 0 "
                    f"({head.where}) {one.shape[1:]}; concatenate datasets of one environment."
                )
        differing = sorted(head.extras.keys() ^ data.extras.keys())
        if differing:
            raise UserError(
                f"{data.where}: dataset {number} and dataset 0 ({head.where}) do not share the extra "
                f"{differing[0]!r}; take it out with replace(extras=...)."
            )

    fields: dict[str, Any] = {name: np.concatenate([getattr(data, name) for data in datasets]) for name in PER_STEP}
    offsets = starts_of(np.array([data.num_steps for data in datasets]))
    fields["episode_starts"] = np.concatenate(
        [data.episode_starts + offset for data, offset in zip(datasets, offsets, strict=True)]
    )
    following = [next_rows(data) for data in datasets]
    stored = [rows for rows in following if rows is not None]
    finals = [data.final_observations for data in datasets if data.final_observations is not None]
    if stored and len(stored) < len(datasets):
        number = next(i for i, rows in enumerate(following) if rows is None)
        raise UserError(
            f"{datasets[number].where}: dataset {number} stores no next observations, but others do; give them, or "
            "drop those of the others with replace(next_observations=None, final_observations=None)."
        )
    by_episode = len(finals) == len(datasets)
    fields["final_observations"] = np.concatenate(finals) if by_episode else None
    fields["next_observations"] = np.concatenate(stored) if stored and not by_episode else None
    fields["extras"] = {name: np.concatenate([data.extras[name] for data in datasets]) for name in head.extras}
    attributes = {
        key: value
        for key, value in head.attributes.items()
        if all(key in data.attributes and data.attributes[key] == value for data in datasets)
    }
    step = {"action": "concatenate", "parts": [list(data.provenance) for data in datasets]}
    return dataclasses.replace(head, **fields, attributes=attributes, provenance=(step,))


def _by_step(data: EpisodeArrays) -> dict[str, np.ndarray]:
    return {"observations": data.observations, "actions": data.actions, **data.extras}
