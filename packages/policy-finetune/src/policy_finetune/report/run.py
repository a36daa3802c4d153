"""What is shown at the end of a command: short tables, and where the figures are."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from paperloop.errors import UserError, printable
from paperloop.loop.metrics_file import read_metrics
from paperloop.settings import load_config, read_json
from paperloop_data import EpisodeDataset, normalised_score
from paperloop_lab import plots
from policy_finetune.config import OfflineConfig, OnlineConfig
from policy_finetune.envs.references import random_return
from policy_finetune.measures.readings import evaluations
from policy_finetune.report.tables import show
from policy_finetune.trainers.evaluators import score_task

if TYPE_CHECKING:
    from policy_finetune.envs.spec import EnvSpec
    from policy_finetune.study.report import StudyCurve

__all__ = ["conclude", "describe_dataset", "print_corl", "random_return", "report_study", "show_study"]


def conclude(folder: str | Path, *, x: str, quiet: bool) -> None:
    """Draw a run's curves, and show what it came to.

    Args:
        folder: the run folder.
        x: "updates" for learning from data, "env_steps" for learning online.
        quiet: no table; what the metrics warn of is said all the same.
    """
    from policy_finetune.report.health import findings
    from policy_finetune.trainers.sessions import environment_at

    folder = Path(folder)
    rows = read_metrics(folder)
    measured, returns = evaluations(folder, rows)
    training = [row for row in rows if row["split"] == "train"]
    if not measured:
        raise UserError(f"{folder} has no evaluations yet: train it first.")
    offline = x == "updates"
    config = load_config(OfflineConfig if offline else OnlineConfig, folder / "config.json")
    per_step = config.updates_per_step if isinstance(config, OfflineConfig) else config.block
    steps = np.array([row["step"] * per_step for row in measured], float)
    labels = _labels(folder, returns.shape[1]) or [agent.label for agent in config.agents] or [""] * returns.shape[1]
    figure = _run_figure(steps, returns, labels, training, per_step, x.replace("_", " "))
    path = folder / "plots" / "curves.png"
    path.parent.mkdir(exist_ok=True)
    plots.save_figure(figure, path)
    said = findings(rows)
    if not quiet:
        names = numbered(labels)
        if offline:
            _show_offline(names, returns, measured[-1])
        else:
            said = [*_show_online(names, steps, returns, _chance(lambda: environment_at(folder))), *said]
    _note(said)
    if not quiet:
        print(path)


def _labels(folder: Path, agents: int) -> list[str]:
    """Return the agents' labels that the run recorded, or nothing where it recorded none."""
    path = folder / "run.json"
    found = read_json(path).get("agents") if path.exists() else None
    fits = isinstance(found, list) and len(found) == agents and all(isinstance(label, str) for label in found)
    return found if fits else []


def numbered(labels: Sequence[str]) -> list[str]:
    """Return a name for each agent: its label, and its number among those of that label."""
    return [f"{label} {list(labels[:i]).count(label)}".strip() for i, label in enumerate(labels)]


def _note(sentences: Iterable[str]) -> None:
    """Say what deserves a look, on standard error."""
    for sentence in sentences:
        print(printable(f"note: {sentence}"), file=sys.stderr)


def _chance(environment: Callable[[], str | EnvSpec]) -> float:
    """Return what a random policy gets; 0, and a word about it, where the environment is not here to be asked."""
    try:
        return random_return(environment())
    except UserError as error:
        _note([f"A random policy's return is taken as 0, because it cannot be measured: {error}"])
        return 0.0


def _show_offline(names: Sequence[str], returns: np.ndarray, last: Mapping[str, Any]) -> None:
    """Show what agents (A) that learned from data came to; returns is (T, A)."""
    columns = ["agent", "start", "final", "± over episodes", "best", *(["score"] if "score" in last else [])]
    rows = []
    for i, name in enumerate(names):
        cells = [returns[0, i], returns[-1, i], last["return_std"][i], returns[:, i].max()]
        cells += [last["score"][i]] if "score" in last else []
        rows.append((name, *(f"{value:.1f}" for value in cells)))
    show(columns, rows, drop=("± over episodes", "best"))


def _show_online(names: Sequence[str], steps: np.ndarray, returns: np.ndarray, chance: float) -> list[str]:
    """Show what agents (A) lost and won online, returns (T, A); return why a measure is missing, if one is."""
    from policy_finetune.measures.collapse import collapse_metrics
    from policy_finetune.study.report import kept_caption, undefined_notes

    measured = [collapse_metrics(steps, returns[:, i], random=chance) for i in range(len(names))]
    columns = ["agent", "start", "minimum", "min/start", "kept", "recovered after", "area", "final", "collapsed"]
    rows = []
    for name, m in zip(names, measured, strict=True):
        rows.append((
            name, f"{m.start:.1f}", f"{m.minimum:.1f}", _ratio(m.min_over_start), _ratio(m.kept),
            f"{m.time_to_recover:.0f} steps" if m.recovered else "not", f"{m.auc:.1f}", f"{m.final:.1f}",
            ("yes" if m.collapsed else "no") if m.collapse_defined else "-",
        ))  # fmt: skip
    if not any(np.isfinite(m.min_over_start) for m in measured):
        columns.remove("min/start")
        rows = [(*row[:3], *row[4:]) for row in rows]
    show(columns, rows, drop=("area", "minimum", "recovered after"), caption=kept_caption(chance))
    return undefined_notes(measured, chance)


def _ratio(value: Any) -> str:
    return f"{float(value):.2f}" if np.isfinite(value) else "-"


def _run_figure(steps, returns, labels, training, per_step, xlabel):
    from matplotlib.figure import Figure

    # Before the first update these are 0 because there is nothing to measure, which would look like a cliff.
    training = [row for row in training if np.any(np.asarray(row.get("learning", 1.0)) > 0)]
    names = ["critic_loss", "q", "distance_over_epsilon", "lambda", "bc_distance", "offline_share"]
    shown = [name for name in names if training and name in training[-1] and np.any([r[name] for r in training])][:3]
    figure = Figure(figsize=(4.6 * (1 + len(shown)), 3.3), layout="constrained")
    axes = figure.add_subplot(1, 1 + len(shown), 1)
    for j, label in enumerate(dict.fromkeys(labels)):
        for i in [i for i, other in enumerate(labels) if other == label]:
            first = labels.index(label) == i
            axes.plot(
                steps, returns[:, i], color=plots.COLOURS[j % 7], alpha=0.8, label=label if first and label else None
            )
    axes.set_title("return of the deterministic policy", fontsize=9)
    axes.set_xlabel(xlabel, fontsize=8)
    if any(labels):
        axes.legend(fontsize=7, frameon=False)
    where = [row["step"] * per_step for row in training]
    for k, name in enumerate(shown):
        axes = figure.add_subplot(1, 1 + len(shown), 2 + k)
        values = np.array([row[name] for row in training], float)
        for i in range(values.shape[1]):
            j = list(dict.fromkeys(labels)).index(labels[i])
            axes.plot(where, values[:, i], color=plots.COLOURS[j % 7], alpha=0.8, linewidth=1)
        axes.set_title(name.replace("_", " "), fontsize=9)
        axes.set_xlabel(xlabel, fontsize=8)
    for axes in figure.axes:
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def write_replay(
    folder: str | Path, out: str | Path, steps: int, *, agent: int = 0, compress: bool = False
) -> tuple[EpisodeDataset, str]:
    """Write the oldest transitions that are left in an online run's replay buffer as a D4RL file.

    Args:
        folder: the run.
        out: the file.
        steps: transitions at most; where the buffer has fewer, all of them.
        agent: whose buffer.
        compress: gzip the arrays.

    Returns:
        The dataset, and the environment's name.

    Raises:
        UserError: it is not an online run, it has no such agent or no transitions yet, or the file exists.
    """
    from paperloop.loop.runner import restore
    from paperloop_data import write_d4rl
    from policy_finetune.data.make import from_replay
    from policy_finetune.trainers.online import OnlineTrainer
    from policy_finetune.trainers.sessions import load_trainer

    folder, out = Path(folder), Path(out)
    if steps < 1:
        raise UserError(f"A dataset has at least 1 step; got {steps}.")
    if out.suffix.lower() not in (".hdf5", ".h5"):
        raise UserError(f"{out}: a D4RL dataset is an HDF5 file; give a name that ends in .hdf5.")
    if out.exists():
        raise UserError(f"{out} exists already; choose another name, or remove it first.")
    trainer, spec = load_trainer(folder)
    if not isinstance(trainer, OnlineTrainer):
        raise UserError(f"{folder} learned from data and has no replay buffer: name a run of train or finetune.")
    if not 0 <= agent < len(trainer.members):
        number = len(trainer.members)
        raise UserError(f"--agent is {agent}, but {folder} has {number} agent{'s' * (number != 1)}, numbered from 0.")
    arrays = {name: array[:steps] for name, array in trainer.replay_data(restore(trainer, folder), agent).items()}
    if not len(arrays["terminated"]):
        raise UserError(f"The replay buffer of {folder} is empty: train it first.")
    if not arrays["terminated"][-1]:
        arrays["truncated"] = arrays["truncated"].copy()
        arrays["truncated"][-1] = True
    # By its name alone and without how it was called: the file is a function of the run, not of who asked from where.
    words = ["policy-finetune", "make-data", "--replay", folder.name, "--agent", str(agent), "--steps", str(steps)]
    record = {"run": folder.name, "agent": agent, "steps": steps, "command": shlex.join(words)}
    data = from_replay(spec, **arrays, record=record)
    write_d4rl(data, out, compress=compress)
    return data, spec.env_id


def describe_dataset(data: EpisodeDataset, path: Path, env_id: str) -> None:
    """Show what a dataset holds."""
    returns = data.returns()
    headings = ("dataset", "steps", "episodes", "mean length", "mean return", "best", "worst", "score of the mean")
    task = score_task(env_id)
    score = "" if task is None else f"{float(np.asarray(normalised_score(returns.mean(), task))):.1f}"
    row = (
        str(path), f"{data.num_steps:,}", f"{data.num_episodes:,}", f"{data.lengths.mean():.0f}",
        f"{returns.mean():.1f}", f"{returns.max():.1f}", f"{returns.min():.1f}", score,
    )  # fmt: skip
    show(headings, [row], drop=("mean length", "worst"))


def report_study(folder: str | Path) -> None:
    """Write a study's report, and show its table and what is missing."""
    from policy_finetune.study.config import StudyConfig
    from policy_finetune.study.report import (
        incomplete_arms,
        incomplete_notes,
        read_study,
        undefined_notes,
        write_study_report,
    )

    folder = Path(folder)
    study = load_config(StudyConfig, folder / "study.json")
    chance = _chance(lambda: study.env_id)
    files = write_study_report(folder, random_return=chance)
    curves = read_study(folder, random_return=chance)
    incomplete = incomplete_arms(folder, curves)
    show_study(curves, incomplete, random_return=chance)
    for note in [*undefined_notes([curve.metrics for curve in curves], chance), *incomplete_notes(incomplete)]:
        print(printable(f"note: {note}"))
    for file in files:
        print(file)


def show_study(
    curves: Sequence[StudyCurve],
    incomplete: Sequence[Mapping[str, Any]] = (),
    *,
    random_return: float | None = None,
) -> None:
    """Show a study's tables, one for each dataset.

    Args:
        curves: its agents.
        incomplete: the arms that lack agents (`incomplete_arms`).
        random_return: what `kept` is measured from, for the caption.
    """
    from policy_finetune.study.report import COLUMNS, cell, kept_caption, study_tables

    rows = study_tables(curves)
    planned = {(row["dataset"], row["pretrainer"], row["arm"]): row["planned"] for row in incomplete}
    several = len({row["pretrainer"] for row in rows}) > 1
    datasets = list(dict.fromkeys(row["dataset"] for row in rows))
    ratio = any(np.isfinite(row["min_over_start"][0]) for row in rows)
    columns = {metric: text for metric, text in COLUMNS.items() if ratio or metric != "min_over_start"}
    captions = ["medians over agents; intervals in study.md"]
    captions += [kept_caption(random_return)] if random_return is not None else []
    for dataset in datasets:
        cells = []
        for row in rows:
            if row["dataset"] != dataset:
                continue
            number = planned.get((dataset, row["pretrainer"], row["arm"]))
            agents = str(row["agents"]) if number is None else f"{row['agents']} of {number}"
            names = [row["pretrainer"], row["arm"]] if several else [row["arm"]]
            cells.append([*names, agents, *(cell(metric, (row[metric][0],) * 3) for metric in columns)])
        show(
            [*(["pre-trainer"] if several else []), "arm", "agents", *columns.values()],
            cells,
            labels=1 + several,
            drop=[COLUMNS[metric] for metric in ("time_to_recover", "auc", "start", "collapsed")],
            title=dataset if several else f"{dataset}, from {rows[0]['pretrainer']}",
            caption="; ".join(captions) if dataset == datasets[-1] else "",
        )


def print_corl(path: Path) -> None:
    """Print CORL's fine-tuning table, computed from its published curves."""
    from policy_finetune.measures.curves import corl_table, read_corl_curves

    print(corl_table(read_corl_curves(path)))
