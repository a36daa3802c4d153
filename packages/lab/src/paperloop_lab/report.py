"""`paperloop report RUN...`: what a set of run folders says, as a table, figures, report.md and report.json.

Runs that differ in their seed only form one group, whose seeds are pooled. The table gives, for each group, the last
value of each metric: a statistic over seeds with its bootstrap interval.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from paperloop.errors import UserError
from paperloop.files import write_atomically, write_json
from paperloop.metrics_file import Curve, curve, metric_names, read_metrics
from paperloop.provenance import utc_now
from paperloop.settings import json_hash, read_json
from paperloop_lab import plots, stats

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["Final", "Group", "Report", "Run", "report", "report_command"]

GroupBy = Literal["config", "parent", "run"]

#: Fields of a configuration that tell repetitions apart and not methods.
SEED_FIELDS = ("seed", "seeds", "num_seeds", "n_seeds")
#: What a reader wants to see first, by what a metric's name contains.
HEADLINES = ("solve", "success", "normalized", "normalised", "return", "reward", "score", "accuracy", "acc", "win",
             "regret", "perplexity", "loss")  # fmt: skip
FIGURES = 6  # drawn without being asked for
NAMES = plots.NAMES
SHORT = {"iqm": "IQM", "mean": "mean", "median": "median"}


@dataclasses.dataclass(frozen=True)
class Run:
    """One run folder, as read.

    Attributes:
        path: the folder.
        status: "running", "complete", "interrupted" or "failed"; "unknown" without run.json.
        record: run.json, or {}.
        config: the fields of config.json, or {}.
        config_type: the type named there, or "".
        rows: of metrics.jsonl; empty where there is none.
    """

    path: Path
    status: str
    record: dict[str, Any]
    config: dict[str, Any]
    config_type: str
    rows: list[dict[str, Any]]

    @functools.cached_property
    def names(self) -> dict[str, list[str]]:
        """Split -> names of its metrics."""
        return metric_names(self.rows)

    @property
    def steps(self) -> int:
        """The last step that has a row."""
        return max((int(row["step"]) for row in self.rows), default=0)

    @property
    def wall(self) -> float:
        """Seconds of running time up to the last row."""
        return max((float(row["wall"]) for row in self.rows), default=0.0)

    @property
    def seeds(self) -> int:
        """The length of the seed axis of its metrics; 1 where all are scalars."""
        lengths = (len(v) for row in self.rows[-1:] + self.rows[:1] for v in row.values() if isinstance(v, list))
        return max(lengths, default=1)


@dataclasses.dataclass(frozen=True)
class Final:
    """The last values of one metric in one group.

    Attributes:
        interval: the statistic over seeds and its interval.
        values: (seeds, tasks).
        step: the step of the last value, the smallest of the runs pooled.
    """

    interval: stats.Interval
    values: np.ndarray
    step: int


@dataclasses.dataclass(frozen=True)
class Group:
    """Runs that are repetitions of one another.

    Attributes:
        label: how to call it in tables and figures.
        runs: its run folders.
        finals: split -> metric -> last values.
    """

    label: str
    runs: tuple[Run, ...]
    finals: dict[str, dict[str, Final]]

    @property
    def seeds(self) -> int:
        """Seeds of all runs together."""
        return sum(run.seeds for run in self.runs)

    @property
    def status(self) -> str:
        """One word, or the number of runs in each state."""
        states = Counter(run.status for run in self.runs)
        return next(iter(states)) if len(states) == 1 else ", ".join(f"{n} {s}" for s, n in states.most_common())


@dataclasses.dataclass(frozen=True)
class Report:
    """What `report` found and wrote.

    Attributes:
        groups: in the order in which the runs were given.
        headlines: (split, metric) of the metrics shown in the terminal and drawn, most telling first.
        statistic: over seeds.
        confidence: of the intervals.
        notes: what a reader should know: runs without metrics, unequal length.
        figures: files drawn.
        folder: where report.md, report.json and the figures are.
    """

    groups: tuple[Group, ...]
    headlines: tuple[tuple[str, str], ...]
    statistic: str
    confidence: float
    notes: tuple[str, ...]
    figures: tuple[Path, ...] = ()
    folder: Path | None = None

    def tables(self) -> list[Table]:
        """Return the tables for a terminal: one of the groups, one of the headline metrics."""
        from rich import box
        from rich.table import Table

        groups = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for name, right in (("group", 0), ("status", 0), ("runs", 1), ("seeds", 1), ("steps", 1), ("time", 1)):
            groups.add_column(name, justify="right" if right else "left", overflow="fold")
        for group in self.groups:
            groups.add_row(*_summary(group))
        metrics = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        metrics.add_column("split · metric", overflow="fold")
        metrics.add_column("group", overflow="fold")
        metrics.add_column(f"{SHORT[self.statistic]} of last values [{self.confidence:.0%}]", justify="right")
        for split, metric in self.headlines:
            with_it = [group for group in self.groups if metric in group.finals.get(split, ())]
            for place, group in enumerate(with_it):
                name = f"{split} · {metric}" if place == 0 else ""
                final = group.finals[split][metric]
                metrics.add_row(name, group.label, _cell(final), end_section=place == len(with_it) - 1)
        return [groups, metrics] if self.headlines else [groups]

    def markdown(self) -> str:
        """Return the whole report as Markdown: groups, every metric, figures, the folders of the runs."""
        lines = ["# Report", ""]
        lines += _markdown_table(
            ("group", "status", "runs", "seeds", "steps", "time"), [_summary(group) for group in self.groups]
        )
        lines += [f"> {note}" for note in self.notes] + [""] * bool(self.notes)
        for figure in self.figures:
            lines += [f"![{figure.stem}]({figure.name})", ""]
        what = f"{NAMES[self.statistic]} over seeds [{self.confidence:.0%} stratified bootstrap interval]"
        lines += ["## Last values", "", f"{what[0].upper()}{what[1:]}. One seed has no interval.", ""]
        for split, names in _all_metrics(self.groups).items():
            rows = [
                (name, *(_cell(g.finals[split][name]) if name in g.finals.get(split, ()) else "" for g in self.groups))
                for name in names
            ]
            lines += [f"### {split}", ""]
            lines += _markdown_table(("metric", *(group.label for group in self.groups)), rows)
        lines += ["## Runs", ""]
        lines += [f"- {group.label}: " + ", ".join(f"`{run.path}`" for run in group.runs) for group in self.groups]
        return "\n".join(lines) + "\n"

    def to_json(self) -> dict[str, Any]:
        """Return everything as a JSON object; a number that is not finite cannot occur in it."""
        return {
            "schema": 1,
            "created": utc_now(),
            "statistic": self.statistic,
            "confidence": self.confidence,
            "notes": list(self.notes),
            "figures": [figure.name for figure in self.figures],
            "headlines": [list(headline) for headline in self.headlines],
            "groups": [
                {
                    "label": group.label,
                    "seeds": group.seeds,
                    "runs": [
                        {
                            "path": str(run.path),
                            "status": run.status,
                            "seed": run.record.get("seed"),
                            "seeds": run.seeds,
                            "steps": run.steps,
                            "wall": run.wall,
                            "git": run.record.get("git"),
                        }
                        for run in group.runs
                    ],
                    "config": group.runs[0].config,
                    "final": {
                        split: {
                            name: {
                                "step": final.step,
                                **final.interval._asdict(),
                                "values": final.values.squeeze(axis=1).tolist()
                                if final.values.shape[1] == 1
                                else final.values.tolist(),
                            }
                            for name, final in finals.items()
                        }
                        for split, finals in group.finals.items()
                    },
                }
                for group in self.groups
            ],
        }


def report(
    runs: Sequence[Path],
    out: Path | None = None,
    *,
    metrics: Sequence[str] | None = None,
    group_by: GroupBy = "config",
    statistic: str = "iqm",
    confidence: float = 0.95,
    x: str = "step",
    reps: int = 10_000,
    seed: int = 0,
) -> Report:
    """Read run folders, write figures, report.md and report.json, and return it all.

    Args:
        runs: run folders, or folders of run folders.
        out: where to write; None means `plots/` of the run where there is one, and else `report/` in the folder that
            holds all runs.
        metrics: what to show and draw: "metric", which means every split that has it, or "split/metric". None chooses
            up to six: those of evaluators before those of training, by names such as return, success and accuracy.
        group_by: "config" pools runs whose method and configuration are equal but for the seed; "parent" pools those
            in one folder; "run" pools nothing.
        statistic: over seeds: "iqm" (the mean, below four seeds), "mean" or "median".
        confidence: coverage of the intervals.
        x: of the curves: "step", "wall", or a counter such as "env_steps".
        reps: resamples of the bootstrap.
        seed: of the bootstrap.

    Raises:
        UserError: a path is no run folder, no run has a metric, a metric asked for is in none, or nothing can be
            written.
    """
    if statistic not in ("iqm", "mean", "median"):
        raise UserError(f"statistic is {statistic!r}; it must be iqm, mean or median.")
    if group_by not in ("config", "parent", "run"):
        raise UserError(f"group_by is {group_by!r}; it must be config, parent or run.")
    folders = _run_folders(runs)
    notes: list[str] = []
    read = []
    for folder in folders:
        run = _read_run(folder, notes)
        read.append(run)
    members = _grouped(read, group_by)
    labels = _labels(list(members.values()), group_by)
    groups = tuple(
        Group(label, tuple(group), _finals(group, label, statistic, confidence, reps, seed, notes))
        for label, group in zip(labels, members.values(), strict=True)
    )
    if not any(group.finals for group in groups):
        raise UserError(f"No run among {', '.join(map(str, folders))} has a row of metrics yet: wait for the first.")
    for group in groups:
        seeds = [run.record.get("seed") for run in group.runs if run.rows]
        if repeated := sorted({str(s) for s in seeds if s is not None and seeds.count(s) > 1}):
            notes.append(
                f"{group.label}: seed {', '.join(repeated)} is in several runs, which are no independent repetitions: "
                "the number of seeds and the interval count them as if they were."
            )
        lengths = {run.path.name: run.steps for run in group.runs if run.rows}
        if len(set(lengths.values())) > 1:
            short = min(lengths, key=lengths.__getitem__)
            notes.append(
                f"{group.label}: runs of unequal length are pooled ({short} ends at step {lengths[short]:,} of "
                f"{max(lengths.values()):,}); last values are each run's own last, curves end with the shortest."
            )
    headlines = _chosen(groups, metrics)
    out = _default_out(folders) if out is None else Path(out)
    found = Report(groups, headlines, statistic, confidence, tuple(dict.fromkeys(notes)))
    figures = tuple(_draw(found, headline, out, x, min(reps, 2_000), seed) for headline in headlines)
    found = dataclasses.replace(found, figures=figures, folder=out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_atomically(out / "report.md", found.markdown().encode())
        write_json(out / "report.json", found.to_json())
    except OSError as error:
        raise UserError(f"The report cannot be written to {out} ({error.strerror}): give another folder.") from None
    return found


def report_command(
    runs: Sequence[Path],
    out: Path | None = None,
    metrics: Sequence[str] | None = None,
    group_by: GroupBy = "config",
    statistic: str = "iqm",
    confidence: float = 0.95,
    x: str = "step",
) -> None:
    """Print the report of run folders and say where its files are; the arguments are those of `report`."""
    from rich.console import Console

    found = report(runs, out, metrics=metrics, group_by=group_by, statistic=statistic, confidence=confidence, x=x)
    console = Console()
    for table in found.tables():
        console.print(table)
    for note in found.notes:
        console.print(f"Note: {note}", markup=False, highlight=False)
    pictures = f"{len(found.figures)} figure{'s' * (len(found.figures) != 1)}"
    console.print(f"{pictures}, report.md, report.json: {found.folder}", markup=False, highlight=False, soft_wrap=True)


# ------------------------------------------------------------------------------------------------------ reading runs


def _is_run(folder: Path) -> bool:
    return (folder / "run.json").is_file() or (folder / "metrics.jsonl").is_file()


def _run_folders(paths: Sequence[Path]) -> list[Path]:
    """The run folders among `paths` and directly below them, each once, in order."""
    if not paths:
        raise UserError("There is nothing to report: give at least one run folder.")
    found: dict[Path, None] = {}
    for path in map(Path, paths):
        if not path.is_dir():
            raise UserError(f"{path} is no folder: give the folder of a run, or one that holds runs.")
        inside = [path] if _is_run(path) else sorted((p for p in path.iterdir() if _is_run(p)), key=_natural)
        if not inside:
            raise UserError(f"{path} is no run folder and holds none (no run.json or metrics.jsonl): check the path.")
        found.update(dict.fromkeys(inside))
    return list(found)


def _natural(path: Path) -> list[tuple[bool, int, str]]:
    """Sort seed-2 before seed-10."""
    return [(not part.isdigit(), int(part) if part.isdigit() else 0, part) for part in re.split(r"(\d+)", path.name)]


def _read_run(folder: Path, notes: list[str]) -> Run:
    record = read_json(folder / "run.json") if (folder / "run.json").exists() else {}
    document = read_json(folder / "config.json") if (folder / "config.json").exists() else {}
    for value, name in ((record, "run.json"), (document, "config.json")):
        if not isinstance(value, dict):
            raise UserError(f"{folder / name} holds no JSON object: restore it, or leave this run out.")
    config = document.get("config", {k: v for k, v in document.items() if k not in ("schema", "type")})
    rows = read_metrics(folder) if (folder / "metrics.jsonl").exists() else []
    status = str(record.get("status", "unknown"))
    if not rows:
        notes.append(f"{folder} ({status}) has no metrics and counts nowhere.")
    return Run(folder, status, record, dict(config), str(document.get("type") or ""), rows)


# --------------------------------------------------------------------------------------------------- groups and names


def _without_seed(config: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in config.items() if name not in SEED_FIELDS}


def _grouped(runs: Sequence[Run], group_by: GroupBy) -> dict[Any, list[Run]]:
    groups: dict[Any, list[Run]] = {}
    for run in runs:
        key: Any = str(run.path)
        if group_by == "parent":
            key = str(run.path.resolve().parent)
        elif group_by == "config" and (run.config or run.config_type):
            key = (run.record.get("method"), run.config_type, json_hash(_without_seed(run.config)))
        groups.setdefault(key, []).append(run)
    return groups


def _labels(groups: Sequence[Sequence[Run]], group_by: GroupBy) -> list[str]:
    """A name for each group: its method, and what sets its configuration apart from others of that method."""
    if group_by == "parent":
        return _unique([group[0].path.resolve().parent.name for group in groups])
    if group_by == "run":
        return _unique([group[0].path.name for group in groups])
    methods = [_method(group[0]) for group in groups]
    flat = [_flattened(_without_seed(group[0].config)) for group in groups]
    labels = []
    for number, group in enumerate(groups):
        alike = [flat[i] for i, method in enumerate(methods) if method == methods[number]]
        if len(alike) == 1:
            labels.append(methods[number])
            continue
        names = list(dict.fromkeys(name for one in alike for name in one))
        odd = [n for n in names if len({repr(one.get(n)) for one in alike}) > 1 and n in flat[number]]
        if not odd or len(odd) > 3:
            labels.append(group[0].path.name)
            continue
        told = ", ".join(f"{_short(n, odd)}={_value(flat[number][n])}" for n in odd)
        labels.append(f"{methods[number]} ({told})")
    return _unique(labels)


def _method(run: Run) -> str:
    for name in ("method", "algorithm", "algo"):
        if isinstance(run.config.get(name), str):
            return run.config[name]
    full = run.config_type or str(run.record.get("method") or run.path.name)
    last = full.rsplit(".", 1)[-1]
    return re.sub(r"(Config|Trainer)$", "", last) or last


def _flattened(config: Any, path: str = "") -> dict[str, Any]:
    if not isinstance(config, dict):
        return {path: config}
    return {k: v for name, value in config.items() for k, v in _flattened(value, f"{path}.{name}".lstrip(".")).items()}


def _short(name: str, others: Sequence[str]) -> str:
    """The last part of a dotted name, if that is enough to tell it from the others."""
    last = name.rsplit(".", 1)[-1]
    return last if sum(other.rsplit(".", 1)[-1] == last for other in others) == 1 else name


def _value(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _unique(labels: Sequence[str]) -> list[str]:
    seen: Counter[str] = Counter()
    unique = []
    for label in labels:
        seen[label] += 1
        unique.append(label if seen[label] == 1 else f"{label} #{seen[label]}")
    return unique


# ---------------------------------------------------------------------------------------------------------- numbers


def _finals(
    runs: Sequence[Run], label: str, statistic: str, confidence: float, reps: int, seed: int, notes: list[str]
) -> dict[str, dict[str, Final]]:
    finals: dict[str, dict[str, Final]] = {}
    with_rows = [run for run in runs if run.rows]
    names: dict[str, dict[str, None]] = {}
    for run in with_rows:
        for split, metrics in run.names.items():
            names.setdefault(split, {}).update(dict.fromkeys(m for m in metrics if not m.startswith("progress/")))
    for split, metrics in names.items():
        for metric in metrics:
            have = [run for run in with_rows if metric in run.names.get(split, ())]
            try:
                last = [_last(curve(run.rows, metric, split)) for run in have]
            except UserError as error:
                notes.append(f"{label}: {error}".replace("these rows", "its rows"))
                continue
            values = [v for v, _ in last if v is not None]
            if not values:
                continue
            if len({v.shape[1] for v in values}) > 1:
                notes.append(f"{label}: metric {metric!r} of {split} has different axes in its runs and is left out.")
                continue
            pooled = np.concatenate(values)
            interval = stats.stratified_bootstrap(pooled, statistic, reps=reps, confidence=confidence, seed=seed)
            step = min(step for _, step in last)
            finals.setdefault(split, {})[metric] = Final(interval, pooled, step)
    return finals


def _last(one: Curve) -> tuple[np.ndarray | None, int]:
    """The last row (seeds, tasks) in which every seed has a finite value, and its step; None without such a row."""
    values = one.values.reshape(len(one.steps), one.values.shape[1] if one.values.ndim > 1 else 1, -1)
    whole = np.flatnonzero(np.isfinite(values).all(axis=(1, 2)))
    if not whole.size or not values.size:
        return None, int(one.steps[-1])
    return values[whole[-1]], int(one.steps[whole[-1]])


def _all_metrics(groups: Sequence[Group]) -> dict[str, list[str]]:
    """Split -> metrics of any group; evaluators first."""
    names: dict[str, dict[str, None]] = {}
    for group in groups:
        for split, finals in group.finals.items():
            names.setdefault(split, {}).update(dict.fromkeys(finals))
    return {split: list(names[split]) for split in sorted(names, key=lambda split: split == "train")}


def _chosen(groups: Sequence[Group], asked: Sequence[str] | None) -> tuple[tuple[str, str], ...]:
    every = [(split, metric) for split, metrics in _all_metrics(groups).items() for metric in metrics]
    if asked is not None:
        chosen: dict[tuple[str, str], None] = {}
        for name in asked:
            hits = [(split, metric) for split, metric in every if name in (metric, f"{split}/{metric}")]
            if not hits:
                known = ", ".join(f"{split}/{metric}" for split, metric in every[:12]) + ", ..." * (len(every) > 12)
                raise UserError(f"No run has a metric {name!r}; there is {known}")
            chosen.update(dict.fromkeys(hits))
        return tuple(chosen)

    def rank(headline: tuple[str, str]) -> tuple[bool, int]:
        split, metric = headline
        place = next((i for i, word in enumerate(HEADLINES) if word in metric.lower()), len(HEADLINES))
        return split == "train", place

    ranked = sorted(every, key=rank)  # stable: otherwise in the order in which they were logged
    named = [headline for headline in ranked if rank(headline)[1] < len(HEADLINES)]
    return tuple((named or ranked)[:FIGURES])


# ---------------------------------------------------------------------------------------------------------- writing


def _default_out(folders: Sequence[Path]) -> Path:
    if len(folders) == 1:
        return folders[0] / "plots"
    common = Path(os.path.commonpath([folder.absolute().parent for folder in folders]))
    return (common.relative_to(Path.cwd()) if common.is_relative_to(Path.cwd()) else common) / "report"


def _draw(found: Report, headline: tuple[str, str], out: Path, x: str, reps: int, seed: int) -> Path:
    split, metric = headline
    curves = {}
    for group in found.groups:
        if metric in group.finals.get(split, ()):
            runs = [run for run in group.runs if metric in run.names.get(split, ())]
            curves[group.label] = [run.rows for run in runs]
    figure = plots.learning_curves(
        curves, metric, split, x=x, statistic=found.statistic, confidence=found.confidence, reps=reps, seed=seed
    )
    name = re.sub(r"[^\w.-]+", "-", f"{split}-{metric}")
    return plots.save_figure(figure, out / f"{name}.png")


def _summary(group: Group) -> tuple[str, ...]:
    steps = {run.steps for run in group.runs if run.rows}
    told = "0" if not steps else f"{max(steps):,}" if len(steps) == 1 else f"{min(steps):,} to {max(steps):,}"
    wall = sum(run.wall for run in group.runs)
    return group.label, group.status, str(len(group.runs)), str(group.seeds), told, _duration(wall)


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {seconds:02d} s"


def _cell(final: Final) -> str:
    point, low, high = map(plots.significant, final.interval)
    return point if len(final.values) == 1 else f"{point} [{low}, {high}]"


def _markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    return [line(head), "|" + " --- |" * len(head), *map(line, rows), ""]
