"""The arrays of a dataset: what each must be, shapes that agree, boundaries of episodes, values that are finite."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

from paperloop.errors import UserError, setting
from paperloop_data.text import shown

PER_STEP = ("observations", "actions", "rewards", "terminated", "truncated")
ARRAY_FIELDS = (*PER_STEP, "episode_starts", "next_observations", "final_observations", "extras")

#: The fields that must be finite; an extra may hold NaN.
FINITE = ("observations", "actions", "rewards", "next_observations", "final_observations")

#: Values looked at in one go where a temporary array is needed, so that a check of 1 GB does not allocate 1 GB.
BLOCK_VALUES = 1 << 20


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
            row = None if array is None else first_nonfinite(array)
            if row is None:
                continue
            values = array[row].reshape(-1)
            value = values[~np.isfinite(values)][0]
            at = f"episode {row}" if name == "final_observations" else place(row, self.episode_starts)
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
        return frozen(np.append(self.episode_starts[1:], self.num_steps))

    @functools.cached_property
    def lengths(self) -> np.ndarray:
        """(E,) int64, steps in each episode."""
        return frozen(self.episode_ends - self.episode_starts)

    @functools.cached_property
    def episode_of_row(self) -> np.ndarray:
        """(N,) int64, the episode that each row belongs to."""
        return frozen(np.repeat(np.arange(self.num_episodes), self.lengths))

    @functools.cached_property
    def step_of_row(self) -> np.ndarray:
        """(N,) int64, the steps before each row within its episode."""
        return frozen(np.arange(self.num_steps) - np.repeat(self.episode_starts, self.lengths))

    @functools.cached_property
    def cut(self) -> np.ndarray:
        """(E,) booleans, the episodes whose last row is neither terminated nor truncated."""
        last = self.episode_ends - 1
        return frozen(~(self.terminated[last] | self.truncated[last]))

    def returns(self, discount: float = 1.0) -> np.ndarray:
        """Return Σ_t discount^t r_t of each episode, (E,) float64."""
        rewards = self.rewards.astype(np.float64)
        if discount != 1.0:
            rewards *= np.float64(discount) ** self.step_of_row
        return np.add.reduceat(rewards, self.episode_starts)


def checked_fields(fields: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return the array fields of a dataset as read-only arrays of agreeing shapes; finiteness is not looked at."""
    out: dict[str, Any] = {}
    for name in ("observations", "actions"):
        out[name] = number_array(fields[name], name, where)
        if out[name].ndim == 0:
            raise UserError(f"{where}: {name} is a single number; give one row for each step.")
    out["rewards"] = number_column(fields["rewards"], "rewards", where)
    for name in ("terminated", "truncated"):
        out[name] = flag_column(fields[name], name, where)
    steps = len(out["observations"])
    if steps == 0:
        raise UserError(f"{where}: it has no steps; give at least one episode of one step.")
    extras = {}
    for name, value in (fields.get("extras") or {}).items():
        if not name or not {"", ".", ".."}.isdisjoint(name.split("/")):
            raise UserError(f"{where}: {name!r} cannot name an extra; use words joined by '/', such as 'infos/goal'.")
        extras[name] = number_array(value, name, where)
    for name, array in (out | extras).items():
        check_rows(array, name, steps, where)

    starts = fields.get("episode_starts")
    if starts is None:
        starts = starts_after(out["terminated"] | out["truncated"])
    out["episode_starts"] = check_starts(starts, steps, where)

    if fields.get("next_observations") is not None and fields.get("final_observations") is not None:
        raise UserError(f"{where}: next_observations and final_observations are both given; give one of the two.")
    shape = out["observations"].shape
    wanted = {"next_observations": shape, "final_observations": (len(out["episode_starts"]), *shape[1:])}
    for name, needed in wanted.items():
        out[name] = value = fields.get(name)
        if value is None:
            continue
        array = number_array(value, name, where)
        if array.shape != needed:
            raise UserError(
                f"{where}: {name} is of shape {array.shape}, but observations is of shape {shape} in "
                f"{len(out['episode_starts'])} episodes; give shape {needed}."
            )
        out[name] = array.astype(out["observations"].dtype, copy=False)
    fixed: dict[str, Any] = {name: None if a is None else frozen(a) for name, a in out.items()}
    fixed["extras"] = MappingProxyType({name: frozen(array) for name, array in extras.items()})
    return fixed


def without_nonfinite(fields: dict[str, Any], where: str) -> tuple[dict[str, Any], int]:
    """Return the fields without the episodes that hold a NaN or an infinity, and how many those were."""
    starts, steps = fields["episode_starts"], len(fields["rewards"])
    bad = np.zeros(steps, bool)
    for name in FINITE[:-1]:
        if fields[name] is not None:
            bad |= nonfinite_rows(fields[name])
    bad_episodes = np.add.reduceat(bad, starts, dtype=np.int64) > 0
    final = fields["final_observations"]
    if final is not None:
        bad_episodes |= nonfinite_rows(final)
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
    out["episode_starts"] = starts_of(lengths[~bad_episodes])
    out["final_observations"] = None if final is None else final[~bad_episodes]
    return out, int(bad_episodes.sum())


# One array


def frozen(array: np.ndarray) -> np.ndarray:
    """Return a read-only view of `array`; the flag of the original is left alone."""
    view = array.view()
    view.flags.writeable = False
    return view


def number_array(value: Any, field: str, where: str) -> np.ndarray:
    """Return `value` as a contiguous array of native booleans, integers or floats, copied only where it must be."""
    try:
        array = np.asarray(value)
    except ValueError:  # NumPy refuses ragged nested lists
        raise UserError(
            f"{where}: {shown(field)} is ragged (its rows differ in shape); give one array with a row for each step."
        ) from None
    if array.dtype.kind not in "biuf":
        raise UserError(
            f"{where}: {shown(field)} is of type {array.dtype}; give real numbers (booleans, integers or floats)."
        )
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    return np.ascontiguousarray(array) if array.ndim else array


def number_column(value: Any, field: str, where: str) -> np.ndarray:
    """Return `value` as floats of shape (N,); (N, 1) is squeezed and integers become float64, which is lossless."""
    array = _column(number_array(value, field, where), field, where)
    return array if array.dtype.kind == "f" else array.astype(np.float64)


def flag_column(value: Any, field: str, where: str) -> np.ndarray:
    """Return `value` as booleans of shape (N,); (N, 1) is squeezed, and numbers are taken if each is 0 or 1."""
    array = _column(number_array(value, field, where), field, where)
    if array.dtype.kind == "b":
        return array
    wrong = (array != 0) & (array != 1)
    if wrong.any():
        row = int(wrong.argmax())
        raise UserError(
            f"{where}: {shown(field)} holds {array[row]} at row {row}; a flag is 0 or 1, so fix or recompute it."
        )
    return array.astype(bool)


def _column(array: np.ndarray, field: str, where: str) -> np.ndarray:
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise UserError(f"{where}: {shown(field)} is of shape {array.shape}; give one value for each step, shape (N,).")
    return array


def check_starts(starts: Any, steps: int, where: str) -> np.ndarray:
    """Return episode starts as int64 of shape (E,): 0 first, strictly increasing, all below `steps`."""
    array = np.asarray(starts)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise UserError(
            f"{where}: episode_starts is of shape {array.shape} and type {array.dtype}; "
            "give the row at which each episode starts as integers of shape (E,)."
        )
    array = array.astype(np.int64)
    if array.size == 0 or array[0] != 0:
        first = "empty" if array.size == 0 else f"{array[0]} at first"
        raise UserError(f"{where}: episode_starts is {first}; the first episode starts at row 0.")
    falls = np.diff(array) <= 0
    if falls.any():
        episode = int(falls.argmax())
        raise UserError(
            f"{where}: episode {episode} starts at row {array[episode]} and episode {episode + 1} at row "
            f"{array[episode + 1]}; episode_starts must increase strictly, so remove empty episodes and sort the rest."
        )
    if array[-1] >= steps:
        raise UserError(
            f"{where}: episode {array.size - 1} starts at row {array[-1]}, but there are only {steps} rows; "
            "give episode_starts that belong to these arrays."
        )
    return array


def blocks(array: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (first row, rows) over `array`, about `BLOCK_VALUES` values at a time."""
    width = max(1, int(np.prod(array.shape[1:])))
    rows = max(1, BLOCK_VALUES // width)
    for first in range(0, len(array), rows):
        yield first, array[first : first + rows]


def first_nonfinite(array: np.ndarray) -> int | None:
    """Return the first row of `array` that holds a NaN or an infinity, or None."""
    bad = nonfinite_rows(array)
    return int(bad.argmax()) if bad.any() else None


def nonfinite_rows(array: np.ndarray) -> np.ndarray:
    """Return booleans of shape (N,): which rows hold a NaN or an infinity."""
    found = np.zeros(len(array), bool)
    for first, block in blocks(array) if array.dtype.kind == "f" else ():
        finite = np.isfinite(block)
        if not finite.all():
            found[first : first + len(block)] = ~finite.reshape(len(block), -1).all(axis=1)
    return found


def place(row: int, starts: np.ndarray) -> str:
    """Return "row 12 (episode 1, step 3)" for a row of the flat arrays."""
    episode = int(np.searchsorted(starts, row, side="right")) - 1
    return f"row {row} (episode {episode}, step {row - int(starts[episode])})"


def same_bits(a: np.ndarray | None, b: np.ndarray | None) -> bool:
    """Whether two arrays agree in type, shape and every bit; -0.0 differs from 0.0, and a NaN equals itself."""
    if a is None or b is None:
        return a is b
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    if a.size == 0:
        return True
    a, b = np.ascontiguousarray(a), np.ascontiguousarray(b)
    return bool(np.array_equal(a.reshape(-1).view(np.uint8), b.reshape(-1).view(np.uint8)))


def check_rows(array: Any, field: str, steps: int, where: str) -> None:
    """Raise unless `array` has one row for each of the `steps` observations."""
    if np.ndim(array) == 0 or len(array) != steps:
        rows = "is a single number" if np.ndim(array) == 0 else f"has {len(array)} rows"
        raise UserError(
            f"{where}: {shown(field)} {rows}, but observations has {steps}; give arrays with one row for each step."
        )


def starts_of(lengths: np.ndarray) -> np.ndarray:
    """Return the first row of each episode, (E,) int64, from their lengths."""
    return np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int64)


def starts_after(ends: np.ndarray) -> np.ndarray:
    """Return the first row of each episode, (E,) int64, from booleans that say which rows are last."""
    last = np.flatnonzero(ends)
    return np.concatenate([[0], last[last < len(ends) - 1] + 1])
