"""What is shown at the end of a command: short tables, and where the figures are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from outerloop import plots
from outerloop.config import load_config
from outerloop.data import EpisodeDataset, normalised_score
from outerloop.errors import UserError
from outerloop.files import write_json
from outerloop.metrics_file import read_metrics
from policy_finetune.config import OfflineConfig, OnlineConfig
from policy_finetune.evaluators import score_task
from policy_finetune.references import random_return

__all__ = ["conclude", "describe_dataset", "evaluate_runs", "print_corl", "random_return", "report_study"]


def show(table: Table) -> None:
    """Print a table."""
    Console().print(table)


def conclude(folder: Path, *, x: str, quiet: bool) -> None:
    """Draw a run's curves, and show what it came to.

    Args:
        folder: the run folder.
        x: "updates" for learning from data, "env_steps" for learning online.
        quiet: draw only.
    """
    from policy_finetune.health import findings
    from policy_finetune.sessions import environment_name

    rows = read_metrics(folder)
    evaluations = [row for row in rows if row["split"] == "evaluation"]
    training = [row for row in rows if row["split"] == "train"]
    if not evaluations:
        raise UserError(f"{folder} has no evaluations yet: train it first.")
    offline = x == "updates"
    config = load_config(OfflineConfig if offline else OnlineConfig, folder / "config.json")
    per_step = config.updates_per_step if isinstance(config, OfflineConfig) else config.block
    steps = np.array([row["step"] * per_step for row in evaluations], float)
    returns = np.array([row["return"] for row in evaluations], float)
    labels = [agent.label for agent in config.agents] or [""] * returns.shape[1]
    figure = _run_figure(steps, returns, labels, training, per_step, x.replace("_", " "))
    path = folder / "plots" / "curves.png"
    path.parent.mkdir(exist_ok=True)
    plots.save_figure(figure, path)
    if quiet:
        return
    show(_run_table(environment_name(folder), steps, returns, labels, evaluations[-1], online=not offline))
    for finding in findings(rows):
        print(f"note: {finding}")
    print(path)


def _run_table(env_id, steps, returns, labels, last, *, online: bool) -> Table:
    from policy_finetune.metrics import collapse_metrics

    columns = ["agent", "start", "final", "± over episodes", "best"]
    if online:
        columns = ["agent", "start", "minimum", "min/start", "recovered after", "area", "final", "collapsed"]
    elif "score" in last:
        columns.append("score")
    table = Table(*columns)
    task_random = random_return(env_id)
    for i in range(returns.shape[1]):
        name = f"{labels[i]} {i}".strip()
        if online:
            m = collapse_metrics(steps, returns[:, i], random=task_random)
            recovered = f"{m.time_to_recover:.0f} steps" if m.recovered else "not"
            table.add_row(
                name, f"{m.start:.1f}", f"{m.minimum:.1f}", f"{m.min_over_start:.2f}", recovered, f"{m.auc:.1f}",
                f"{m.final:.1f}", ("yes" if m.collapsed else "no") if m.collapse_defined else "-",
            )  # fmt: skip
            continue
        cells = [returns[0, i], returns[-1, i], last["return_std"][i], returns[:, i].max()]
        cells += [last["score"][i]] if "score" in last else []
        table.add_row(name, *(f"{value:.1f}" for value in cells))
    return table


def _run_figure(steps, returns, labels, training, per_step, xlabel):
    from matplotlib.figure import Figure

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


def evaluate_runs(runs: Sequence[Path], *, episodes: int, noise: float, seed: int, fallback: bool = False) -> None:
    """Measure the agents of runs, beside a random policy; write evaluation.json into each folder and show a table."""
    from outerloop.runner import restore
    from policy_finetune.rollouts import RolloutEnvs, evaluate
    from policy_finetune.sessions import load_run

    table = Table("run", "agent", "return", "± over episodes", "length", "score")
    for folder in runs:
        trainer, spec = load_run(folder)
        state = restore(trainer, folder, fallback=fallback)
        with RolloutEnvs(spec) as envs:
            found = evaluate(trainer.policy(state), spec, episodes=episodes, seed=seed, noise=noise, envs=envs)
            chance = evaluate(_Uniform(spec, seed), spec, episodes=min(episodes, 100), seed=seed, envs=envs)
        task = score_task(spec.env_id)
        document = {
            "env_id": spec.env_id, "episodes": episodes, "noise": noise, "seed": seed,
            "returns": found.returns.tolist(), "lengths": found.lengths.tolist(),
            "random_returns": chance.returns[0].tolist(),
        }  # fmt: skip
        write_json(folder / "evaluation.json", document)
        rows = [(f"{agent.label} {i}".strip(), found.mean[i], found.std[i], found.lengths[i].mean())
                for i, agent in enumerate(trainer.agents)]  # fmt: skip
        rows.append(("random policy", chance.mean[0], chance.std[0], chance.lengths.mean()))
        for name, mean, std, length in rows:
            score = "" if task is None else f"{float(np.asarray(normalised_score(mean, task))):.1f}"
            table.add_row(folder.name, name, f"{mean:.1f}", f"{std:.1f}", f"{length:.0f}", score)
    show(table)


class _Uniform:
    """The uniformly random policy, as one agent."""

    num_agents = 1

    def __init__(self, spec, seed: int) -> None:
        self._spec, self._rng = spec, np.random.default_rng([seed, 1])

    def __call__(self, observations: np.ndarray) -> np.ndarray:
        shape = (*observations.shape[:-1], self._spec.act_dim)
        return self._rng.uniform(-1.0, 1.0, shape).astype(np.float32)


def write_replay(folder: Path, out: Path, steps: int, *, command: str = "") -> tuple[EpisodeDataset, str]:
    """Write the first transitions of an online run's replay buffer (agent 0) as a D4RL file; return them.

    Raises:
        UserError: it is no online run, or the file exists.
    """
    from outerloop.data import write_d4rl
    from outerloop.runner import restore
    from policy_finetune.make_data import from_replay
    from policy_finetune.online import OnlineTrainer
    from policy_finetune.sessions import load_run

    if out.suffix.lower() not in (".hdf5", ".h5"):
        raise UserError(f"{out}: a D4RL dataset is an HDF5 file; give a name that ends in .hdf5.")
    if out.exists():
        raise UserError(f"{out} exists already; choose another name, or remove it first.")
    trainer, spec = load_run(folder)
    if not isinstance(trainer, OnlineTrainer):
        raise UserError(f"{folder} learned from data and has no replay buffer: name a run of train or finetune.")
    arrays = {name: array[:steps] for name, array in trainer.replay_data(restore(trainer, folder)).items()}
    if not arrays["terminated"][-1]:
        arrays["truncated"] = arrays["truncated"].copy()
        arrays["truncated"][-1] = True
    data = from_replay(spec, **arrays, record={"run": folder.name, "steps": steps, "command": command})
    write_d4rl(data, out)
    return data, spec.env_id


def describe_dataset(data: EpisodeDataset, path: Path, env_id: str) -> None:
    """Show what a dataset holds."""
    returns = data.returns()
    table = Table("dataset", "steps", "episodes", "mean length", "mean return", "best", "worst", "score of the mean")
    task = score_task(env_id)
    score = "" if task is None else f"{float(np.asarray(normalised_score(returns.mean(), task))):.1f}"
    table.add_row(
        str(path), f"{data.num_steps:,}", f"{data.num_episodes:,}", f"{data.lengths.mean():.0f}",
        f"{returns.mean():.1f}", f"{returns.max():.1f}", f"{returns.min():.1f}", score,
    )  # fmt: skip
    show(table)


def report_study(folder: Path) -> None:
    """Write a study's report, and show its table."""
    from policy_finetune.study_config import StudyConfig
    from policy_finetune.study_report import COLUMNS, cell, read_study, study_tables, write_study_report

    study = load_config(StudyConfig, folder / "study.json")
    chance = random_return(study.env_id)
    files = write_study_report(folder, random_return=chance)
    table = Table(
        "dataset",
        "pre-trainer",
        "arm",
        "agents",
        *COLUMNS.values(),
        caption="medians over agents; intervals in study.md",
    )
    for row in study_tables(read_study(folder, random_return=chance)):
        table.add_row(
            row["dataset"],
            row["pretrainer"],
            row["arm"],
            str(row["agents"]),
            *(cell(m, (row[m][0],) * 3) for m in COLUMNS),
        )
    show(table)
    for file in files:
        print(file)


def print_corl(path: Path) -> None:
    """Print CORL's fine-tuning table, computed from its published curves."""
    from policy_finetune.curves import corl_table, read_corl_curves

    print(corl_table(read_corl_curves(path)))
