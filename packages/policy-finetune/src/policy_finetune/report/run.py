"""What is shown at the end of a run: a short table, what its metrics warn of, and where the figure is."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from paperloop.errors import UserError, printable
from paperloop.loop.metrics_file import read_metrics
from paperloop.settings import read_json
from paperloop_data import EpisodeDataset, normalised_score
from paperloop_lab import plots
from policy_finetune.config import OfflineConfig
from policy_finetune.envs.references import random_return
from policy_finetune.envs.spec import EnvSpec
from policy_finetune.measures.collapse import CollapseMetrics, collapse_metrics
from policy_finetune.measures.readings import evaluations
from policy_finetune.report.figures import run_figure
from policy_finetune.report.health import findings
from policy_finetune.report.tables import show
from policy_finetune.trainers.evaluators import score_task
from policy_finetune.trainers.runs import environment_of_run, run_config

__all__ = ["KEPT", "chance_of", "conclude", "describe_dataset", "note", "undefined_notes"]

#: What `kept` is, for a caption.
KEPT = "kept: (minimum - random) / (start - random), random {:.4g}"


def conclude(folder: str | Path, *, quiet: bool) -> None:
    """Draw a run's curves, and show what it came to.

    Args:
        folder: the run folder.
        quiet: no table; what the metrics warn of is said all the same.
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
    said, chance = findings(rows), None
    names = numbered(labels)
    if not quiet and offline:
        _show_offline(names, returns, measured[-1])
    elif not quiet:
        chance = chance_of(lambda: environment_of_run(folder))
        said = [*_show_online(names, steps, returns, chance), *said]
    note(said)
    training = [row for row in rows if row["split"] == "train"]
    x = "critic updates" if offline else "environment steps"
    figure = run_figure(steps, returns, labels, training, per_step, x=x, random_return=chance)
    path = plots.save_figure(figure, folder / "plots" / "curves.png")
    if not quiet:
        print(path)


def _labels(folder: Path, agents: int) -> list[str]:
    """Return the agents' labels that the run recorded, or empty ones where it recorded none."""
    path = folder / "run.json"
    found = read_json(path).get("agents") if path.exists() else None
    fits = isinstance(found, list) and len(found) == agents and all(isinstance(label, str) for label in found)
    return found if fits else [""] * agents


def numbered(labels: Sequence[str]) -> list[str]:
    """Return a name for each agent: its label, and its number among those of that label."""
    return [f"{label} {list(labels[:i]).count(label)}".strip() for i, label in enumerate(labels)]


def note(sentences: Iterable[str]) -> None:
    """Say what deserves a look, on standard error."""
    for sentence in sentences:
        print(printable(f"note: {sentence}"), file=sys.stderr)


def chance_of(environment: Callable[[], str | EnvSpec]) -> float:
    """Return what a random policy gets; 0, and a word about it, where the environment is not here to be asked."""
    try:
        return random_return(environment())
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


def _show_online(names: Sequence[str], steps: np.ndarray, returns: np.ndarray, chance: float) -> list[str]:
    """Show what agents (A) lost and won online, returns (T, A); return why a measure is missing, if one is."""
    measured = [collapse_metrics(steps, returns[:, i], random=chance) for i in range(len(names))]
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
    return undefined_notes(measured, chance)


def _ratio(value: Any) -> str:
    return f"{float(value):.2f}" if np.isfinite(value) else "-"


def undefined_notes(measured: Sequence[CollapseMetrics], chance: float) -> list[str]:
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
