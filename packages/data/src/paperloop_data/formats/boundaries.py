"""Where the episodes of a flat file end."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import numpy as np

from paperloop.errors import UserError, setting
from paperloop_data import arrays
from paperloop_data.formats.reading import EndRule

__all__ = ["resolve_ends"]

#: Two consecutive observations belong together if they are this close (Euclidean): the rule and the value of IQL's and
#: OTR's loaders.
MISMATCH = 1e-6


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
    """The last row before each change of the goal, (N,) booleans.

    Raises:
        UserError: the goal never changes, or the file shows that an episode ends where it does not.
    """
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
        # Time-outs that are out of step with the episodes by a row a piece still are one to an episode, but for one
        # that falls on its first row.
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
        f"{where}: there are no 'timeouts' and no 'next_observations', so it cannot be told where episodes time out; "
        f"pass the time limit, such as {limit}."
    )


def _need(fields: Mapping[str, np.ndarray], name: str, rule: str, where: str) -> np.ndarray:
    if name not in fields:
        raise UserError(
            f"{where}: {setting('episode_ends', rule)} needs {name!r}, which is not there; choose another rule."
        )
    return fields[name]
