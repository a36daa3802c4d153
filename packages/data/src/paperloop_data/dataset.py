"""`EpisodeDataset`: logged experience as flat, read-only arrays with episode boundaries."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import numpy as np

from paperloop.errors import UserError
from paperloop_data import arrays, summary
from paperloop_data.arrays import ARRAY_FIELDS, PER_STEP, EpisodeArrays
from paperloop_data.transitions import Semantics, Transitions, make_transitions, next_rows

__all__ = ["Episode", "EpisodeDataset"]


class Episode(NamedTuple):
    """Views of one episode of T steps; nothing is copied."""

    observations: np.ndarray  # (T, *obs), what the action was chosen from
    actions: np.ndarray  # (T, *act)
    rewards: np.ndarray  # (T,)
    terminated: np.ndarray  # (T,) booleans, the environment's own end
    truncated: np.ndarray  # (T,) booleans, an end from outside such as a time limit
    next_observations: np.ndarray | None  # (T, *obs), or None where the dataset stores none
    final_observation: np.ndarray | None  # (*obs), after the last step, or None where the dataset stores none
    extras: Mapping[str, np.ndarray]  # name -> (T, ...)


class EpisodeDataset(EpisodeArrays):
    """N steps in E episodes, one row a step, the episodes one after another.

    The arrays are read-only views of what is given: nothing is copied unless the layout in memory demands it, so do not
    write to an array after handing it over. Floats keep their precision; `transitions` casts.

    An episode ends in one of three ways: *terminated* (the environment's own end: a value target must not bootstrap),
    *truncated* (an end from outside, such as a time limit: it must), or *cut* (neither flag: the log just stops).

    Args:
        observations: (N, *obs) real numbers.
        actions: (N, *act) real numbers; (N,) for discrete actions.
        rewards: (N,), or (N, 1), which is squeezed. Integers become float64.
        terminated: (N,) booleans, or numbers that are each 0 or 1. May hold inside an episode, as in AntMaze, where it
            holds at every step near the goal.
        truncated: (N,) booleans, likewise.
        episode_starts: (E,) integers, the first row of each episode. Default: an episode ends at every row that is
            terminated or truncated, and at the last row.
        next_observations: (N, *obs), the observation after each step, as stored; or
        final_observations: (E, *obs), the observation after each episode's last step, the others being the next rows.
            Give one of the two at most.
        extras: name -> (N, ...), further arrays with one row a step, such as "infos/goal". These may hold NaN.
        attributes: facts about the dataset, of types that JSON knows.
        provenance: what was done to get here, oldest first; readers, writers and selections add to it.

    Raises:
        UserError: the arrays are empty, disagree in length or shape, are not numbers, or hold NaN or infinities. The
            message names the file where one was read, the field, and the episode and row.
    """

    def __len__(self) -> int:
        return self.num_episodes

    def episode(self, index: int) -> Episode:
        """Return views of one episode; negative indices count from the end.

        Raises:
            UserError: there is no such episode.
        """
        if not -self.num_episodes <= index < self.num_episodes:
            raise UserError(
                f"{self.where}: there is no episode {index}; indices run from 0 to {self.num_episodes - 1}."
            )
        rows = slice(int(self.episode_starts[index]), int(self.episode_ends[index]))
        following, final = self.next_observations, None
        if following is not None:
            final = following[rows.stop - 1]
            following = following[rows]
        elif self.final_observations is not None:
            final = self.final_observations[index]
            following = arrays.frozen(np.concatenate([self.observations[rows.start + 1 : rows.stop], final[None]]))
        steps = (getattr(self, name)[rows] for name in PER_STEP)
        extras = MappingProxyType({name: array[rows] for name, array in self.extras.items()})
        return Episode(*steps, following, final, extras)

    def __getitem__(self, index: int) -> Episode:
        if not -self.num_episodes <= index < self.num_episodes:
            raise IndexError(index)  # the protocol of sequences: iteration ends here
        return self.episode(index)

    def __iter__(self) -> Iterator[Episode]:
        return (self.episode(index) for index in range(self.num_episodes))

    def transitions(self, semantics: Semantics = "exact", *, dtype: Any = np.float32) -> Transitions:
        """Return flat transitions (s, a, r, s', terminal).

        Args:
            semantics: "exact" keeps every step and takes s' from what is stored. "d4rl" does what
                `d4rl.qlearning_dataset` (D4RL 1.1) does and most published results stand on: s' is the next row of the
                file whatever is stored, time-out steps and the last row are left out, so a 1000-step episode becomes
                999 transitions, and s' of a terminal step is the start of the next episode.
            dtype: type that floats are cast to, as D4RL does; None keeps each. Integers and booleans are never cast.

        Raises:
            UserError: "exact" without stored next or final observations.
        """
        return make_transitions(self, semantics, None if dtype is None else np.dtype(dtype))

    # New datasets from old

    def replace(self, **changes: Any) -> EpisodeDataset:
        """Return a dataset with some fields changed, such as `rewards=` for new labels; the rest is shared."""
        unknown = sorted(set(changes) - {f.name for f in dataclasses.fields(self)})
        if unknown:
            raise UserError(f"An EpisodeDataset has no field {unknown[0]!r}; it has {', '.join(ARRAY_FIELDS)}.")
        if "provenance" not in changes:
            changes["provenance"] = (*self.provenance, {"action": "replace", "fields": sorted(changes)})
        return dataclasses.replace(self, **changes)

    def select(self, episodes: Any) -> EpisodeDataset:
        """Return the given episodes, in the given order.

        Args:
            episodes: a slice, booleans of shape (E,), or integers (negative ones count from the end; an episode may
                come twice, as in a bootstrap).

        Raises:
            UserError: nothing is selected, or an index is out of range.
        """
        index = self._indices(episodes)
        step = {"action": "select", "episodes": len(index), "of": self.num_episodes}
        lengths = self.lengths[index]
        starts = arrays.starts_of(lengths)
        neighbours = (np.diff(index) == 1).all()  # in order, so that views will do
        if neighbours:
            rows: Any = slice(int(self.episode_starts[index[0]]), int(self.episode_ends[index[-1]]))
        else:
            rows = np.arange(lengths.sum()) + np.repeat(self.episode_starts[index] - starts, lengths)

        def taken(array: np.ndarray | None) -> Any:
            return None if array is None else array[rows] if neighbours else np.take(array, rows, axis=0)

        return self.replace(
            **{name: taken(getattr(self, name)) for name in (*PER_STEP, "next_observations")},
            episode_starts=starts,
            final_observations=None if self.final_observations is None else self.final_observations[index],
            extras={name: taken(array) for name, array in self.extras.items()},
            provenance=(*self.provenance, step),
        )

    def _indices(self, episodes: Any) -> np.ndarray:
        """The numbers of episodes, none of them negative."""
        if isinstance(episodes, slice):
            index = np.arange(self.num_episodes)[episodes]
        else:
            index = np.asarray(episodes)
            if index.dtype.kind == "b" and index.shape == (self.num_episodes,):
                index = np.flatnonzero(index)
        if index.ndim != 1 or (index.size and index.dtype.kind not in "iu"):
            raise UserError(
                f"{self.where}: episodes are selected by a slice, by integers, or by {self.num_episodes} booleans; "
                f"got an array of shape {index.shape} and type {index.dtype}."
            )
        if not index.size:
            raise UserError(f"{self.where}: the selection holds none of the {self.num_episodes} episodes; widen it.")
        index = index.astype(np.int64)
        wrong = (index < -self.num_episodes) | (index >= self.num_episodes)
        if wrong.any():
            raise UserError(
                f"{self.where}: there is no episode {index[wrong][0]}; indices run from 0 to {self.num_episodes - 1}."
            )
        return np.where(index < 0, index + self.num_episodes, index)

    def top(
        self, count: int | None = None, *, fraction: float | None = None, scores: Any | None = None
    ) -> EpisodeDataset:
        """Return the best episodes, best first; of equals the earlier one comes first.

        Args:
            count: how many; or
            fraction: which part of the episodes, in (0, 1], rounded up.
            scores: (E,) numbers to rank by; by default the undiscounted returns.

        Raises:
            UserError: not exactly one of count and fraction, or out of range, or scores of another shape.
        """
        if (count is None) == (fraction is None):
            raise UserError("Give top() either count or fraction.")
        if fraction is not None:
            if not 0 < fraction <= 1:
                raise UserError(f"The fraction of top() lies in (0, 1]; got {fraction}.")
            count = int(np.ceil(fraction * self.num_episodes - 1e-9))  # 0.1 of 30 episodes is 3, despite rounding
        assert count is not None
        if not 1 <= count <= self.num_episodes:
            raise UserError(
                f"{self.where}: top({count}) of {self.num_episodes} episodes; count lies in 1 to {self.num_episodes}."
            )
        ranked = self.returns() if scores is None else np.asarray(scores, np.float64)
        if ranked.shape != (self.num_episodes,) or np.isnan(ranked).any():
            raise UserError(f"{self.where}: scores are {self.num_episodes} numbers without NaN, one for each episode.")
        return self.select(np.argsort(-ranked, kind="stable")[:count])

    @staticmethod
    def concatenate(datasets: Sequence[EpisodeDataset]) -> EpisodeDataset:
        """Return the episodes of all `datasets`, in order. Attributes that differ are left out.

        Raises:
            UserError: none are given, their shapes or extras differ, or only some store next observations.
        """
        if not datasets:
            raise UserError("concatenate() needs at least one dataset.")
        head = datasets[0]
        for number, data in enumerate(datasets[1:], start=1):
            for name, one in head._by_step().items():
                if (shape := data._by_step().get(name, one).shape[1:]) != one.shape[1:]:
                    raise UserError(
                        f"{data.where}: {name!r} of dataset {number} has shape {shape} a step, that of dataset 0 "
                        f"({head.where}) {one.shape[1:]}; concatenate datasets of one environment."
                    )
            if differing := sorted(head.extras.keys() ^ data.extras.keys()):
                raise UserError(
                    f"{data.where}: dataset {number} and dataset 0 ({head.where}) do not share the extra "
                    f"{differing[0]!r}; take it out with replace(extras=...)."
                )
        fields: dict[str, Any] = {name: np.concatenate([getattr(data, name) for data in datasets]) for name in PER_STEP}
        offsets = arrays.starts_of(np.array([data.num_steps for data in datasets]))
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

    def _by_step(self) -> dict[str, np.ndarray]:
        return {"observations": self.observations, "actions": self.actions, **self.extras}

    def with_time_limit(self, max_episode_steps: int) -> EpisodeDataset:
        """Return the dataset with every end at `max_episode_steps` steps taken as truncated and not terminated.

        For files that call every end "terminal", the time limit included: bootstrapping then needs this.
        """
        last = self.episode_ends - 1
        at_limit = last[self.lengths == max_episode_steps]
        terminated, truncated = self.terminated.copy(), self.truncated.copy()
        terminated[at_limit], truncated[at_limit] = False, True
        step = {"action": "time limit", "max_episode_steps": max_episode_steps, "episodes": len(at_limit)}
        return self.replace(terminated=terminated, truncated=truncated, provenance=(*self.provenance, step))

    # Looking at it

    def statistics(self) -> dict[str, Any]:
        """Return sizes, kinds of episode ends, and the spread of returns and lengths, as plain JSON-ready numbers."""
        return summary.statistics(self)

    def findings(self, *, action_low: Any = None, action_high: Any = None) -> list[str]:
        """Return a sentence for each thing that is legal but often a mistake; see `paperloop_data.findings`."""
        return summary.findings(self, action_low, action_high)

    def equals(self, other: EpisodeDataset) -> bool:
        """Whether both hold the same episodes bit for bit: arrays, types, boundaries, extras, what follows each step.

        How next observations are stored (by row, or by episode), attributes and provenance do not count.
        """
        if self.extras.keys() != other.extras.keys():
            return False
        pairs = [(getattr(self, name), getattr(other, name)) for name in (*PER_STEP, "episode_starts")]
        pairs += [(self.extras[name], other.extras[name]) for name in self.extras]
        return all(arrays.same_bits(a, b) for a, b in [*pairs, (next_rows(self), next_rows(other))])

    def __reduce__(self) -> tuple[Any, ...]:
        # For worker processes and deepcopy: the read-only mappings cannot be copied themselves.
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        plain = values | {"extras": dict(self.extras), "attributes": dict(self.attributes)}
        return type(self), tuple(plain.values())

    def __repr__(self) -> str:
        act = f"actions {self.actions.shape[1:]} {self.actions.dtype}"
        obs = f"observations {self.observations.shape[1:]} {self.observations.dtype}"
        return f"EpisodeDataset({self.num_episodes} episodes, {self.num_steps} steps, {obs}, {act})"

    # Files

    @staticmethod
    def load(path: str | Path, **options: Any) -> EpisodeDataset:
        """Read a D4RL HDF5 file, a Minari folder or an npz archive; the content tells which.

        Args:
            path: the file or folder, or the id of a local Minari dataset, such as "mujoco/hopper/expert-v0".
            options: fields of `paperloop_data.Reading`, such as episode_ends="timeouts" or drop_nonfinite=True.

        Raises:
            UserError: there is no such file, or it is none of these, damaged, or its content does not fit together.
        """
        from paperloop_data.io import load

        return load(path, **options)

    def save(
        self,
        path: str | Path,
        *,
        format: Literal["d4rl", "minari", "npz"] | None = None,
        overwrite: bool = False,
        **options: Any,
    ) -> Path:
        """Write the dataset atomically: D4RL for .hdf5 and .h5, npz for .npz, a Minari folder for no suffix.

        Args:
            path: the file or folder to make; missing parent folders are made.
            format: the format, where the suffix does not tell it.
            overwrite: replace what is there.
            options: passed to `write_d4rl`, `write_minari` or `write_npz`.

        Returns:
            The path.

        Raises:
            UserError: the path exists, or cannot be written; then nothing has changed there.
        """
        from paperloop_data.io import save

        return save(self, path, format=format, overwrite=overwrite, **options)
