"""What a study says: every curve, its collapse metrics, tables by dataset and arm, figures."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from paperloop.errors import UserError
from paperloop.files import write_atomically, write_json
from paperloop.settings import load_config, read_json
from paperloop_lab import plots
from paperloop_lab.sweep.plan import run_status
from policy_finetune.config import OfflineConfig, OnlineConfig
from policy_finetune.measures.collapse import CollapseMetrics, collapse_metrics
from policy_finetune.measures.readings import evaluations
from policy_finetune.study.config import StudyConfig, online_runs

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "StudyCurve",
    "incomplete_arms",
    "incomplete_notes",
    "kept_caption",
    "read_study",
    "study_tables",
    "undefined_notes",
    "write_study_report",
]

#: What the table shows of each arm: metric -> heading.
COLUMNS = {
    "start": "start",
    "min_over_start": "min/start",
    "kept": "kept",
    "collapsed": "collapsed",
    "time_to_recover": "recovery",
    "auc": "area",
    "final": "final",
}


#: Metric -> the figure of every agent's value.
FIGURES = {
    "min_over_start": "min-over-start.png",
    "kept": "kept.png",
    "auc": "area.png",
    "final": "final.png",
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


def read_study(out: str | Path, *, random_return: float = 0.0) -> list[StudyCurve]:
    """Return the curves of all complete fine-tuning runs below `out`/finetune.

    Raises:
        UserError: there is none.
    """
    out = Path(out)
    curves: list[StudyCurve] = []
    plan = out / "plan.json"
    if not plan.exists():
        raise UserError(f"{out} is not a study (no plan.json): run the study first.")
    stated = read_json(plan)
    names = stated.get("finetune") if isinstance(stated, dict) else None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(f"{plan} does not say which runs belong to the study: run the study again.")
    for name in names:
        folder = out / "finetune" / name
        if run_status(folder) != "complete":
            continue
        config = load_config(OnlineConfig, folder / "config.json")
        # The study's own copy first: the path was recorded as it was typed, from the working folder of that day.
        start = out / "pretrain" / Path(config.start).name
        before = load_config(OfflineConfig, (start if start.exists() else Path(config.start)) / "config.json")
        rows, returns = evaluations(folder)
        if not rows:
            continue
        if returns.shape[1] != len(config.agents):
            raise UserError(
                f"{folder} has {len(config.agents)} agents and {returns.shape[1]} returns: restore its files."
            )
        steps = np.array([row["step"] * config.block for row in rows], float)
        datasets = dataset_names(config.data)
        for i, agent in enumerate(config.agents):
            origin = before.agents[agent.start]
            curves.append(
                StudyCurve(
                    dataset=datasets[origin.dataset], pretrainer=origin.label, arm=agent.label,
                    start=agent.start, seed=agent.seed, steps=steps, returns=returns[:, i],
                    metrics=collapse_metrics(steps, returns[:, i], random=random_return),
                )
            )  # fmt: skip
    if not curves:
        raise UserError(f"{out} holds no fine-tuned agents yet: run the study first.")
    return curves


def incomplete_arms(out: str | Path, curves: Sequence[StudyCurve]) -> list[dict[str, Any]]:
    """Return the arms that lack agents, because runs are missing or not complete.

    Args:
        out: the study's folder.
        curves: those that are there, as `read_study` returns them.

    Returns:
        A row for each such arm: dataset, pretrainer, arm, agents (those there), planned.
    """
    study = load_config(StudyConfig, Path(out) / "study.json")
    names = dataset_names(study.data)
    planned: dict[tuple[str, str, str], int] = {}
    for run in online_runs(study, {name: name for name in study.pretrainers}):
        for agent in run.agents:  # the pre-trained agents are in the order of the datasets
            key = names[agent.start // study.pre_seeds], run.start, agent.label
            planned[key] = planned.get(key, 0) + 1
    rows = []
    for key, number in planned.items():
        there = sum((curve.dataset, curve.pretrainer, curve.arm) == key for curve in curves)
        if there < number:
            rows.append(dict(zip(("dataset", "pretrainer", "arm"), key, strict=True), agents=there, planned=number))
    return rows


def incomplete_notes(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a line that says how many agents of a study are missing, and one for each arm that lacks some."""
    if not rows:
        return []
    lacking = sum(row["planned"] - row["agents"] for row in rows)
    head = f"The study is incomplete: {lacking} agent{'s are' if lacking > 1 else ' is'} missing."
    return [
        f"{head} Run it again to continue.",
        *(
            f"{row['arm']} on {row['dataset']}, from {row['pretrainer']}: {row['agents']} of {row['planned']} agents"
            for row in rows
        ),
    ]


def kept_caption(random_return: float) -> str:
    """Return what `kept` is, in the few words of a table's caption."""
    return f"kept: (minimum - random) / (start - random), random {random_return:.4g}"


def undefined_notes(measured: Sequence[CollapseMetrics], random_return: float) -> list[str]:
    """Return why measures of agents are missing: a sentence for each that some agent lacks.

    Args:
        measured: the metrics of each agent.
        random_return: what they were measured from.
    """
    count = len(measured)
    learned = [m for m in measured if np.isfinite(m.start)]  # a curve with a NaN has no measure at all
    ratio, kept = (sum(not np.isfinite(getattr(m, name)) for m in learned) for name in ("min_over_start", "kept"))
    notes = []
    if ratio:
        notes.append(
            f"min/start is undefined in {ratio} of {count} agents, whose start is not above 0: a ratio to it says "
            f"nothing{'; kept does' if kept < len(learned) else ''}."
        )
    if kept:
        notes.append(
            f"kept and collapsed are undefined in {kept} of {count} agents, whose start is no better than a random "
            f"policy ({random_return:.4g}): there was nothing to lose."
        )
    return notes


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

    Agents that share a pre-trained agent are not independent runs: whole starts are drawn with replacement first, then
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
    form = "{:.2f}" if metric in ("min_over_start", "kept", "collapsed") else "{:.0f}"
    middle, low, high = (form.format(v) for v in value)
    return middle if low == high else f"{middle} [{low}, {high}]"


def markdown(rows: Sequence[Mapping[str, Any]], notes: Sequence[str] = ()) -> str:
    """Return the tables as Markdown, with what to know about them below: a sentence, then a list."""
    lines = [
        "Medians over agents with 95 % bootstrap intervals; `collapsed` is a share; `recovery` is in environment",
        "steps, over the agents that came back; `kept` is (minimum - random) / (start - random): 1 where nothing was",
        "lost, 0 where the policy fell to a random one's return.",
        "",
        "| dataset | pre-trainer | arm | agents | " + " | ".join(COLUMNS.values()) + " |",
        "|---|---|---|---|" + "---|" * len(COLUMNS),
    ]
    for row in rows:
        cells = [cell(metric, row[metric]) for metric in COLUMNS]
        lines.append(
            f"| {row['dataset']} | {row['pretrainer']} | {row['arm']} | {row['agents']} | " + " | ".join(cells) + " |"
        )
    lines += ["", notes[0], "", *(f"- {note}" for note in notes[1:])] if notes else []
    return "\n".join(lines) + "\n"


def _panels(curves: Sequence[StudyCurve]) -> dict[str, list[StudyCurve]]:
    """Return title -> the curves of one dataset, and of one pre-trainer where there are several."""
    several = len({curve.pretrainer for curve in curves}) > 1
    out: dict[str, list[StudyCurve]] = {}
    for curve in sorted(curves, key=lambda c: (c.dataset, c.pretrainer)):
        title = f"{curve.dataset}, from {curve.pretrainer}" if several else curve.dataset
        out.setdefault(title, []).append(curve)
    return out


def curves_figure(curves: Sequence[StudyCurve]) -> Figure:
    """Draw the return over environment steps, a panel for each dataset: median and quartiles over agents by arm.

    With several pre-trainers there is a panel for each dataset and pre-trainer.
    """
    from matplotlib.figure import Figure

    panels = _panels(curves)
    arms = list(dict.fromkeys(curve.arm for curve in curves))
    columns = min(3, len(panels))
    lines = -(-len(panels) // columns)
    across = 4 if columns > 1 else 2  # entries of the legend side by side
    height = 3.3 * lines + 0.5 + 0.22 * -(-len(arms) // across)
    figure = Figure(figsize=(max(4.6 * columns, 6.0), height), layout="constrained")
    for i, (title, members) in enumerate(panels.items()):
        axes = figure.add_subplot(lines, columns, i + 1)
        for j, arm in enumerate(arms):
            here = [c for c in members if c.arm == arm]
            if not here:
                continue
            colour, dash = plots.COLOURS[j % len(plots.COLOURS)], plots.DASHES[j // len(plots.COLOURS) % 4]
            stacked = np.stack([c.returns for c in here if len(c.steps) == len(here[0].steps)])
            low, middle, high = np.quantile(stacked, [0.25, 0.5, 0.75], axis=0)
            axes.plot(here[0].steps, middle, color=colour, linestyle=dash, label=arm, linewidth=1.4)
            axes.fill_between(here[0].steps, low, high, color=colour, alpha=0.12, linewidth=0)
        axes.set_title(title, fontsize=9)
        axes.set_xlabel("environment steps", fontsize=8)
        axes.set_ylabel("return" if i % columns == 0 else "", fontsize=8)
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    drawn = {}  # by arm: one may be on some of the datasets only
    for axes in figure.axes:
        handles, labels = axes.get_legend_handles_labels()
        drawn |= dict(zip(labels, handles, strict=True))
    named = [arm for arm in arms if arm in drawn]
    figure.legend(
        [drawn[arm] for arm in named], named, loc="outside lower center", ncols=across, fontsize=8, frameon=False
    )
    return figure


def strips_figure(curves: Sequence[StudyCurve], metric: str, heading: str) -> Figure:
    """Draw every agent's value of a metric, a line of points for each arm; panels as in `curves_figure`."""
    from matplotlib.figure import Figure

    panels = _panels(curves)
    arms = list(dict.fromkeys(curve.arm for curve in curves))
    columns = min(3, len(panels))
    lines = -(-len(panels) // columns)
    figure = Figure(figsize=(2.2 + 3.4 * columns, (0.3 * len(arms) + 1.1) * lines), layout="constrained")
    first = None
    for i, (title, members) in enumerate(panels.items()):
        axes = first = figure.add_subplot(lines, columns, i + 1, sharex=first)
        for j, arm in enumerate(arms):
            found = values([c for c in members if c.arm == arm], metric)
            if not len(found):
                continue
            jitter = np.linspace(-0.22, 0.22, len(found)) if len(found) > 1 else np.zeros(1)
            axes.scatter(found, len(arms) - 1 - j + jitter, s=9, color=plots.COLOURS[0], alpha=0.55, linewidths=0)
            middle = np.median(found)
            axes.plot([middle] * 2, [len(arms) - 1.35 - j, len(arms) - 0.65 - j], color=plots.COLOURS[1], linewidth=2)
        axes.set_ylim(-0.6, len(arms) - 0.4)
        axes.set_yticks(range(len(arms)), arms[::-1] if i % columns == 0 else [""] * len(arms), fontsize=8)
        axes.set_title(title, fontsize=9)
        axes.set_xlabel(heading, fontsize=8)
        axes.tick_params(axis="x", labelsize=7)
        axes.grid(axis="x", color=plots.GRID)
        axes.set_axisbelow(True)
        axes.spines[["top", "right", "left"]].set_visible(False)
    return figure


def write_study_report(out: str | Path, *, random_return: float = 0.0, folder: str | Path | None = None) -> list[Path]:
    """Write tables, figures and all numbers of a study; return the files.

    Of a study that is not complete, tables and numbers say which arms lack how many agents. A measure that no agent has
    gets no figure.

    Args:
        out: the study's folder.
        random_return: what a random policy gets, which `kept` and collapses are measured from.
        folder: where the files go (None: OUT/report).
    """
    out = Path(out)
    curves = read_study(out, random_return=random_return)
    incomplete = incomplete_arms(out, curves)
    folder = out / "report" if folder is None else Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    rows = study_tables(curves)
    files = [folder / "study.md", folder / "study-results.json"]
    missing = undefined_notes([curve.metrics for curve in curves], random_return)
    notes = incomplete_notes(incomplete)
    text = markdown(rows, notes) + "".join(f"\n{note}\n" for note in missing)
    write_atomically(files[0], text.encode())
    document = {
        "random_return": random_return,
        "incomplete": incomplete,
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
    strips = (
        ("min_over_start", "minimum / start"),
        ("kept", "kept: (minimum - random) / (start - random)"),
        ("auc", "area under the curve (mean return)"),
        ("final", "final return"),
    )
    figures = {"curves.png": curves_figure(curves)}
    for metric, heading in strips:
        if len(values(curves, metric)):
            figures[FIGURES[metric]] = strips_figure(curves, metric, heading)
    for name in FIGURES.values():
        if name not in figures:  # of an earlier report, which had it
            (folder / name).unlink(missing_ok=True)
    for name, figure in figures.items():
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
