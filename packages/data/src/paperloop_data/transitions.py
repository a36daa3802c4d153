"""Flat transitions of a dataset under two named semantics."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from paperloop.errors import UserError, setting
from paperloop_data.arrays import EpisodeArrays, frozen

__all__ = ["Semantics", "Transitions", "make_transitions", "next_rows"]

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
