"""Which agents are repetitions of one another, and the last values of their metrics.

Agents are pooled where all that is known says that they are alike: the method, the whole configuration and the label
that the trainer gives the agent. What differs in any of these is a group of its own.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from paperloop.errors import UserError, printable
from paperloop.settings import did_you_mean, flatten
from paperloop_lab import plots, stats
from paperloop_lab.report.reading import Key, Run

__all__ = ["Final", "Group", "make_groups"]

UNKNOWN = stats.Interval(math.nan, math.nan, math.nan)
WHOLE = None  # the arm of numbers that a run of several arms gives for all of them together


@dataclasses.dataclass(frozen=True)
class Final:
    """The last values of one metric in one group."""

    interval: stats.Interval  # the statistic over agents; NaN where an agent's value is not finite
    values: np.ndarray  # (agents, tasks)
    step: int  # of the last value, the smallest of the runs pooled
    early: bool  # whether that is before the last step of a run
    since: np.ndarray  # (agents,) the step from which on an agent's value is not finite; -1 where it is
    others: stats.Interval | None  # the statistic over the agents whose values are finite, where not all are
    runs: int  # from how many run folders they are
    seeds: int  # independent repetitions: agents, but those of runs with equal seeds counted once

    @property
    def agents(self) -> int:
        """How many agents are pooled."""
        return len(self.values)

    @property
    def nonfinite(self) -> str:
        """How many agents' values are not finite, and since which step; "" where all are finite."""
        lost = self.since[self.since >= 0]
        if not lost.size:
            return ""
        first, last = int(lost.min()), int(lost.max())
        told = f"step {first:,}" if first == last else f"steps {first:,} to {last:,}"
        which = f"{len(lost)} of {self.agents} agents " if self.agents > 1 else ""
        return f"{which}not finite since {told}"


@dataclasses.dataclass(frozen=True)
class Group:
    """Agents that are repetitions of one another."""

    label: str  # in tables and figures
    arm: str | None  # the label of its agents in their runs; "" for none, None for all agents of several arms together
    runs: tuple[Run, ...]
    finals: dict[Key, Final]  # last values

    @property
    def agents(self) -> int:
        """Agents of all runs together."""
        return max((final.agents for final in self.finals.values()), default=0)

    @property
    def seeds(self) -> int:
        """Independent repetitions among them."""
        return max((final.seeds for final in self.finals.values()), default=0)

    @property
    def status(self) -> str:
        """One word, or the number of runs in each state."""
        states = Counter(run.status for run in self.runs)
        return next(iter(states)) if len(states) == 1 else ", ".join(f"{n} {s}" for s, n in states.most_common())

    def curve(self, key: Key, x: str) -> tuple[np.ndarray, np.ndarray] | None:
        """Return the points (n,) and the values (agents, tasks, n) of a metric; None where the group has none."""
        found = []
        for run in self.runs:
            if key in run.curves and key in self.finals and (entries := _entries(run, key, self.arm)) is not None:
                counters = {name: one for (_, name), one in reversed(run.curves.items())}
                counters |= {name: one for (split, name), one in run.curves.items() if split == key[0]}
                at = plots.abscissa(run.curves[key], x, counters, str(run.path))
                values = run.curves[key].values
                values = values.reshape(len(at), values.shape[1] if values.ndim > 1 else 1, -1)
                found.append((at, values[:, entries]))
        return plots.pool(found, f"metric {key[1]!r} of {key[0]} in {self.label}") if found else None


def make_groups(
    runs: Sequence[Run], group_by: str, ignore: Sequence[str], statistic: str, confidence: float, reps: int, seed: int
) -> tuple[list[Group], list[str]]:
    """Return the groups of runs and what a reader should know of them; the arguments are those of `report`."""
    paths = {path for run in runs for name in flatten(run.config) for path in _prefixes(name)}
    for name in ignore:
        if name not in paths:
            raise UserError(f'No run has a setting "{name}" to ignore{did_you_mean(name, sorted(paths))}')
    alike: dict[str, list[Run]] = {}
    for run in runs:
        key = str(run.path)
        if group_by == "config" and (run.config or run.config_type):
            known = [run.record.get("method"), run.config_type, _compared(run, ignore)]
            key = json.dumps(known, sort_keys=True, default=str)
        alike.setdefault(key, []).append(run)
    bases = _labels(list(alike.values()), ignore) if group_by == "config" else _unique([run.path.name for run in runs])
    groups, notes = [], _copies(runs)
    for base, members in zip(bases, alike.values(), strict=True):
        arms: list[str | None] = list(dict.fromkeys(arm for run in members for arm in run.arms))
        for arm in [*arms, *([WHOLE] if len(arms) > 1 else [])]:
            some = [run for run in members if arm is WHOLE or arm in run.arms]
            label = f"{base}, all agents" if arm is WHOLE else arm or base
            if arm and len(bases) > 1:
                label = f"{base} · {arm}"
            finals = _finals(some, arm, label, (statistic, confidence, reps, seed), notes)
            if finals or arm is not WHOLE:
                groups.append(Group(printable(label), arm, tuple(some), finals))
        notes += _notes(base, members)
    return groups, notes


def _entries(run: Run, key: Key, arm: str | None) -> np.ndarray | None:
    if arm is WHOLE:
        return np.array([0]) if key in run.scalars and len(run.arms) > 1 else None
    return run.entries(key, arm)


def _finals(
    runs: Sequence[Run], arm: str | None, label: str, bootstrap: tuple[str, float, int, int], notes: list[str]
) -> dict[Key, Final]:
    statistic, confidence, reps, seed = bootstrap
    finals: dict[Key, Final] = {}
    keys = dict.fromkeys((split, name) for run in runs for split, names in run.names.items() for name in names)
    for key in keys:
        if key[1].startswith("progress/"):
            continue
        values, steps, since, seeds = [], [], [], {}
        for run in runs:
            entries = _entries(run, key, arm) if key in run.last else None
            if entries is None:
                continue
            last = run.last[key]
            values.append(last.values[entries])
            steps.append((last.step, last.step < run.steps))
            since.append(last.since[entries])
            origin = json.dumps(run.record.get("seed", str(run.path)))
            seeds[origin] = max(seeds.get(origin, 0), len(entries))
        if len({one.shape[1] for one in values}) > 1:
            notes.append(f"{label}: metric {key[1]!r} of {key[0]} has different axes in its runs and is left out.")
        elif values:
            pooled, lost = np.concatenate(values), np.concatenate(since)
            finite = pooled[lost < 0]
            interval = None
            if len(finite):
                interval = stats.stratified_bootstrap(finite, statistic, reps=reps, confidence=confidence, seed=seed)
            whole = len(finite) == len(pooled)
            finals[key] = Final(
                interval if whole and interval else UNKNOWN, pooled, min(step for step, _ in steps),
                any(early for _, early in steps), lost, None if whole else interval, len(values), sum(seeds.values()),
            )  # fmt: skip
    _note_nonfinite(finals, label, notes)
    return finals


def _note_nonfinite(finals: Mapping[Key, Final], label: str, notes: list[str]) -> None:
    """One note for all metrics of a group in which an agent's last value is not finite."""
    told: dict[str, list[str]] = {}
    for (split, name), final in finals.items():
        if final.nonfinite:
            told.setdefault(final.nonfinite, []).append(f"{split}/{name}")
    for text, names in told.items():
        more = f" and {len(names) - 3} more metrics" if len(names) > 3 else ""
        notes.append(
            f"{label}: {text} ({', '.join(names[:3])}{more}): a statistic over all agents does not exist; that of the "
            "others is marked as such, and curves end where one is not finite any more."
        )


def _copies(runs: Sequence[Run]) -> list[str]:
    """A note for each run that is there more than once, copied."""
    same: dict[str, list[str]] = {}
    for run in runs:
        if "start" in run.record:
            facts = [run.record.get("method"), run.record.get("seed"), run.record["start"], run.config]
            same.setdefault(json.dumps(facts, sort_keys=True, default=str), []).append(str(run.path))
    return [
        f"{', '.join(paths)} are copies of one run (the same seed, start and configuration), which counts "
        f"{len(paths)} times: leave all but one out."
        for paths in same.values()
        if len(paths) > 1
    ]


def _differing_code(runs: Sequence[Run]) -> list[str]:
    """How the code of runs differs, such as "commit (a1b2c3d, 4e5f6a7)"; what a run does not state is left out."""
    stated: dict[str, dict[str, None]] = {}
    for run in runs:
        git, versions = (
            value if isinstance(value := run.record.get(name), dict) else {} for name in ("git", "versions")
        )
        facts = {"commit": str(git["commit"])[:7]} if "commit" in git else {}
        facts |= {"uncommitted changes": "yes" if git["dirty"] else "no"} if "dirty" in git else {}
        for name, fact in itertools.chain(facts.items(), versions.items()):
            stated.setdefault(name, {})[str(fact)] = None
    return [f"{name} ({', '.join(facts)})" for name, facts in stated.items() if len(facts) > 1]


def _notes(label: str, runs: Sequence[Run]) -> list[str]:
    notes = []
    for run in runs:
        if not run.names:
            notes.append(f"{run.path} ({run.status}) has no metrics and counts nowhere.")
        said = run.record.get("notes")
        notes += [f"{run.path}: {note}" for note in said if isinstance(note, str)] if isinstance(said, list) else []
        for (split, name), reason in run.odd.items():
            notes.append(f"{run.path}: metric {name!r} of {split} is left out, because {reason}.")
    runs = [run for run in runs if run.names]
    seeds = Counter(json.dumps(run.record["seed"]) for run in runs if "seed" in run.record)
    if repeated := sorted(seed for seed, count in seeds.items() if count > 1):
        notes.append(
            f"{label}: seed {', '.join(repeated)} is in several runs, which are not independent repetitions: the "
            "interval counts them as if they were."
        )
    if differing := _differing_code(runs):
        notes.append(f"{label}: runs of different code are pooled, which differ in {', '.join(differing)}.")
    lengths = {run.path.name: run.steps for run in runs}
    if len(set(lengths.values())) > 1:
        short = min(lengths, key=lengths.__getitem__)
        notes.append(
            f"{label}: runs of unequal length are pooled ({short} ends at step {lengths[short]:,} of "
            f"{max(lengths.values()):,}); last values are each run's own last, curves end with the shortest."
        )
    return notes


# Names


def _compared(run: Run, ignore: Sequence[str]) -> dict[str, Any]:
    """The leaves of a configuration that tell runs apart."""
    flat = flatten(run.config)
    return {name: value for name, value in flat.items() if not any(f"{name}.".startswith(f"{i}.") for i in ignore)}


def _labels(groups: Sequence[Sequence[Run]], ignore: Sequence[str]) -> list[str]:
    """A name for each group: its method, and what sets its configuration apart from others of that method."""
    methods = [_method(group[0]) for group in groups]
    flat = [_compared(group[0], ignore) for group in groups]
    labels = []
    for number, group in enumerate(groups):
        alike = [flat[i] for i, method in enumerate(methods) if method == methods[number]]
        names = dict.fromkeys(name for one in alike for name in one)
        odd = [n for n in names if len({repr(one.get(n)) for one in alike}) > 1 and n in flat[number]]
        if len(alike) > 1 and (not odd or len(odd) > 3):
            labels.append(group[0].path.name)
            continue
        last = Counter(name.rsplit(".", 1)[-1] for name in odd)
        short = {name: name.rsplit(".", 1)[-1] for name in odd}
        told = [f"{short[n] if last[short[n]] == 1 else n}={_value(flat[number][n])}" for n in odd]
        labels.append(f"{methods[number]} ({', '.join(told)})" if told else methods[number])
    return _unique(labels)


def _method(run: Run) -> str:
    method = run.config.get("method")
    method = method.get("type") if isinstance(method, dict) else method  # settings, one of several
    if isinstance(method, str):
        return method
    last = (run.config_type or str(run.record.get("method") or run.path.name)).rsplit(".", 1)[-1]
    return re.sub(r"(Config|Trainer)$", "", last) or last


def _prefixes(path: str) -> list[str]:
    """Every path that leads to a setting: "a", "a.b" and "a.b.c" for the last."""
    return list(itertools.accumulate(path.split("."), "{}.{}".format))


def _value(value: Any) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _unique(labels: Sequence[str]) -> list[str]:
    seen: Counter[str] = Counter()
    unique = []
    for label in labels:
        seen[label] += 1
        unique.append(label if seen[label] == 1 else f"{label} #{seen[label]}")
    return unique
