"""What every reader shares: its options, a look at how much memory is needed, the dataset with its provenance."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from paperloop.errors import UserError, did_you_mean, setting
from paperloop_data.arrays import checked_fields, without_nonfinite
from paperloop_data.dataset import EpisodeDataset
from paperloop_data.text import shown

__all__ = ["EndRule", "Reading", "UnusedOptionWarning", "build", "check_fits"]


class UnusedOptionWarning(UserWarning):
    """An option of a reader made no difference, because the file does not need it."""


EndRule = Literal["auto", "flags", "timeouts", "steps", "goal", "mismatch"]

#: Options that only one kind of file knows.
FLAT_ONLY = ("episode_ends", "max_episode_steps", "default_reward", "states_only")
MINARI_ONLY = ("observation_keys", "action_keys")


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How a file is read.

    Attributes:
        episode_ends: what ends an episode of a flat file (HDF5, npz); `paperloop_data.formats.flat.resolve_ends` has
            the rules. "auto" takes what the file states. For AntMaze give "timeouts" or "goal".
        max_episode_steps: the time limit, for flat files without time-outs. Files without terminals need it too; then
            no step counts as terminal, and a warning says so. Where the file itself says where its episodes end, the
            limit is not used, which is an `UnusedOptionWarning`; `episode_ends="steps"` cuts by it nevertheless.
        default_reward: the reward of every step where a flat file has none.
        states_only: for demonstrations of states: where a flat file has no actions, they are of no width, (N, 0), and
            where it has no flags of termination, no step terminates.
        observation_keys: for Dict and Tuple observations of Minari, the parts to flatten and concatenate, such as
            ("observation", "desired_goal"); nested parts are "a/b", parts of a Tuple "_index_0". The other parts become
            extras, such as "observations/achieved_goal".
        action_keys: the same for actions.
        extras: True for all further arrays with one row a step, False for none, or the names of those wanted.
        drop_nonfinite: leave out episodes with NaN or infinities instead of refusing the file.
    """

    episode_ends: EndRule = "auto"
    max_episode_steps: int | None = None
    default_reward: float | None = None
    states_only: bool = False
    observation_keys: Sequence[str] | None = None
    action_keys: Sequence[str] | None = None
    extras: bool | Sequence[str] = True
    drop_nonfinite: bool = False

    @classmethod
    def of(cls, path: Path, options: Mapping[str, Any], *, minari: bool) -> Reading:
        """Return the options of a reader."""
        known = [f.name for f in dataclasses.fields(cls)]
        for name in options.keys() - known:
            raise UserError(f"{shown(path)}: datasets are not read with an option {name!r}{did_you_mean(name, known)}")
        reading = cls(**options)
        reading._check_types(shown(path))
        for name in FLAT_ONLY if minari else MINARI_ONLY:
            if name in reading.changed():
                reason = "Minari folders, which keep episodes apart" if minari else "files that are not Minari folders"
                raise UserError(f"{shown(path)}: {setting(name)} does not apply to {reason}; leave it out.")
        return reading

    def _check_types(self, where: str) -> None:
        """Raise on a value that would be taken for another: "no" for True, 5.5 for 5, "ab" for ("a", "b")."""
        limit, reward = self.max_episode_steps, self.default_reward
        whole, number = _is(limit, int, np.integer), _is(reward, int, float, np.number)
        rules = get_args(EndRule)
        for name, right, needed in (
            ("episode_ends", self.episode_ends in rules, f"one of {', '.join(rules)}"),
            ("max_episode_steps", limit is None or (whole and limit >= 1), "at least 1, and whole"),
            ("default_reward", reward is None or (number and np.isfinite(reward)), "a number"),
            ("states_only", isinstance(self.states_only, bool), "True or False"),
            ("observation_keys", self.observation_keys is None or _are_names(self.observation_keys), "several names"),
            ("action_keys", self.action_keys is None or _are_names(self.action_keys), "several names"),
            ("extras", isinstance(self.extras, bool) or _are_names(self.extras), "True, False or several names"),
            ("drop_nonfinite", isinstance(self.drop_nonfinite, bool), "True or False"),
        ):
            if not right:
                raise UserError(f"{where}: {setting(name)} is {getattr(self, name)!r}; it must be {needed}.")

    def changed(self) -> dict[str, Any]:
        """Return the options that differ from their defaults, for the provenance."""
        values = {f.name: (getattr(self, f.name), f.default) for f in dataclasses.fields(self)}
        return {name: value for name, (value, default) in values.items() if value != default}

    def wants(self, extra: str) -> bool:
        """Whether the array `extra` is asked for."""
        needed = self.episode_ends == "goal" and extra == "infos/goal"
        return needed or (self.extras if isinstance(self.extras, bool) else extra in self.extras)

    def may_want(self, path: str) -> bool:
        """Whether `path` or anything below it, where it is a group, is asked for."""
        if self.episode_ends == "goal" and path in ("infos", "infos/goal"):
            return True
        named = [] if isinstance(self.extras, bool) else self.extras
        return self.extras is True or any(f"{name}/".startswith(f"{path}/") for name in named)

    def check_extras(self, found: Mapping[str, Any], where: str) -> None:
        """Raise if an extra that was asked for by name is not in `found`."""
        missing = [] if isinstance(self.extras, bool) else sorted(set(self.extras) - found.keys())
        if missing:
            raise UserError(f"{where}: there is no extra {missing[0]!r}; leave it out of extras.")


def _is(value: Any, *kinds: type) -> bool:
    """Whether a value is of these kinds of number; a bool is not a number."""
    return isinstance(value, kinds) and not isinstance(value, bool | np.bool_)


def _are_names(value: Any) -> bool:
    return not isinstance(value, str) and isinstance(value, Collection) and all(isinstance(v, str) for v in value)


def check_fits(needed: int, where: str) -> None:
    """Raise if `needed` bytes exceed the physical memory, where the system tells how much that is.

    Raises:
        UserError: it does not fit. A damaged header that declares an absurd shape ends here as well.
    """
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not on this system
        return
    if needed > total > 0:
        raise UserError(
            f"{where}: its arrays need {needed / 2**30:.1f} GiB, but this machine has {total / 2**30:.1f} GiB; leave "
            "out extras (extras=False in Python), split the file, or check that it is not damaged."
        )


def build(
    fields: Mapping[str, Any], *, attributes: Mapping[str, Any], read: Mapping[str, Any], drop_nonfinite: bool
) -> EpisodeDataset:
    """Make the dataset that a reader has read.

    The key "provenance" of what the file states, if any, becomes the part of the provenance before the record `read`.
    """
    attributes = dict(attributes)
    older = tuple(attributes.pop("provenance", ()))
    where = shown(read["file"])
    if drop_nonfinite:
        fields, dropped = without_nonfinite(checked_fields(fields, where), where)
        read = {**read, "dropped_nonfinite_episodes": dropped}
    return EpisodeDataset(**fields, attributes=attributes, provenance=(*older, read))
