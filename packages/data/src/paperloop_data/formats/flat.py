"""From the named arrays of a flat file, HDF5 or npz, to a dataset."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from paperloop.errors import UserError, setting
from paperloop_data import arrays
from paperloop_data.dataset import EpisodeDataset
from paperloop_data.formats.boundaries import resolve_ends
from paperloop_data.formats.reading import Reading, UnusedOptionWarning, build
from paperloop_data.text import names, shown

__all__ = ["FIELDS", "build_flat", "rewards_or_default"]

#: The arrays that have a meaning, by D4RL's name or by ours.
FIELDS = {
    "observations": "observations",
    "actions": "actions",
    "rewards": "rewards",
    "terminals": "terminals",
    "terminated": "terminals",
    "timeouts": "timeouts",
    "truncated": "timeouts",
    "episode_starts": "episode_starts",
    "next_observations": "next_observations",
    "final_observations": "final_observations",
}


def rewards_or_default(rewards: Any, default: float | None, steps: int, where: str) -> Any:
    """Return `rewards`, or `default` for every step where there are none.

    Raises:
        UserError: there are neither.
    """
    if rewards is not None:
        return rewards
    if default is None:
        how = setting("default_reward", 0.0)
        raise UserError(f"{where}: there are no rewards; give {how} if the method does not need them.")
    return np.full(steps, default, np.float32)


def build_flat(
    found: Mapping[str, Any], holds: Mapping[str, Any], *, attributes: Mapping[str, Any], read: Any, reading: Reading
) -> EpisodeDataset:
    """Make a dataset of arrays under the names of `FIELDS`; further ones become extras.

    Args:
        found: the arrays that were read. Given `episode_starts`, no rule is needed to find the episodes.
        holds: whatever the file holds, by name, for messages.
        attributes: facts that the file states.
        read: the provenance record; the rule that was used is added.
        reading: how the file is read.

    Raises:
        UserError: an array is missing, or they do not fit together.
    """
    where = shown(read["file"])
    called: dict[str, str] = {}
    for name, field in FIELDS.items():
        if name in found:
            called.setdefault(field, name)
    known = {field: found[name] for field, name in called.items()}
    extras = {name: value for name, value in found.items() if name not in called.values()}
    reading.check_extras(extras, where)
    starts, final = known.pop("episode_starts", None), known.pop("final_observations", None)
    states_only, limit = reading.states_only, reading.max_episode_steps
    for name in ("observations", *["actions"] * (not states_only)):
        if name not in known:
            needed = ["observations", *["actions"] * (not states_only), *["rewards"] * (reading.default_reward is None)]
            raise UserError(
                f"{where}: there is no {name!r}; it holds {names(holds)}, but a flat dataset needs "
                f"{', '.join(needed)} and terminals at its top."
            )
    ends_told = starts is not None or "timeouts" in known
    limit_read = "terminals" not in known and not (states_only and ends_told)  # it stands for them
    if "terminals" not in known and limit is None and not (states_only and ends_told):
        raise UserError(
            f"{where}: there is no 'terminals' (it holds {names(holds)}), so it cannot be told where episodes end; add "
            "them, or pass the time limit of an environment that ends by time only, such as "
            f"{setting('max_episode_steps', 1000)}."
        )
    observations = arrays.number_array(known["observations"], "observations", where)
    steps = len(observations) if observations.ndim else 0
    if not steps:
        raise UserError(f"{where}: there are no steps in it; give at least one episode of one step.")
    known.setdefault("actions", np.empty((steps, 0), np.float32))
    if "terminals" not in known:
        if not states_only:
            warnings.warn(f"{where} has no terminals: no step is taken for a terminal one.", stacklevel=4)
        known["terminals"] = np.zeros(steps, bool)
    if states_only and limit is None and not {"timeouts", "next_observations"} & known.keys():
        known["timeouts"] = np.zeros(steps, bool)  # the terminals are all that says where episodes end
    known["rewards"] = rewards_or_default(known.get("rewards"), reading.default_reward, steps, where)
    for name in ("terminals", "timeouts"):
        if name in known:
            known[name] = arrays.flag_column(known[name], called.get(name, name), where)
    # Lengths are looked at before any rule combines the arrays, so that the message names the array and not the rule.
    for name, value in {**known, **extras}.items():
        arrays.check_rows(value, called.get(name, name), steps, where)
    if "next_observations" in known:
        following = arrays.number_array(known["next_observations"], "next_observations", where)
        if following.shape != observations.shape:
            raise UserError(
                f"{where}: next_observations is of shape {following.shape}, but observations is of shape "
                f"{observations.shape}; fetch or write the file again."
            )
    if starts is None or reading.episode_ends != "auto":
        rule, truncated, starts = resolve_ends(
            {**known, **extras}, rule=reading.episode_ends, max_episode_steps=limit, where=where
        )
    else:
        rule, truncated = "stored", known.get("timeouts", np.zeros(steps, bool))
    if limit is not None and rule != "steps" and not limit_read:
        told = {"stored": "its own episode starts", "flags": "its own time-outs"}.get(rule, f"the rule {rule!r}")
        warnings.warn(
            f"{where}: {setting('max_episode_steps', limit)} makes no difference, because {told} say"
            f"{'s' * (told[0] == 't')} where its episodes end; leave it out, or cut by it with "
            f"{setting('episode_ends', 'steps')}.",
            UnusedOptionWarning,
            stacklevel=4,
        )
    fields = {
        "observations": observations,
        "actions": known["actions"],
        "rewards": known["rewards"],
        "terminated": known["terminals"],
        "truncated": truncated,
        "episode_starts": starts,
        "next_observations": known.get("next_observations"),
        "final_observations": final,
        "extras": extras,
    }
    read = {**read, "episode_ends": rule}
    return build(fields, attributes=attributes, read=read, drop_nonfinite=reading.drop_nonfinite)
