"""What a study says: a table of collapse metrics by dataset and arm, every number, and the curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from paperloop.errors import printable
from paperloop.files import write_atomically, write_json
from paperloop.loop.metrics_file import finite_or_null
from paperloop.settings import load_config
from paperloop_lab import plots
from policy_finetune.config import SCHEMA
from policy_finetune.measures.comparison import clustered_interval
from policy_finetune.report.figures import study_figure
from policy_finetune.report.run import KEPT, chance_of, undefined_notes
from policy_finetune.report.tables import show
from policy_finetune.study.config import StudyConfig
from policy_finetune.study.curves import StudyCurve, read_study, unfinished

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["curves_figure", "report_study", "study_tables"]

#: What the table shows of each arm: metric -> heading.
COLUMNS = {
    "start": "start", "min_over_start": "min/start", "kept": "kept", "collapsed": "collapsed",
    "time_to_recover": "recovery", "auc": "area", "final": "final",
}  # fmt: skip

#: Those of the console, which has 80 columns.
SHORT = ("start", "min_over_start", "kept", "collapsed", "final")


def report_study(folder: str | Path) -> list[Path]:
    """Write a study's tables, figure and all numbers to FOLDER/report; show the table and what is missing.

    Returns:
        The files: study.md, study-results.json, curves.png.
    """
    folder = Path(folder)
    chance = chance_of(lambda: load_config(StudyConfig, folder / "study.json", SCHEMA).env_id)
    curves, missing = read_study(folder, random_return=chance), unfinished(folder)
    rows = study_tables(curves)
    notes = undefined_notes([curve.metrics for curve in curves], chance)
    if missing:
        notes.append(f"The study is incomplete: {len(missing)} of its runs are not there. Run it again to continue.")
    out = folder / "report"
    out.mkdir(exist_ok=True)
    files = [out / "study.md", out / "study-results.json", out / "curves.png"]
    write_atomically(files[0], (_markdown(rows) + "".join(f"\n{note}\n" for note in notes)).encode())
    agents = [
        {
            "dataset": c.dataset, "pretrainer": c.pretrainer, "arm": c.arm, "start": c.start, "seed": c.seed,
            "steps": c.steps.tolist(), "returns": c.returns.tolist(), "metrics": c.metrics.as_dict(),
        }
        for c in curves
    ]  # fmt: skip
    plain = [{k: list(v) if isinstance(v, tuple) else v for k, v in row.items()} for row in rows]
    document = {"random_return": chance, "incomplete": [run.name for run in missing], "rows": plain, "agents": agents}
    write_json(files[1], finite_or_null(document))
    plots.save_figure(curves_figure(curves), files[2])
    for dataset in dict.fromkeys(row["dataset"] for row in rows):
        here = [row for row in rows if row["dataset"] == dataset]
        cells = [
            [_arm(row, rows), str(row["agents"]), *(cell(metric, (row[metric][0],) * 3) for metric in SHORT)]
            for row in here
        ]
        headings = ["arm", "agents", *(COLUMNS[metric] for metric in SHORT)]
        show(headings, cells, title=dataset, caption=f"medians over agents; {KEPT.format(chance)}")
    for note in notes:
        print(printable(f"note: {note}"))
    for file in files:
        print(file)
    return files


def study_tables(curves: Sequence[StudyCurve]) -> list[dict[str, Any]]:
    """Return one row for each dataset and arm: number of agents, and for each column (median, low, high).

    `collapsed` is the share of agents (mean); `time_to_recover` is over the agents that came back, whose number is
    `recovered`. Intervals resample the pre-trained agents first (`clustered_interval`).
    """
    groups: dict[tuple[str, str, str], list[StudyCurve]] = {}
    for dataset in dict.fromkeys(curve.dataset for curve in curves):
        for arm in dict.fromkeys(curve.arm for curve in curves):
            for curve in curves:
                if (curve.dataset, curve.arm) == (dataset, arm):
                    groups.setdefault((dataset, curve.pretrainer, arm), []).append(curve)
    rows = []
    for (dataset, pretrainer, arm), here in groups.items():
        row: dict[str, Any] = {"dataset": dataset, "pretrainer": pretrainer, "arm": arm, "agents": len(here)}
        row["starts"] = len({(c.dataset, c.start) for c in here})
        for metric in COLUMNS:
            row[metric] = tuple(_interval(here, metric))
        row["recovered"] = sum(bool(c.metrics.recovered) for c in here)
        rows.append(row)
    return rows


def _interval(curves: Sequence[StudyCurve], metric: str) -> Any:
    clusters: dict[Any, list[float]] = {}
    for curve in curves:
        unknown = metric == "collapsed" and not curve.metrics.collapse_defined
        value = np.nan if unknown else float(getattr(curve.metrics, metric))
        if np.isfinite(value):
            clusters.setdefault((curve.dataset, curve.pretrainer, curve.start), []).append(value)
    groups = [np.array(group) for group in clusters.values()]
    return clustered_interval(groups, np.mean if metric == "collapsed" else np.median)


def curves_figure(curves: Sequence[StudyCurve]) -> Figure:
    """Draw the returns over environment steps, a panel for each dataset (and pre-trainer, where there are several)."""
    several = len({curve.pretrainer for curve in curves}) > 1
    panels: dict[str, dict[str, list[StudyCurve]]] = {}
    for curve in sorted(curves, key=lambda c: (c.dataset, c.pretrainer)):
        title = f"{curve.dataset}, from {curve.pretrainer}" if several else curve.dataset
        panels.setdefault(title, {}).setdefault(curve.arm, []).append(curve)
    return study_figure({
        title: {
            arm: (own[0].steps, np.stack([c.returns for c in own if len(c.steps) == len(own[0].steps)]))
            for arm, own in panel.items()
        }
        for title, panel in panels.items()
    })  # fmt: skip


def cell(metric: str, value: Sequence[float]) -> str:
    """Return a median and its interval as text."""
    if not np.isfinite(value[0]):
        return "-"
    form = "{:.2f}" if metric in ("min_over_start", "kept", "collapsed") else "{:.0f}"
    middle, low, high = (form.format(v) for v in value)
    return middle if low == high else f"{middle} [{low}, {high}]"


def _arm(row: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    several = len({one["pretrainer"] for one in rows}) > 1
    return f"{row['arm']}, from {row['pretrainer']}" if several else row["arm"]


def _markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    lines = [
        "Medians over agents with 95 % bootstrap intervals; `collapsed` is a share; `recovery` is in environment",
        "steps, over the agents that came back; `kept` is (minimum - random) / (start - random): 1 where nothing was",
        "lost, 0 where the policy fell to a random one's return.",
        "",
        "| dataset | pre-trainer | arm | agents | " + " | ".join(COLUMNS.values()) + " |",
        "|---|---|---|---|" + "---|" * len(COLUMNS),
    ]
    for row in rows:
        names = [row["dataset"], row["pretrainer"], row["arm"], str(row["agents"])]
        lines.append("| " + " | ".join([*names, *(cell(metric, row[metric]) for metric in COLUMNS)]) + " |")
    return "\n".join(lines) + "\n"
