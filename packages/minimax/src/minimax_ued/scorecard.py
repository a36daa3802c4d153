"""The result of an evaluation: solved rates of runs and controls on every task, with intervals over seeds."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from minimax_ued.config import TrainConfig
from minimax_ued.evaluate import OOD_MAZES, HeldOut, OODMazes, Policy
from minimax_ued.gallery import draw_test_mazes
from minimax_ued.trainer import UEDTrainer
from outerloop import plots, stats
from outerloop.config import load_config
from outerloop.errors import UserError
from outerloop.files import write_json
from outerloop.provenance import provenance
from outerloop.runner import restore
from outerloop.seeds import fold_seed

__all__ = ["Scorecard", "make_scorecard", "standard_evaluators"]


def standard_evaluators(trainer: UEDTrainer) -> dict[str, Any]:
    """Return what `train` measures on the way: held-out levels, where there are any of the size of the mazes."""
    try:
        return {"held_out": HeldOut(trainer)}
    except UserError:
        return {"mazes": OODMazes(trainer, OOD_MAZES[:3])}


@dataclasses.dataclass(frozen=True)
class Scorecard:
    """Solved rates.

    Attributes:
        tasks: what was played: "held out", "held out, hard", and test mazes.
        mazes: which of the tasks are test mazes.
        solved: label -> f64 `[seeds, tasks]`, rate of solved episodes. Controls are labelled as such.
        returns: label -> f64 `[seeds, tasks]`, mean undiscounted return.
        controls: the labels that are controls.
        settings: seed and number of episodes.
    """

    tasks: tuple[str, ...]
    mazes: tuple[str, ...]
    solved: dict[str, np.ndarray]
    returns: dict[str, np.ndarray]
    controls: tuple[str, ...]
    settings: dict[str, Any]

    def aggregates(self) -> dict[str, dict[str, stats.Interval]]:
        """Return label -> interquartile mean and mean of the solved rate over test mazes and seeds, with intervals."""
        columns = [self.tasks.index(name) for name in self.mazes]
        return {
            label: {name: stats.stratified_bootstrap(solved[:, columns], name, reps=10_000) for name in ("iqm", "mean")}
            for label, solved in self.solved.items()
            if columns
        }

    def intervals(self, label: str) -> list[stats.Interval]:
        """Return the mean over seeds with its 95 % bootstrap interval, for each task."""
        return [stats.stratified_bootstrap(column, "mean", reps=10_000) for column in self.solved[label].T]

    def print(self) -> None:
        """Print the table: tasks down, runs and controls across."""
        from rich.console import Console
        from rich.table import Table

        table = Table(title="Solved rate: mean over seeds [95 % interval]")
        table.add_column("task")
        for label, solved in self.solved.items():
            table.add_column(f"{label}\n{len(solved)} seed{'s' * (len(solved) > 1)}", justify="right")
        cells = {label: self.intervals(label) for label in self.solved}
        for i, task in enumerate(self.tasks):
            table.add_row(task, *(_cell(cells[label][i]) for label in self.solved))
        aggregates = self.aggregates()
        if len(self.mazes) > 1:
            table.add_section()
            for name, title in (("mean", "mean of the mazes"), ("iqm", "interquartile mean of the mazes")):
                table.add_row(title, *(_cell(aggregates[label][name]) for label in self.solved))
        Console().print(table)

    def figure(self) -> Figure:
        """Draw one line per task: a dot per run or control, with its interval."""
        height = 1.2 + len(self.tasks) * (0.16 + 0.11 * len(self.solved))
        figure = Figure(figsize=(7.2, height), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        spread = np.linspace(-0.24, 0.24, len(self.solved)) if len(self.solved) > 1 else [0.0]
        for number, label in enumerate(self.solved):
            point, low, high = np.array([tuple(interval) for interval in self.intervals(label)]).T
            rows = np.arange(len(self.tasks)) + spread[number]
            colour = "#9a9a9a" if label in self.controls else plots.COLOURS[number % len(plots.COLOURS)]
            marker = "x" if label == "random policy" else "o"
            axes.hlines(rows, low, high, color=colour, lw=2.5, alpha=0.5)
            axes.plot(point, rows, marker, color=colour, ms=5, label=label, clip_on=False, zorder=3)
        axes.set_yticks(range(len(self.tasks)), self.tasks)
        axes.set_ylim(len(self.tasks) - 0.5, -0.5)
        axes.set_xlim(0, 1)
        axes.set_xlabel("solved rate: mean over seeds, 95 % bootstrap interval")
        axes.grid(axis="x", color="#e4e4e0", lw=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(length=0)
        figure.legend(loc="outside upper left", ncols=4, frameon=False)
        return figure

    def write(self, folder: Path) -> list[Path]:
        """Write evaluation.json, evaluation.png and a picture of the mazes; return the paths."""
        folder.mkdir(parents=True, exist_ok=True)
        content = {
            "settings": self.settings,
            "tasks": list(self.tasks),
            "controls": list(self.controls),
            "solved": {label: solved.tolist() for label, solved in self.solved.items()},
            "returns": {label: returns.tolist() for label, returns in self.returns.items()},
            "aggregates": {
                label: {name: list(interval) for name, interval in found.items()}
                for label, found in self.aggregates().items()
            },
            "provenance": provenance("minimax-ued"),
        }
        write_json(folder / "evaluation.json", content)
        files = [folder / "evaluation.json", plots.save_figure(self.figure(), folder / "evaluation.png")]
        if self.mazes:
            seed = self.settings["seed"]
            files.append(draw_test_mazes(list(self.mazes), folder / "mazes.png", seed=seed))
        return files


def make_scorecard(
    runs: Sequence[Path],
    *,
    mazes: Sequence[str] = (),
    episodes: int = 10,
    seed: int = 0,
    controls: bool = True,
    fallback: bool = False,
) -> Scorecard:
    """Measure the newest checkpoint of every run.

    Args:
        runs: run folders of `minimax-ued train`.
        mazes: test mazes; none means the twelve of `OOD_MAZES`.
        episodes: episodes on each test maze, and one on each held-out level.
        seed: of actions and procedural mazes; the same for every run.
        controls: measure the untrained student and the random policy of the first run too.
        fallback: where the newest checkpoint is damaged, take the newest intact one.

    Raises:
        UserError: a folder holds no such run, or a maze is unknown.
        CheckpointError: the newest checkpoint is damaged.
    """
    names = tuple(mazes) or OOD_MAZES
    solved: dict[str, np.ndarray] = {}
    returns: dict[str, np.ndarray] = {}
    trainers: list[UEDTrainer] = []
    tasks: tuple[str, ...] = ()
    for run, label in zip(runs, _labels(runs), strict=True):
        config = dataclasses.replace(load_config(TrainConfig, run), devices=1)
        # Runs of one configuration share a trainer, so that nothing is compiled twice.
        trainer = next((t for t in trainers if t.config == config), None) or UEDTrainer(config)
        trainers.append(trainer)
        state = restore(trainer, run, fallback=fallback)
        found, solved[label], returns[label] = _measure(trainer, state, names, episodes, seed, "sampled")
        if tasks and found != tasks:
            raise UserError(
                f"{run} was trained on mazes of {config.env.height} x {config.env.width}, for which other held-out "
                f"levels exist than for those of {runs[0]}: evaluate them one by one."
            )
        tasks = found
    if controls:
        trainer = trainers[0]
        state = trainer.init(fold_seed(seed, "untrained"))
        for label, policy in (("untrained student", "sampled"), ("random policy", "random")):
            _, solved[label], returns[label] = _measure(trainer, state, names, episodes, seed, policy)
    return Scorecard(
        tasks=tasks,
        mazes=names,
        solved=solved,
        returns=returns,
        controls=("untrained student", "random policy") if controls else (),
        settings={"seed": seed, "episodes": episodes, "runs": [str(run) for run in runs]},
    )


def _measure(
    trainer: UEDTrainer, state: Any, mazes: tuple[str, ...], episodes: int, seed: int, policy: Policy
) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    """Tasks, and f64 `[seeds, tasks]` solved rates and returns."""
    columns: dict[str, tuple[Any, Any]] = {}
    try:
        held_out = HeldOut(trainer, policy=policy)
    except UserError:  # none of this size
        held_out = None
    if held_out is not None:
        metrics = held_out(state, seed)
        columns["held out"] = metrics["solve_rate"], metrics["return"]
        columns["held out, hard"] = metrics["solve_rate_hard"], metrics["return_hard"]
    metrics = OODMazes(trainer, mazes, n_episodes=episodes, policy=policy)(state, seed)
    for name in mazes:
        columns[name] = metrics[f"solve_rate/{name}"], metrics[f"return/{name}"]
    solved, returns = (np.stack([np.asarray(c[i], float) for c in columns.values()], axis=1) for i in (0, 1))
    return tuple(columns), solved, returns


def _labels(runs: Sequence[Path]) -> list[str]:
    """Folder names, with their parents where that is needed to tell them apart."""
    names = [run.resolve().name for run in runs]
    if len(set(map(Path, runs))) < len(runs):
        raise UserError(f"A run is named twice among {', '.join(map(str, runs))}: name each once.")
    return names if len(set(names)) == len(names) else [str(run) for run in runs]


def _cell(interval: stats.Interval) -> str:
    point, low, high = interval
    return f"{point:.2f}" if low == high == point else f"{point:.2f} [{low:.2f}, {high:.2f}]"
