"""From run folders to a report: read, group, draw, write."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from paperloop.errors import UserError, printable
from paperloop.files import write_atomically, write_json
from paperloop_lab import plots
from paperloop_lab.report.checks import rows_fault
from paperloop_lab.report.groups import make_groups
from paperloop_lab.report.page import page
from paperloop_lab.report.reading import Key, find_runs, read_run
from paperloop_lab.report.tables import Report

__all__ = ["report", "report_command"]

GroupBy = Literal["config", "run"]
FIGURES = 6  # drawn where neither the trainer nor the caller names metrics


def report(
    runs: Sequence[Path],
    out: Path | None = None,
    *,
    metrics: Sequence[str] | None = None,
    group_by: GroupBy = "config",
    ignore: Sequence[str] = (),
    statistic: str = "iqm",
    confidence: float = 0.95,
    x: str = "step",
    html: bool = False,
    reps: int = 10_000,
    seed: int = 0,
) -> Report:
    """Read run folders, write figures, report.md and report.json, and return it all.

    Args:
        runs: run folders, or folders of run folders.
        out: where to write; None means `plots/` of the run where there is one, and else `report/` in the folder that
            holds all runs.
        metrics: what to show and draw: "metric", which means every split that has it, or "split/metric". None means
            what the trainers name in run.json as `headlines`, and where they name nothing the first six metrics, those
            of evaluators first.
        group_by: "config" pools runs whose method and configuration are equal; "run" pools no two runs. The arms that
            run.json tells apart in a run (`agents`) are never pooled.
        ignore: dotted names of configuration fields in which repetitions may differ, such as "data.path".
        statistic: over agents: "iqm" (the mean, below four), "mean" or "median".
        confidence: coverage of the intervals.
        x: of the curves: "step", "wall", or a counter such as "env_steps".
        html: also write report.html, one page with everything in it (`page`).
        reps: resamples of the bootstrap.
        seed: of the bootstrap.

    Raises:
        UserError: a path is not a run folder, a file in it is damaged, no run has a metric, a metric asked for or a
            setting to ignore is in none, or nothing can be written.
    """
    if statistic not in ("iqm", "mean", "median"):
        raise UserError(f"statistic is {statistic!r}; it must be iqm, mean or median.")
    if group_by not in ("config", "run"):
        raise UserError(f"group_by is {group_by!r}; it must be config or run.")
    folders = find_runs(runs)
    declared = [name for folder in folders for name in read_run(folder, rows=False).headlines]
    wanted = list(dict.fromkeys(declared if metrics is None else metrics))
    spare = FIGURES if metrics is None else 0  # where no run has what its trainer names, the first are drawn
    read = [read_run(folder, _keeper(wanted, x, spare)) for folder in folders]
    groups, notes = make_groups(read, group_by, ignore, statistic, confidence, reps, seed)
    if metrics is None and wanted and not any(_named(key, wanted) for run in read for key in run.last):
        notes += [f"No run has a metric named as the trainer's headlines ({', '.join(wanted)}): the first are shown."]
        wanted = []
    notes += [fault for run in read if (fault := rows_fault(run.path, run.record))]
    if not any(group.finals for group in groups):
        raise UserError(" ".join([f"No run among {', '.join(map(str, folders))} has a metric to report yet.", *notes]))
    found = Report(tuple(groups), (), statistic, confidence, tuple(notes))
    found = dataclasses.replace(found, headlines=_chosen(found, wanted, asked=metrics is not None))
    out = _default_out(folders) if out is None else Path(out)
    figures = _draw(found, out, x, min(reps, 2_000), seed, notes)
    told = tuple(dict.fromkeys(map(printable, notes)))
    found = dataclasses.replace(found, figures=figures, notes=told, folder=out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_atomically(out / "report.md", found.markdown().encode())
        write_json(out / "report.json", found.to_json())
        if html:
            write_atomically(out / "report.html", page(found).encode())
    except OSError as error:
        raise UserError(f"The report cannot be written to {out} ({error.strerror}): give another folder.") from None
    return found


def report_command(
    runs: Sequence[Path], out: Path | None = None, metrics: Sequence[str] | None = None, **options: Any
) -> None:
    """Print the report of run folders and say where its files are; the arguments are those of `report`."""
    from rich.console import Console

    found = report(runs, out, metrics=metrics, **options)
    console = Console(markup=False, highlight=False, emoji=False)
    for table in found.tables():
        console.print(table)
    for note in found.notes:
        console.print(f"Note: {note}")
    pictures = f"{len(found.figures)} figure{'s' * (len(found.figures) != 1)}"
    pages = "report.md, report.json, report.html" if options.get("html") else "report.md, report.json"
    console.print(printable(f"{pictures}, {pages}: {found.folder}"), soft_wrap=True)


def _named(key: Key, names: Sequence[str]) -> bool:
    split, metric = key
    return metric in names or f"{split}/{metric}" in names


def _keeper(wanted: Sequence[str], x: str, spare: int) -> Callable[[str, str], bool]:
    """Which metrics' rows are all needed: those wanted, the horizontal axis, and the first `spare` of each split."""
    first: dict[str, set[str]] = {}

    def keep(split: str, name: str) -> bool:
        if name in (x, f"progress/{x}") or _named((split, name), wanted):
            return True
        some = first.setdefault(split, set())
        if len(some) < spare and not name.startswith("progress/"):
            some.add(name)
        return name in some

    return keep


def _chosen(found: Report, wanted: Sequence[str], *, asked: bool) -> tuple[Key, ...]:
    every = [(split, metric) for split, metrics in found.metrics.items() for metric in metrics]
    if not wanted:
        return tuple(every[:FIGURES])
    chosen = [key for name in wanted for key in every if _named(key, [name])]
    for name in wanted:
        if asked and not any(_named(key, [name]) for key in every):
            known = ", ".join(f"{split}/{metric}" for split, metric in every[:12]) + ", ..." * (len(every) > 12)
            odd = "".join(f" {note}" for note in found.notes if repr(name.split("/")[-1]) in note)
            raise UserError(f"No run has a metric {name!r} that can be shown; there is {known}.{odd}")
    return tuple(dict.fromkeys(chosen))


def _default_out(folders: Sequence[Path]) -> Path:
    if len(folders) == 1:
        return folders[0] / "plots"
    common = Path(os.path.commonpath([folder.absolute().parent for folder in folders]))
    return (common.relative_to(Path.cwd()) if common.is_relative_to(Path.cwd()) else common) / "report"


def _draw(found: Report, out: Path, x: str, reps: int, seed: int, notes: list[str]) -> tuple[Path, ...]:
    """Draw the headline metrics, each into a file named after it; what cannot be drawn is noted."""
    files: dict[str, Path] = {}
    for split, metric in found.headlines:
        curves = {}
        for group in found.groups:
            try:
                one = group.curve((split, metric), x)
            except plots.NoCounterError:
                raise
            except UserError as error:
                notes.append(f"Not drawn: {error}")
                continue
            if one is not None:
                curves[group.label] = one
        if not curves:
            continue
        figure = plots.curves_figure(
            curves, metric, split, x=x, statistic=found.statistic, confidence=found.confidence, reps=reps, seed=seed
        )
        stem = name = re.sub(r"[^\w.-]+", "-", f"{split}-{metric}")[:100]
        while name in files:
            name = f"{stem}-{len(files)}"
        files[name] = plots.save_figure(figure, out / f"{name}.png")
    return tuple(files.values())
