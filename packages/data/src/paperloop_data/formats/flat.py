"""From the named arrays of a flat file, HDF5 or npz, to a dataset: which array is which, and where episodes end."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from paperloop.errors import UserError, setting
from paperloop_data import arrays
from paperloop_data.dataset import EpisodeDataset
from paperloop_data.formats.reading import EndRule, Reading, UnusedOptionWarning, build
from paperloop_data.text import names, shown

__all__ = ["FIELDS", "build_flat", "rewards_or_default", "wanted"]

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
    "metadata/episode_starts": "episode_starts",
}

#: Two consecutive observations belong together if they are this close (Euclidean): the rule and the value of IQL's and
#: OTR's loaders.
MISMATCH = 1e-6


def wanted(holds: Mapping[str, Any], reading: Reading) -> tuple[list[str], list[str]]:
    """Return the names of the arrays to read, and of further ones that are not numbers of one row a step."""
    steps = holds["observations"].shape[:1] if "observations" in holds else ()
    asked = [name for name in holds if name in FIELDS or reading.wants(name)]
    odd = [
        name
        for name in asked
        if name not in FIELDS
        and not (holds[name].shape and holds[name].shape[:1] == steps and holds[name].dtype.kind in "biuf")
    ]
    return [name for name in asked if name not in odd], odd


def rewards_or_default(rewards: Any, default: float | None, steps: int, where: str) -> Any:
    """Return `rewards`, or `default` for every step where there are none."""
    if rewards is not None:
        return rewards
    if default is None:
        how = setting("default_reward", 0.0)
        raise UserError(f"{where}: there are no rewards; give {how} if the method does not need them.")
    return np.full(steps, default, np.float32)


def build_flat(
    found: Mapping[str, Any], holds: Mapping[str, Any], *, attributes: Mapping[str, Any], read: Any, reading: Reading
) -> EpisodeDataset:
    """Make a dataset of the arrays that were read, under the names of `FIELDS`; further ones become extras.

    Given `episode_starts`, no rule is needed to find the episodes. Messages name what the file `holds`. The rule that
    was used is added to the provenance record `read`.
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
            f"{where}: there is no 'terminals' (it holds {names(holds)}), so the file does not say where episodes end; "
            "add them, or pass the time limit of an environment that ends by time only, such as "
            f"{setting('max_episode_steps', 1000)}."
        )
    observations = arrays.number_array(known["observations"], "observations", where)
    steps = len(observations) if observations.ndim else 0
    if not steps:
        raise UserError(f"{where}: it has no steps; give at least one episode of one step.")
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
    fields = {name: known.get(name) for name in ("actions", "rewards", "next_observations")}
    fields |= {"observations": observations, "terminated": known["terminals"], "truncated": truncated}
    fields |= {"episode_starts": starts, "final_observations": final, "extras": extras}
    read = {**read, "episode_ends": rule}
    return build(fields, attributes=attributes, read=read, drop_nonfinite=reading.drop_nonfinite)


def resolve_ends(
    fields: Mapping[str, np.ndarray], *, rule: EndRule, max_episode_steps: int | None, where: str
) -> tuple[str, np.ndarray, np.ndarray]:
    """Return the rule that was used (never "auto"), the time-outs (N,) and the episode starts (E,) of flat arrays.

    Args:
        fields: "observations" (N, *obs) and "terminals" (N,), and where the file has them "timeouts",
            "next_observations" and "infos/goal".
        rule: what ends an episode.

            - "flags": a terminal or a time-out, as `d4rl.sequence_dataset` has it.
            - "timeouts": a time-out only, for files whose terminal flag stays on (AntMaze).
            - "steps": a terminal, or `max_episode_steps` steps; those are the time-outs. For files without time-outs.
            - "goal": the last row before `infos/goal` changes; those are the time-outs (AntMaze v0, whose time-outs are
              out of step with its episodes). Refused where goals cannot tell the episodes apart.
            - "mismatch": a terminal, or a stored next observation that is not the next row; the latter are the
              time-outs.
            - "auto": "flags" where the file has time-outs, else "steps" where `max_episode_steps` is given, else
              "mismatch" with a warning.
        max_episode_steps: the time limit of the environment.
        where: the file, for messages.

    Raises:
        UserError: the rule needs what the file does not have.
    """
    if rule == "auto":
        rule = _choose(fields, max_episode_steps, where)
    terminals = fields["terminals"]
    if rule in ("flags", "timeouts"):
        truncated = _need(fields, "timeouts", rule, where)
        ends = truncated | terminals if rule == "flags" else truncated
    elif rule == "steps":
        if max_episode_steps is None:
            raise UserError(
                f"{where}: {setting('episode_ends', 'steps')} needs the time limit, such as "
                f"{setting('max_episode_steps', 1000)}."
            )
        truncated = _time_outs(terminals, max_episode_steps)
        ends = truncated | terminals
    elif rule == "goal":
        truncated = ends = _goal_changes(fields, where)
    else:
        gaps = _gaps(fields["observations"], _need(fields, "next_observations", rule, where))
        truncated = gaps & ~terminals
        ends = gaps | terminals
    return rule, truncated, arrays.starts_after(ends)


def _time_outs(terminals: np.ndarray, max_episode_steps: int) -> np.ndarray:
    """Every step at the limit, counted from 0; a terminal one too, as Gymnasium's `TimeLimit` sets both flags there."""
    starts = arrays.starts_after(terminals)
    steps = np.arange(len(terminals)) - np.repeat(starts, np.diff(np.append(starts, len(terminals))))
    return steps % max_episode_steps == max_episode_steps - 1


def _goal_changes(fields: Mapping[str, np.ndarray], where: str) -> np.ndarray:
    """The last row before each change of the goal, (N,) booleans."""
    goal = _need(fields, "infos/goal", "goal", where)
    if arrays.first_nonfinite(goal) is not None:
        raise UserError(
            f"{where}: infos/goal holds NaN or infinity, so it cannot tell episodes apart; {_other_rule(fields)}"
        )
    changes = np.append((goal[1:] != goal[:-1]).reshape(len(goal) - 1, goal[0].size).any(axis=1), False)
    if not changes.any():
        raise UserError(f"{where}: infos/goal never changes, so it cannot tell episodes apart; {_other_rule(fields)}")
    starts = arrays.starts_after(changes)
    hidden = np.zeros(len(goal), bool)
    if "next_observations" in fields:
        hidden |= _gaps(fields["observations"], fields["next_observations"]) & ~changes
    if "timeouts" in fields:
        # Time-outs that are each a row out of step with the episodes are still one per episode, except for one that
        # falls on its first row.
        inside = fields["timeouts"].copy()
        inside[starts] = False
        episodes = np.repeat(np.add.reduceat(inside, starts, dtype=np.int64), np.diff(np.append(starts, len(goal))))
        hidden |= inside & ~changes & (episodes > 1)
    if hidden.any():
        raise UserError(
            f"{where}: an episode ends at {arrays.place(int(hidden.argmax()), starts)}, where infos/goal does not "
            f"change, because two episodes in a row have the same goal; {_other_rule(fields)}"
        )
    return changes


def _other_rule(fields: Mapping[str, np.ndarray]) -> str:
    """Advice that this file can follow."""
    for rule, needed in (("timeouts", "timeouts"), ("mismatch", "next_observations")):
        if needed in fields:
            return f"read it with {setting('episode_ends', rule)}."
    limit = setting("max_episode_steps", 1000)
    return f"read it with {setting('episode_ends', 'steps')} and the time limit, such as {limit}."


def _gaps(observations: np.ndarray, following: np.ndarray) -> np.ndarray:
    """Rows whose stored next observation is not the next row, (N,) booleans; False at the last row."""
    found = np.zeros(len(observations), bool)
    for first, block in arrays.blocks(following[:-1]):
        rows = slice(first, first + len(block))
        difference = block.astype(np.float64) - observations[first + 1 : first + 1 + len(block)]
        found[rows] = np.square(difference).reshape(len(block), -1).sum(axis=1) > MISMATCH**2
    return found


def _choose(fields: Mapping[str, np.ndarray], max_episode_steps: int | None, where: str) -> EndRule:
    if "timeouts" in fields:
        return "flags"
    if max_episode_steps is not None:
        return "steps"
    limit = setting("max_episode_steps", 1000)
    if "next_observations" in fields:
        warnings.warn(
            f"{where} has no time-outs: episodes are cut where a stored next observation is not the next row. Give the "
            f"time limit, such as {limit}, to cut by it instead.",
            stacklevel=5,
        )
        return "mismatch"
    raise UserError(
        f"{where}: there are no 'timeouts' and no 'next_observations', so the file does not say where episodes time "
        f"out; pass the time limit, such as {limit}."
    )


def _need(fields: Mapping[str, np.ndarray], name: str, rule: str, where: str) -> np.ndarray:
    if name not in fields:
        raise UserError(
            f"{where}: {setting('episode_ends', rule)} needs {name!r}, which is not there; choose another rule."
        )
    return fields[name]
