"""What a study says: every curve, its collapse metrics, tables by dataset and arm, figures."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from outerloop import plots
from outerloop.config import load_config, read_json
from outerloop.errors import UserError
from outerloop.files import write_atomically, write_json
from outerloop.metrics_file import read_metrics
from outerloop.sweep import run_status
from policy_finetune.config import OfflineConfig, OnlineConfig
from policy_finetune.metrics import CollapseMetrics, collapse_metrics

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["StudyCurve", "read_study", "study_tables", "write_study_report"]

#: What the table shows of each arm: metric -> heading.
COLUMNS = {
    "start": "start",
    "min_over_start": "min/start",
    "collapsed": "collapsed",
    "time_to_recover": "recovery",
    "auc": "area",
    "final": "final",
}


@dataclasses.dataclass(frozen=True)
class StudyCurve:
    """One fine-tuned agent.

    Attributes:
        dataset: name of its dataset.
        pretrainer: who trained it offline.
        arm: how it was fine-tuned.
        start: index of the pre-trained agent among its pre-trainer's.
        seed: which of the agents of that start.
        steps: (T,) environment steps of the evaluations.
        returns: (T,) mean returns; the first before any environment step.
        metrics: of the curve.
    """

    dataset: str
    pretrainer: str
    arm: str
    start: int
    seed: int
    steps: np.ndarray
    returns: np.ndarray
    metrics: CollapseMetrics

    @property
    def pair(self) -> tuple[str, str, int, int]:
        """What agents of different arms are paired by."""
        return self.dataset, self.pretrainer, self.start, self.seed


def read_study(out: Path, *, random_return: float = 0.0) -> list[StudyCurve]:
    """Return the curves of all complete fine-tuning runs below `out`/finetune.

    Raises:
        UserError: there is none.
    """
    curves: list[StudyCurve] = []
    plan = out / "plan.json"
    if not plan.exists():
        raise UserError(f"{out} is no study (no plan.json): run the study first.")
    for name in read_json(plan)["finetune"]:
        folder = out / "finetune" / name
        if run_status(folder) != "complete":
            continue
        config = load_config(OnlineConfig, folder / "config.json")
        before = load_config(OfflineConfig, Path(config.start) / "config.json")
        rows = [row for row in read_metrics(folder) if row["split"] == "evaluation"]
        if not rows:
            continue
        steps = np.array([row["step"] * config.block for row in rows], float)
        returns = np.array([row["return"] for row in rows], float)
        names = dataset_names(config.data)
        for i, agent in enumerate(config.agents):
            origin = before.agents[agent.start]
            curves.append(
                StudyCurve(
                    dataset=names[origin.dataset], pretrainer=origin.label, arm=agent.label,
                    start=agent.start, seed=agent.seed, steps=steps, returns=returns[:, i],
                    metrics=collapse_metrics(steps, returns[:, i], random=random_return),
                )
            )  # fmt: skip
    if not curves:
        raise UserError(f"{out} holds no fine-tuned agents yet: run the study first.")
    return curves


def dataset_names(files: Sequence[str]) -> list[str]:
    """Return a short name for each dataset: its file's, with folders before it where two are alike."""
    for depth in range(1, 10):
        names = ["/".join(Path(file).with_suffix("").parts[-depth:]) for file in files]
        if len(set(names)) == len(set(files)):
            return names
    return list(files)


def values(curves: Sequence[StudyCurve], metric: str) -> np.ndarray:
    """Return a metric of curves, the undefined ones left out."""
    found = np.array([_value(curve, metric) for curve in curves])
    return found[np.isfinite(found)]


def _value(curve: StudyCurve, metric: str) -> float:
    if metric == "collapsed" and not curve.metrics.collapse_defined:
        return np.nan
    return float(getattr(curve.metrics, metric))


def interval(
    curves: Sequence[StudyCurve], metric: str, statistic: str = "median", *, reps: int = 4000, seed: int = 0
) -> tuple[float, float, float]:
    """Return a statistic of a metric with its 95 % bootstrap interval; NaN where it is undefined in every curve.

    Agents that share a pre-trained agent are no independent runs: whole starts are drawn with replacement first, then
    agents within each. With fewer than about ten starts even that interval is too narrow.
    """
    clusters: dict[Any, list[float]] = {}
    for curve in curves:
        value = _value(curve, metric)
        if np.isfinite(value):
            clusters.setdefault((curve.dataset, curve.pretrainer, curve.start), []).append(value)
    if not clusters:
        return np.nan, np.nan, np.nan
    groups = [np.array(group) for group in clusters.values()]
    function = np.median if statistic == "median" else np.mean
    rng = np.random.default_rng(seed)
    drawn = np.empty(reps)
    for rep in range(reps):
        chosen = [groups[i] for i in rng.integers(0, len(groups), len(groups))]
        drawn[rep] = function(np.concatenate([group[rng.integers(0, len(group), len(group))] for group in chosen]))
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(function(np.concatenate(groups))), float(low), float(high)


def study_tables(curves: Sequence[StudyCurve]) -> list[dict[str, Any]]:
    """Return one row for each dataset and arm: number of agents, and for each column (median, low, high).

    `collapsed` is the share of agents (mean); `time_to_recover` is over the agents that came back, whose number is
    `recovered`.
    """
    rows = []
    for dataset in dict.fromkeys(curve.dataset for curve in curves):
        for arm in dict.fromkeys(curve.arm for curve in curves):
            for pretrainer in dict.fromkeys(curve.pretrainer for curve in curves):
                here = [c for c in curves if (c.dataset, c.arm, c.pretrainer) == (dataset, arm, pretrainer)]
                if not here:
                    continue
                row: dict[str, Any] = {"dataset": dataset, "pretrainer": pretrainer, "arm": arm, "agents": len(here)}
                row["starts"] = len({(c.dataset, c.start) for c in here})
                for metric in COLUMNS:
                    row[metric] = interval(here, metric, "mean" if metric == "collapsed" else "median")
                row["recovered"] = sum(bool(c.metrics.recovered) for c in here)
                rows.append(row)
    return rows


def cell(metric: str, value: tuple[float, float, float]) -> str:
    if not np.isfinite(value[0]):
        return "-"
    form = "{:.2f}" if metric in ("min_over_start", "collapsed") else "{:.0f}"
    middle, low, high = (form.format(v) for v in value)
    return middle if low == high else f"{middle} [{low}, {high}]"


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the tables as Markdown."""
    lines = [
        "Medians over agents with 95 % bootstrap intervals; `collapsed` is a share; `recovery` is in environment",
        "steps, over the agents that came back.",
        "",
        "| dataset | pre-trainer | arm | agents | " + " | ".join(COLUMNS.values()) + " |",
        "|---|---|---|---|" + "---|" * len(COLUMNS),
    ]
    for row in rows:
        cells = [cell(metric, row[metric]) for metric in COLUMNS]
        lines.append(
            f"| {row['dataset']} | {row['pretrainer']} | {row['arm']} | {row['agents']} | " + " | ".join(cells) + " |"
        )
    return "\n".join(lines) + "\n"


def curves_figure(curves: Sequence[StudyCurve]) -> Figure:
    """Draw the return over environment steps, a panel for each dataset: median and quartiles over agents by arm."""
    from matplotlib.figure import Figure

    datasets = sorted({curve.dataset for curve in curves})
    arms = list(dict.fromkeys(curve.arm for curve in curves))
    columns = min(3, len(datasets))
    lines = -(-len(datasets) // columns)
    across = 4 if columns > 1 else 2  # entries of the legend side by side
    height = 3.3 * lines + 0.5 + 0.22 * -(-len(arms) // across)
    figure = Figure(figsize=(max(4.6 * columns, 6.0), height), layout="constrained")
    for i, dataset in enumerate(datasets):
        axes = figure.add_subplot(lines, columns, i + 1)
        for j, arm in enumerate(arms):
            here = [c for c in curves if c.dataset == dataset and c.arm == arm]
            if not here:
                continue
            colour, dash = plots.COLOURS[j % len(plots.COLOURS)], plots.DASHES[j // len(plots.COLOURS) % 4]
            stacked = np.stack([c.returns for c in here if len(c.steps) == len(here[0].steps)])
            low, middle, high = np.quantile(stacked, [0.25, 0.5, 0.75], axis=0)
            axes.plot(here[0].steps, middle, color=colour, linestyle=dash, label=arm, linewidth=1.4)
            axes.fill_between(here[0].steps, low, high, color=colour, alpha=0.12, linewidth=0)
        axes.set_title(dataset, fontsize=9)
        axes.set_xlabel("environment steps", fontsize=8)
        axes.set_ylabel("return" if i % columns == 0 else "", fontsize=8)
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=across, fontsize=8, frameon=False)
    return figure


def strips_figure(curves: Sequence[StudyCurve], metric: str, heading: str) -> Figure:
    """Draw every agent's value of a metric, a line of points for each arm and a panel for each dataset."""
    from matplotlib.figure import Figure

    datasets = sorted({curve.dataset for curve in curves})
    arms = list(dict.fromkeys(curve.arm for curve in curves))
    columns = min(3, len(datasets))
    lines = -(-len(datasets) // columns)
    figure = Figure(figsize=(2.2 + 3.4 * columns, (0.3 * len(arms) + 1.1) * lines), layout="constrained")
    first = None
    for i, dataset in enumerate(datasets):
        axes = first = figure.add_subplot(lines, columns, i + 1, sharex=first)
        for j, arm in enumerate(arms):
            found = values([c for c in curves if c.dataset == dataset and c.arm == arm], metric)
            if not len(found):
                continue
            jitter = np.linspace(-0.22, 0.22, len(found)) if len(found) > 1 else np.zeros(1)
            axes.scatter(found, len(arms) - 1 - j + jitter, s=9, color=plots.COLOURS[0], alpha=0.55, linewidths=0)
            middle = np.median(found)
            axes.plot([middle] * 2, [len(arms) - 1.35 - j, len(arms) - 0.65 - j], color=plots.COLOURS[1], linewidth=2)
        axes.set_ylim(-0.6, len(arms) - 0.4)
        axes.set_yticks(range(len(arms)), arms[::-1] if i % columns == 0 else [""] * len(arms), fontsize=8)
        axes.set_title(dataset, fontsize=9)
        axes.set_xlabel(heading, fontsize=8)
        axes.tick_params(axis="x", labelsize=7)
        axes.grid(axis="x", color=plots.GRID)
        axes.set_axisbelow(True)
        axes.spines[["top", "right", "left"]].set_visible(False)
    return figure


def write_study_report(out: Path, *, random_return: float = 0.0, folder: Path | None = None) -> list[Path]:
    """Write tables, figures and all numbers of a study; return the files."""
    curves = read_study(out, random_return=random_return)
    folder = folder or out / "report"
    folder.mkdir(parents=True, exist_ok=True)
    rows = study_tables(curves)
    files = [folder / "study.md", folder / "study-results.json"]
    write_atomically(files[0], markdown(rows).encode())
    document = {
        "random_return": random_return,
        "rows": [{k: list(v) if isinstance(v, tuple) else v for k, v in row.items()} for row in rows],
        "agents": [
            {
                "dataset": c.dataset, "pretrainer": c.pretrainer, "arm": c.arm, "start": c.start, "seed": c.seed,
                "steps": c.steps.tolist(), "returns": c.returns.tolist(), "metrics": c.metrics.as_dict(),
            }
            for c in curves
        ],
    }  # fmt: skip
    write_json(files[1], _plain(document))
    for name, figure in (
        ("curves.png", curves_figure(curves)),
        ("min-over-start.png", strips_figure(curves, "min_over_start", "minimum / start")),
        ("area.png", strips_figure(curves, "auc", "area under the curve (mean return)")),
        ("final.png", strips_figure(curves, "final", "final return")),
    ):
        path = folder / name
        plots.save_figure(figure, path)
        files.append(path)
    return files


def _plain(value: Any) -> Any:
    """Return a document without NaN, which JSON does not know: None instead."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
