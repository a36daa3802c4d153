"""From the named arrays of a flat file, HDF5 or npz, to a dataset."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from paperloop.errors import UserError
from paperloop_data import arrays
from paperloop_data.dataset import EpisodeDataset
from paperloop_data.formats.boundaries import EndRule, StepCounter, resolve_ends
from paperloop_data.formats.reading import build, needed_names, rewards_or_default

__all__ = ["CORE", "build_flat"]

#: The names that D4RL gives meaning to.
CORE = ("observations", "actions", "rewards", "terminals", "timeouts", "next_observations")


def build_flat(
    fields: Mapping[str, Any],
    extras: Mapping[str, Any],
    *,
    starts: np.ndarray | None,
    attributes: Mapping[str, Any],
    read: dict[str, Any],
    episode_ends: EndRule,
    max_episode_steps: int | None,
    step_counter: StepCounter,
    default_reward: float | None,
    states_only: bool,
    drop_nonfinite: bool,
) -> EpisodeDataset:
    """Make a dataset of arrays under D4RL's names.

    Args:
        fields: those of `CORE` that the file has.
        extras: further arrays with one row a step.
        starts: episode starts that the file states, which then need no rule.
        attributes: facts that the file states.
        read: the provenance record; the rule that was used is added.
        episode_ends: see `resolve_ends`, as for the next two.
        max_episode_steps: likewise.
        step_counter: likewise.
        default_reward: the reward of every step where the file has none.
        states_only: for demonstrations of states: where the file has no actions, they are of no width, (N, 0), and
            where it has no flags of termination, no step terminates.
        drop_nonfinite: leave out episodes with NaN or infinities.
    """
    where = str(read["file"])
    for name in ("observations", *["actions"] * (not states_only)):
        if name not in fields:
            needed = needed_names(not states_only, default_reward, "terminals")
            raise UserError(
                f"{where}: there is no {name!r} (it holds {arrays.names({**fields, **extras})}); a flat dataset needs "
                f"{needed}."
            )
    ends_told = starts is not None or "timeouts" in fields
    if "terminals" not in fields and max_episode_steps is None and not (states_only and ends_told):
        raise UserError(
            f"{where}: there is no 'terminals' (it holds {arrays.names({**fields, **extras})}), so it cannot be told "
            "where episodes end; add them, or pass the time limit of an environment that ends by time only, such as "
            "max_episode_steps=1000."
        )
    known = dict(fields)
    observations = arrays.number_array(fields["observations"], "observations", where)
    steps = len(observations) if observations.ndim else 0
    if not steps:
        raise UserError(f"{where}: there are no steps in it; give at least one episode of one step.")
    if "actions" not in known:
        known["actions"] = np.empty((steps, 0), np.float32)
    if "terminals" not in known:
        if not states_only:
            warnings.warn(f"{where} has no terminals: no step is taken for a terminal one.", stacklevel=4)
        known["terminals"] = np.zeros(steps, bool)
    if states_only and max_episode_steps is None and not {"timeouts", "next_observations"} & known.keys():
        known["timeouts"] = np.zeros(steps, bool)  # the terminals are all that says where episodes end
    known["rewards"] = rewards_or_default(fields.get("rewards"), default_reward, steps, where)
    for name in ("terminals", "timeouts"):
        if name in known:
            known[name] = arrays.flag_column(known[name], name, where)
    # Lengths are looked at before any rule combines the arrays, so that the message names the array and not the rule.
    for name, value in {**known, **extras}.items():
        if np.ndim(value) == 0 or len(value) != steps:
            rows = "is a single number" if np.ndim(value) == 0 else f"has {len(value)} rows"
            raise UserError(f"{where}: {name} {rows}, but observations has {steps}; fetch or write the file again.")
    if "next_observations" in known and np.shape(known["next_observations"]) != observations.shape:
        raise UserError(
            f"{where}: next_observations is of shape {np.shape(known['next_observations'])}, but observations is of "
            f"shape {observations.shape}; fetch or write the file again."
        )
    if starts is None or episode_ends != "auto":
        ends = resolve_ends(
            {**known, **extras},
            rule=episode_ends,
            max_episode_steps=max_episode_steps,
            step_counter=step_counter,
            where=where,
        )
        truncated, starts = ends.truncated, ends.starts
        read = {**read, "episode_ends": ends.rule}
    else:
        truncated = known.get("timeouts", np.zeros(steps, bool))
        read = {**read, "episode_ends": "stored"}
    return build(
        {
            "observations": observations,
            "actions": known["actions"],
            "rewards": known["rewards"],
            "terminated": known["terminals"],
            "truncated": truncated,
            "episode_starts": starts,
            "next_observations": known.get("next_observations"),
            "final_observations": None,
            "extras": dict(extras),
        },
        attributes=attributes,
        read=read,
        drop_nonfinite=drop_nonfinite,
    )
