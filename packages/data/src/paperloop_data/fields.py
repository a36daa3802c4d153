"""The arrays of a dataset: shapes that agree, boundaries of episodes, values that are finite."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

from paperloop.errors import UserError, setting
from paperloop_data import arrays
from paperloop_data.text import shown

__all__ = ["ARRAY_FIELDS", "EpisodeArrays", "checked_fields", "without_nonfinite"]

PER_STEP = ("observations", "actions", "rewards", "terminated", "truncated")
ARRAY_FIELDS = (*PER_STEP, "episode_starts", "next_observations", "final_observations", "extras")

#: The fields that must be finite; an extra may hold NaN.
FINITE = ("observations", "actions", "rewards", "next_observations", "final_observations")


@dataclass(frozen=True, eq=False, repr=False)
class EpisodeArrays:
    """The fields of `EpisodeDataset`, which documents them, and where the episodes lie in them.

    The functions of this package are written on this class, so that they do not import the one that offers them as
    methods.
    """

    observations: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    episode_starts: np.ndarray = None  # ty: ignore[invalid-assignment]  # filled in below, so that readers see an array
    next_observations: np.ndarray | None = None
    final_observations: np.ndarray | None = None
    extras: Mapping[str, np.ndarray] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)
    provenance: tuple[Mapping[str, Any], ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "provenance", tuple(self.provenance))
        fields = checked_fields({name: getattr(self, name) for name in ARRAY_FIELDS}, self.where)
        for name, value in fields.items():
            object.__setattr__(self, name, value)
        object.__setattr__(self, "attributes", MappingProxyType(dict(self.attributes)))
        for name in FINITE:
            array = getattr(self, name)
            row = None if array is None else arrays.first_nonfinite(array)
            if row is None:
                continue
            values = array[row].reshape(-1)
            value = values[~np.isfinite(values)][0]
            at = f"episode {row}" if name == "final_observations" else arrays.place(row, self.episode_starts)
            raise UserError(
                f"{self.where}: {name} holds {value} at {at}; fix the data, or load it with "
                f"{setting('drop_nonfinite', True)} to leave such episodes out."
            )

    @property
    def where(self) -> str:
        """How error messages call this dataset: the file it came from, or "dataset"."""
        return next((shown(step["file"]) for step in reversed(self.provenance) if "file" in step), "dataset")

    @property
    def num_steps(self) -> int:
        """N."""
        return len(self.rewards)

    @property
    def num_episodes(self) -> int:
        """E."""
        return len(self.episode_starts)

    @functools.cached_property
    def episode_ends(self) -> np.ndarray:
        """(E,) int64, one past the last row of each episode."""
        return arrays.frozen(np.append(self.episode_starts[1:], self.num_steps))

    @functools.cached_property
    def lengths(self) -> np.ndarray:
        """(E,) int64, steps in each episode."""
        return arrays.frozen(self.episode_ends - self.episode_starts)

    @functools.cached_property
    def episode_of_row(self) -> np.ndarray:
        """(N,) int64, the episode that each row belongs to."""
        return arrays.frozen(np.repeat(np.arange(self.num_episodes), self.lengths))

    @functools.cached_property
    def step_of_row(self) -> np.ndarray:
        """(N,) int64, the steps before each row within its episode."""
        return arrays.frozen(np.arange(self.num_steps) - np.repeat(self.episode_starts, self.lengths))

    @functools.cached_property
    def cut(self) -> np.ndarray:
        """(E,) booleans, the episodes whose last row is neither terminated nor truncated."""
        last = self.episode_ends - 1
        return arrays.frozen(~(self.terminated[last] | self.truncated[last]))

    def returns(self, discount: float = 1.0) -> np.ndarray:
        """Return Σ_t discount^t r_t of each episode, (E,) float64."""
        rewards = self.rewards.astype(np.float64)
        if discount != 1.0:
            rewards *= np.float64(discount) ** self.step_of_row
        return np.add.reduceat(rewards, self.episode_starts)


def checked_fields(fields: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return the array fields of a dataset as read-only arrays of agreeing shapes; finiteness is not looked at.

    Raises:
        UserError: see `EpisodeDataset`.
    """
    out: dict[str, Any] = {}
    for name in ("observations", "actions"):
        out[name] = arrays.number_array(fields[name], name, where)
        if out[name].ndim == 0:
            raise UserError(f"{where}: {name} is a single number; give one row for each step.")
    out["rewards"] = arrays.number_column(fields["rewards"], "rewards", where)
    for name in ("terminated", "truncated"):
        out[name] = arrays.flag_column(fields[name], name, where)
    steps = len(out["observations"])
    if steps == 0:
        raise UserError(f"{where}: there are no steps in it; give at least one episode of one step.")
    extras = {}
    for name, value in (fields.get("extras") or {}).items():
        if not name or not {"", ".", ".."}.isdisjoint(name.split("/")):
            raise UserError(f"{where}: {name!r} cannot name an extra; use words joined by '/', such as 'infos/goal'.")
        extras[name] = arrays.number_array(value, name, where)
    for name, array in (out | extras).items():
        arrays.check_rows(array, name, steps, where)

    starts = fields.get("episode_starts")
    if starts is None:
        starts = arrays.starts_after(out["terminated"] | out["truncated"])
    out["episode_starts"] = arrays.check_starts(starts, steps, where)

    if fields.get("next_observations") is not None and fields.get("final_observations") is not None:
        raise UserError(f"{where}: next_observations and final_observations are both given; give one of the two.")
    shape = out["observations"].shape
    wanted = {"next_observations": shape, "final_observations": (len(out["episode_starts"]), *shape[1:])}
    for name, needed in wanted.items():
        out[name] = value = fields.get(name)
        if value is None:
            continue
        array = arrays.number_array(value, name, where)
        if array.shape != needed:
            raise UserError(
                f"{where}: {name} is of shape {array.shape}, but observations is of shape {shape} in "
                f"{len(out['episode_starts'])} episodes; give shape {needed}."
            )
        out[name] = array.astype(out["observations"].dtype, copy=False)
    frozen: dict[str, Any] = {name: None if a is None else arrays.frozen(a) for name, a in out.items()}
    frozen["extras"] = MappingProxyType({name: arrays.frozen(array) for name, array in extras.items()})
    return frozen


def without_nonfinite(fields: dict[str, Any], where: str) -> tuple[dict[str, Any], int]:
    """Return the fields without the episodes that hold a NaN or an infinity, and how many those were."""
    starts, steps = fields["episode_starts"], len(fields["rewards"])
    bad = np.zeros(steps, bool)
    for name in FINITE[:-1]:
        if fields[name] is not None:
            bad |= arrays.nonfinite_rows(fields[name])
    bad_episodes = np.add.reduceat(bad, starts, dtype=np.int64) > 0
    final = fields["final_observations"]
    if final is not None:
        bad_episodes |= arrays.nonfinite_rows(final)
    if not bad_episodes.any():
        return fields, 0
    if bad_episodes.all():
        raise UserError(f"{where}: every one of the {len(starts)} episodes holds a NaN or an infinity; fix the data.")
    lengths = np.diff(np.append(starts, steps))
    rows = np.repeat(~bad_episodes, lengths)
    out: dict[str, Any] = {
        name: None if fields[name] is None else fields[name][rows] for name in (*PER_STEP, "next_observations")
    }
    out["extras"] = {name: array[rows] for name, array in fields["extras"].items()}
    out["episode_starts"] = arrays.starts_of(lengths[~bad_episodes])
    out["final_observations"] = None if final is None else final[~bad_episodes]
    return out, int(bad_episodes.sum())
