"""A report as tables for a terminal, as Markdown and as JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paperloop.errors import printable
from paperloop.loop.metrics_file import finite_or_null
from paperloop.loop.provenance import utc_now
from paperloop_lab import plots, stats
from paperloop_lab.report.groups import Final, Group
from paperloop_lab.report.reading import Key

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["HEAD", "Report", "cell", "summary"]

SHORT = {"iqm": "IQM", "mean": "mean", "median": "median"}
HEAD = ("group", "status", "runs", "agents", "seeds", "steps", "time")


@dataclasses.dataclass(frozen=True)
class Report:
    """What `report` found and wrote."""

    groups: tuple[Group, ...]  # in the order in which the runs were given
    headlines: tuple[Key, ...]  # split and metric of what is shown in the terminal and drawn
    statistic: str  # over the agents of a group
    confidence: float  # of the intervals
    notes: tuple[str, ...]  # what a reader should know: runs without metrics, unequal length
    figures: tuple[Path, ...] = ()
    folder: Path | None = None  # of report.md, report.json and the figures

    @property
    def metrics(self) -> dict[str, list[str]]:
        """Split -> metrics of any group; evaluators first."""
        names: dict[str, dict[str, None]] = {}
        for split, name in (key for group in self.groups for key in group.finals):
            names.setdefault(split, {})[name] = None
        return {split: list(names[split]) for split in sorted(names, key=lambda split: split == "train")}

    def tables(self) -> list[Table]:
        """Return the tables for a terminal: one of the groups, one of the headline metrics."""
        groups = _table(HEAD, right=HEAD[2:])
        for group in self.groups:
            groups.add_row(*map(printable, summary(group)))
        counts = ("runs", "agents", "seeds")
        value = f"{SHORT[self.statistic]} of last values [{self.confidence:.0%}]"
        metrics = _table(("split · metric", "group", value, *counts), right=(value, *counts))
        for split, metric in self.headlines:
            with_it = [group for group in self.groups if (split, metric) in group.finals]
            for place, group in enumerate(with_it):
                final = group.finals[split, metric]
                name = "" if place else printable(f"{split} · {metric}")
                numbers = (str(getattr(final, count)) for count in counts)
                metrics.add_row(name, group.label, cell(final), *numbers, end_section=place == len(with_it) - 1)
        return [groups, metrics] if self.headlines else [groups]

    def markdown(self) -> str:
        """Return the whole report as Markdown: groups, every metric, figures, the folders of the runs."""
        lines = ["# Report", "", *_markdown_table(HEAD, [summary(group) for group in self.groups])]
        lines += [f"> {note}" for note in self.notes] + [""] * bool(self.notes)
        for figure in self.figures:
            lines += [f"![{figure.stem}]({figure.name})", ""]
        what = f"{plots.NAMES[self.statistic].capitalize()} over n agents"
        lines += ["## Last values", "", f"{what} [{self.confidence:.0%} stratified bootstrap interval].", ""]
        for split, names in self.metrics.items():
            rows = []
            for name in names:
                finals = [group.finals.get((split, name)) for group in self.groups]
                rows.append((name, *(f"{cell(final)}, n={final.agents}" if final else "" for final in finals)))
            lines += [f"### {split}", "", *_markdown_table(("metric", *(group.label for group in self.groups)), rows)]
        lines += ["## Runs", ""]
        lines += [f"- {group.label}: " + ", ".join(f"`{run.path}`" for run in group.runs) for group in self.groups]
        return "\n".join(map(printable, lines)) + "\n"

    def to_json(self) -> dict[str, Any]:
        """Return everything as a JSON object; a number that is not finite becomes null.

        A metric that is not finite for some agents has `nonfinite_since`, (agents,) the step or null, and
        `finite_agents`, the statistic over the others or null.
        """
        return {
            "schema": 2,
            "created": utc_now(),
            "statistic": self.statistic,
            "confidence": self.confidence,
            "notes": list(self.notes),
            "figures": [figure.name for figure in self.figures],
            "headlines": [list(headline) for headline in self.headlines],
            "groups": [
                {
                    "label": group.label,
                    "arm": group.arm,
                    "agents": group.agents,
                    "seeds": group.seeds,
                    "runs": [
                        {
                            "path": str(run.path), "status": run.status, "seed": run.record.get("seed"),
                            "steps": run.steps, "wall": run.wall, "git": run.record.get("git"),
                        }
                        for run in group.runs
                    ],
                    "config": group.runs[0].config,
                    "final": {
                        split: {
                            name: _final(group.finals[split, name])
                            for name in names
                            if (split, name) in group.finals
                        }
                        for split, names in self.metrics.items()
                    },
                }
                for group in self.groups
            ],
        }  # fmt: skip


def _final(final: Final) -> dict[str, Any]:
    values = final.values.squeeze(axis=1) if final.values.shape[1] == 1 else final.values
    told = {
        **{name: getattr(final, name) for name in ("step", "runs", "agents", "seeds")},
        **final.interval._asdict(),
        "values": values.tolist(),
    }
    if final.nonfinite:
        told["nonfinite_since"] = [step if step >= 0 else None for step in final.since.tolist()]
        told["finite_agents"] = final.others._asdict() if final.others else None
    return finite_or_null(told)


def _table(head: Sequence[str], right: Sequence[str]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in head:
        table.add_column(name, justify="right" if name in right else "left", overflow="fold")
    return table


def summary(group: Group) -> tuple[str, ...]:
    """Return what `HEAD` names, of one group."""
    steps = {run.steps for run in group.runs if run.names}
    told = "0" if not steps else f"{max(steps):,}" if len(steps) == 1 else f"{min(steps):,} to {max(steps):,}"
    counts = (len(group.runs), group.agents, group.seeds)
    return group.label, group.status, *map(str, counts), told, _duration(sum(run.wall for run in group.runs))


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {seconds:02d} s"


def cell(final: Final) -> str:
    """Return the last value of a metric with its interval."""
    told = _interval(final.interval, final.agents)
    if final.nonfinite:
        rest = int((final.since < 0).sum())
        others = f"; the other {rest}: {_interval(final.others, rest)}" if final.others else ""
        told = f"NaN ({final.nonfinite}{others})"
    return f"{told} at step {final.step:,}" if final.early else told


def _interval(interval: stats.Interval, agents: int) -> str:
    point, low, high = map(plots.significant, interval)
    return point if agents == 1 else f"{point} [{low}, {high}]"


def _markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"

    return [line(head), "|" + " --- |" * len(head), *map(line, rows), ""]
