"""Where the episodes of a flat D4RL file end."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from paperloop.errors import UserError
from paperloop_data import arrays

__all__ = ["EndRule", "StepCounter", "d4rl_time_outs", "resolve_ends", "starts_after"]

EndRule = Literal["auto", "flags", "timeouts", "steps", "goal", "mismatch"]
StepCounter = Literal["exact", "d4rl"]

#: Two consecutive observations belong together if they are this close (Euclidean): the rule and the value of IQL's and
#: OTR's loaders.
MISMATCH = 1e-6


@dataclass(frozen=True)
class Ends:
    """Which rule was used, and what it gives.

    Attributes:
        rule: never "auto".
        truncated: (N,) booleans.
        starts: (E,) int64.
    """

    rule: str
    truncated: np.ndarray
    starts: np.ndarray


def resolve_ends(
    fields: Mapping[str, np.ndarray],
    *,
    rule: EndRule,
    max_episode_steps: int | None,
    step_counter: StepCounter,
    where: str,
) -> Ends:
    """Return the time-outs and episode starts of flat arrays.

    Args:
        fields: "observations" (N, *obs) and "terminals" (N,), and where the file has them "timeouts",
            "next_observations" and "infos/goal".
        rule: what ends an episode.

            - "flags": a terminal or a time-out, as `d4rl.sequence_dataset` has it.
            - "timeouts": a time-out only, for files whose terminal flag stays on (AntMaze).
            - "steps": a terminal, or `max_episode_steps` steps; those are the time-outs. For files without time-outs.
            - "goal": the last row before `infos/goal` changes; those are the time-outs (AntMaze v0, whose time-outs are
              out of step with its episodes).
            - "mismatch": a terminal, or a stored next observation that is not the next row; the latter are the
              time-outs.
            - "auto": "flags" where the file has time-outs, else "steps" where `max_episode_steps` is given, else
              "mismatch" with a warning.
        max_episode_steps: the time limit of the environment.
        step_counter: with "steps", "exact" counts from 0 in every episode; "d4rl" counts as `d4rl.qlearning_dataset`
            does, which starts at 1 after a terminal step, so that such an episode times out one step early.
        where: the file, for messages.

    Raises:
        UserError: the rule needs what the file does not have.
    """
    if rule not in ("auto", "flags", "timeouts", "steps", "goal", "mismatch"):
        raise UserError(f"episode_ends is 'auto', 'flags', 'timeouts', 'steps', 'goal' or 'mismatch'; got {rule!r}.")
    if step_counter not in ("exact", "d4rl"):
        raise UserError(f"step_counter is 'exact' or 'd4rl'; got {step_counter!r}.")
    if max_episode_steps is not None and max_episode_steps < 1:
        raise UserError(f"max_episode_steps is at least 1; got {max_episode_steps}.")
    if rule == "auto":
        rule = _choose(fields, max_episode_steps, where)
    terminals = fields["terminals"]
    if rule in ("flags", "timeouts"):
        truncated = _need(fields, "timeouts", rule, where)
        ends = truncated | terminals if rule == "flags" else truncated
    elif rule == "steps":
        if max_episode_steps is None:
            raise UserError(f"{where}: episode_ends='steps' needs max_episode_steps, such as max_episode_steps=1000.")
        count = d4rl_time_outs if step_counter == "d4rl" else _time_outs
        truncated = count(terminals, max_episode_steps)
        ends = truncated | terminals
    elif rule == "goal":
        goal = _need(fields, "infos/goal", rule, where)
        changes = (goal[1:] != goal[:-1]).reshape(len(goal) - 1, -1).any(axis=1)
        truncated = ends = np.append(changes, False)
    else:
        gaps = _gaps(fields["observations"], _need(fields, "next_observations", rule, where))
        truncated = gaps & ~terminals
        ends = gaps | terminals
    return Ends(rule, truncated, starts_after(ends))


def starts_after(ends: np.ndarray) -> np.ndarray:
    """Return the first rows of the episodes, (E,), from booleans that say which rows are last; the very last one is."""
    last = np.flatnonzero(ends)
    return np.concatenate([[0], last[last < len(ends) - 1] + 1])


def d4rl_time_outs(terminals: np.ndarray, max_episode_steps: int) -> np.ndarray:
    """Return the steps that `d4rl.qlearning_dataset` takes for time-outs in a file that has none, (N,) booleans.

    Its counter is set to 0 at a terminal step and then incremented in the same pass, so the next episode counts from 1;
    after a time-out it skips the increment and the next episode counts from 0.
    """
    found = np.zeros(len(terminals), bool)
    start, count = 0, 0
    for end in [*np.flatnonzero(terminals).tolist(), len(terminals) - 1]:
        first = start + max_episode_steps - 1 - count
        if first >= start:
            found[first : end + 1 : max_episode_steps] = True
        start, count = end + 1, 0 if found[end] else 1
    return found


def _time_outs(terminals: np.ndarray, max_episode_steps: int) -> np.ndarray:
    """Every step at the limit, counted from 0; a terminal one too, as Gymnasium's `TimeLimit` sets both flags there."""
    starts = starts_after(terminals)
    steps = np.arange(len(terminals)) - np.repeat(starts, np.diff(np.append(starts, len(terminals))))
    return steps % max_episode_steps == max_episode_steps - 1


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
    if "next_observations" in fields:
        warnings.warn(
            f"{where} has no time-outs: episodes are cut where a stored next observation is not the next row. "
            "Pass max_episode_steps to cut by the time limit instead.",
            stacklevel=5,
        )
        return "mismatch"
    raise UserError(
        f"{where}: there are no 'timeouts' and no 'next_observations', so the time-outs cannot be told; pass the time "
        "limit, such as max_episode_steps=1000."
    )


def _need(fields: Mapping[str, np.ndarray], name: str, rule: str, where: str) -> np.ndarray:
    if name not in fields:
        raise UserError(f"{where}: episode_ends={rule!r} needs {name!r}, which is not there; choose another rule.")
    return fields[name]
