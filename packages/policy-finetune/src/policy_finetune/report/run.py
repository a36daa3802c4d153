"""What is shown at the end of a run: a short table, what its metrics warn of, and where the figure is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from paperloop.errors import UserError, note
from paperloop.loop.metrics_file import read_metrics
from paperloop.settings import read_json
from paperloop_data import EpisodeDataset, normalised_score
from paperloop_lab import plots
from paperloop_lab.console import show
from policy_finetune.config import OfflineConfig, OnlineConfig
from policy_finetune.envs.references import random_return
from policy_finetune.measures.collapse import CollapseMetrics, collapse_metrics
from policy_finetune.measures.comparison import collapse_intervals
from policy_finetune.measures.readings import evaluations
from policy_finetune.report.figures import run_figure
from policy_finetune.report.health import findings
from policy_finetune.trainers.evaluators import score_task
from policy_finetune.trainers.runs import environment_of_run, run_config, starts_of

__all__ = ["conclude", "describe_dataset", "report_runs"]

#: What `kept` is, for a caption.
KEPT = "kept: (minimum - random) / (start - random), random {:.4g}"


#: Measures of an arm: name -> heading, how it is written, and whether with its interval.
ARM_COLUMNS = {
    "start": ("start", ".1f", False), "kept": ("kept", ".2f", True), "min_over_start": ("min/start", ".2f", False),
    "collapsed": ("collapsed", ".2f", False), "final": ("final", ".1f", True),
}  # fmt: skip


def report_runs(folders: Sequence[str | Path], *, quiet: bool = False) -> None:
    """Draw the curves of runs and show what they came to: agent by agent, and by arm where there are several agents."""
    arms = [row for folder in folders for row in conclude(folder, quiet=quiet)]
    if not quiet and sum(int(row[2]) for row in arms) > 1:
        headings = ("run", "arm", "agents", *(heading for heading, *_ in ARM_COLUMNS.values()))
        caption = "medians over agents (collapsed: their share); intervals resample the pre-trained agents first"
        show(headings, arms, labels=2, caption=caption)


def conclude(folder: str | Path, *, quiet: bool) -> list[tuple[str, ...]]:
    """Draw a run's curves, show what its agents came to, and return a row for each of its arms (of an online run).

    Args:
        folder: the run folder.
        quiet: no tables; what the metrics warn of is said all the same.
    """
    folder = Path(folder)
    rows = read_metrics(folder)
    measured, returns = evaluations(folder, rows)
    if not measured:
        raise UserError(f"{folder} has no evaluations yet: train it first.")
    config = run_config(folder)
    offline = isinstance(config, OfflineConfig)
    per_step = config.updates_per_step if isinstance(config, OfflineConfig) else config.block
    steps = np.array([row["step"] * per_step for row in measured], float)
    labels = _labels(folder, returns.shape[1])
    said, chance, arms = findings(rows), None, []
    names = numbered(labels)
    if not quiet and isinstance(config, OfflineConfig):
        _show_offline(names, returns, measured[-1])
    elif not quiet and isinstance(config, OnlineConfig):
        chance = _chance(folder)
        found = [collapse_metrics(steps, own, random=chance) for own in returns.T]
        _show_online(names, found, chance)
        said = [*_undefined(found, chance), *said]
        arms = _arms(folder.name, labels, found, starts_of(config, len(found)))
    note(said)
    training = [row for row in rows if row["split"] == "train"]
    x = "critic updates" if offline else "environment steps"
    figure = run_figure(steps, returns, labels, training, per_step, x=x, random_return=chance)
    path = plots.save_figure(figure, folder / "plots" / "curves.png")
    if not quiet:
        print(path)
    return arms


def _arms(run: str, labels: Sequence[str], found: Sequence[CollapseMetrics], starts: Sequence[int]) -> list[tuple]:
    rows = []
    for label in dict.fromkeys(labels):
        own = [i for i, other in enumerate(labels) if other == label]
        of = collapse_intervals([found[i] for i in own], [starts[i] for i in own], list(ARM_COLUMNS))
        cells = [_cell(of[name], form, both) for name, (_, form, both) in ARM_COLUMNS.items()]
        rows.append((run, label, str(len(own)), *cells))
    return rows


def _cell(value: Sequence[float], form: str, interval: bool) -> str:
    if not np.isfinite(value[0]):
        return "-"
    middle, low, high = (format(float(v), form) for v in value)
    return f"{middle} [{low}, {high}]" if interval and low != high else middle


def _labels(folder: Path, agents: int) -> list[str]:
    """Return the agents' labels that the run recorded, or empty ones where it recorded none."""
    path = folder / "run.json"
    found = read_json(path).get("agents") if path.exists() else None
    fits = isinstance(found, list) and len(found) == agents and all(isinstance(label, str) for label in found)
    return found if fits else [""] * agents


def numbered(labels: Sequence[str]) -> list[str]:
    """Return a name for each agent: its label, and its number among those of that label."""
    return [f"{label} {list(labels[:i]).count(label)}".strip() for i, label in enumerate(labels)]


def _chance(folder: Path) -> float:
    """Return what a random policy gets; 0, and a word about it, where the environment is not here to be asked."""
    try:
        return random_return(environment_of_run(folder))
    except UserError as error:
        note([f"A random policy's return is taken as 0, because it cannot be measured: {error}"])
        return 0.0


def _show_offline(names: Sequence[str], returns: np.ndarray, last: Mapping[str, Any]) -> None:
    """Show what agents (A) that learned from data came to; returns is (T, A)."""
    scores = last.get("score", [None] * len(names))
    rows = [
        (name, *(f"{value:.1f}" for value in (before[0], before[-1], std, before.max(), score) if value is not None))
        for name, before, std, score in zip(names, returns.T, last["return_std"], scores, strict=True)
    ]
    show(("agent", "start", "final", "± over episodes", "best", "score")[: len(rows[0])], rows)


def _show_online(names: Sequence[str], measured: Sequence[CollapseMetrics], chance: float) -> None:
    """Show what agents lost and won online."""
    rows = [
        (
            name, f"{m.start:.1f}", f"{m.minimum:.1f}", _ratio(m.kept), _ratio(m.min_over_start),
            f"{m.time_to_recover:.0f} steps" if m.recovered else "not", f"{m.final:.1f}",
            ("yes" if m.collapsed else "no") if m.collapse_defined else "-",
        )
        for name, m in zip(names, measured, strict=True)
    ]  # fmt: skip
    headings = ("agent", "start", "minimum", "kept", "min/start", "recovered", "final", "collapsed")
    show(headings, rows, caption=KEPT.format(chance))


def _ratio(value: Any) -> str:
    return f"{float(value):.2f}" if np.isfinite(value) else "-"


def _undefined(measured: Sequence[CollapseMetrics], chance: float) -> list[str]:
    """Return why measures of agents are missing: a sentence for each that some agent lacks."""
    learned = [m for m in measured if np.isfinite(m.start)]  # a curve with a NaN has no measure at all
    ratio, kept = (sum(not np.isfinite(getattr(m, name)) for m in learned) for name in ("min_over_start", "kept"))
    notes = []
    if ratio:
        notes.append(
            f"min/start is undefined in {ratio} of {len(measured)} agents, whose start is not above 0: a ratio to it "
            f"says nothing{'; kept does' if kept < len(learned) else ''}."
        )
    if kept:
        notes.append(
            f"kept and collapsed are undefined in {kept} of {len(measured)} agents, whose start is no better than a "
            f"random policy ({chance:.4g}): there was nothing to lose."
        )
    return notes


def describe_dataset(data: EpisodeDataset, path: Path, env_id: str) -> None:
    """Show what a dataset holds."""
    returns, task = data.returns(), score_task(env_id)
    score = "" if task is None else f"{float(np.asarray(normalised_score(returns.mean(), task))):.1f}"
    row = (
        str(path), f"{data.num_steps:,}", f"{data.num_episodes:,}", f"{returns.mean():.1f}", f"{returns.max():.1f}",
        f"{returns.min():.1f}", score,
    )  # fmt: skip
    show(("dataset", "steps", "episodes", "mean return", "best", "worst", "score of the mean"), [row])
