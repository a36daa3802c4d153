"""The array fields of a dataset: their shapes must agree, and episodes with NaN can be left out."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from paperloop.errors import UserError
from paperloop_data import arrays

__all__ = ["ARRAY_FIELDS", "checked_fields", "without_nonfinite"]

ARRAY_FIELDS = (
    "observations",
    "actions",
    "rewards",
    "terminated",
    "truncated",
    "episode_starts",
    "next_observations",
    "final_observations",
    "extras",
)


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
            raise UserError(f"{where}: {name!r} names no extra; use words joined by '/', such as 'infos/goal'.")
        extras[name] = arrays.number_array(value, name, where)
    for name, array in (out | extras).items():
        if array.ndim == 0 or len(array) != steps:
            rows = "is a single number" if array.ndim == 0 else f"has {len(array)} rows"
            raise UserError(
                f"{where}: {name} {rows}, but observations has {steps}; give arrays with one row for each step."
            )

    starts = fields.get("episode_starts")
    if starts is None:
        last = np.flatnonzero(out["terminated"] | out["truncated"])
        starts = np.concatenate([[0], last[last < steps - 1] + 1])
    out["episode_starts"] = arrays.check_starts(starts, steps, where)

    following, final = fields.get("next_observations"), fields.get("final_observations")
    if following is not None and final is not None:
        raise UserError(f"{where}: next_observations and final_observations are both given; give one of the two.")
    shape = out["observations"].shape
    wanted = {"next_observations": shape, "final_observations": (len(out["episode_starts"]), *shape[1:])}
    for name, value in (("next_observations", following), ("final_observations", final)):
        out[name] = None
        if value is None:
            continue
        array = arrays.number_array(value, name, where)
        if array.shape != wanted[name]:
            raise UserError(
                f"{where}: {name} is of shape {array.shape}, but observations is of shape {shape} in "
                f"{len(out['episode_starts'])} episodes; give shape {wanted[name]}."
            )
        if array.dtype != out["observations"].dtype:
            array = array.astype(out["observations"].dtype)
        out[name] = array
    frozen: dict[str, Any] = {name: None if a is None else arrays.frozen(a) for name, a in out.items()}
    frozen["extras"] = MappingProxyType({name: arrays.frozen(array) for name, array in extras.items()})
    return frozen


def without_nonfinite(fields: dict[str, Any], where: str) -> tuple[dict[str, Any], int]:
    """Return the fields without the episodes that hold a NaN or an infinity, and how many those were."""
    starts, steps = fields["episode_starts"], len(fields["rewards"])
    bad = np.zeros(steps, bool)
    for name in ("observations", "actions", "rewards", "next_observations"):
        if fields[name] is not None:
            bad |= arrays.nonfinite_rows(fields[name])
    bad_episodes = np.add.reduceat(bad, starts, dtype=np.int64) > 0
    if fields["final_observations"] is not None:
        bad_episodes |= arrays.nonfinite_rows(fields["final_observations"])
    if not bad_episodes.any():
        return fields, 0
    if bad_episodes.all():
        raise UserError(f"{where}: every one of the {len(starts)} episodes holds a NaN or an infinity; mend the data.")
    lengths = np.diff(np.append(starts, steps))
    rows = np.repeat(~bad_episodes, lengths)
    out: dict[str, Any] = {
        name: None if fields[name] is None else fields[name][rows]
        for name in ("observations", "actions", "rewards", "terminated", "truncated", "next_observations")
    }
    out["extras"] = {name: array[rows] for name, array in fields["extras"].items()}
    out["episode_starts"] = np.concatenate([[0], np.cumsum(lengths[~bad_episodes])[:-1]])
    final = fields["final_observations"]
    out["final_observations"] = None if final is None else final[~bad_episodes]
    return out, int(bad_episodes.sum())
