"""The result of an evaluation: what runs and controls did on every task, with intervals over seeds."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from minimax_ued.config import TrainConfig
from minimax_ued.envs.maze import Maze
from minimax_ued.envs.maze.level import Level
from minimax_ued.evaluation.cvar import ALPHAS, CVaR, PathBin, WinRates, by_path_length, tails
from minimax_ued.evaluation.evaluate import OOD_MAZES, HeldOut, OODMazes, OwnLevels, Policy
from minimax_ued.exhibits.history import KEPT_SPLIT, History, read_history
from minimax_ued.exhibits.snapshots import LevelSnapshots
from minimax_ued.trainer import UEDTrainer
from paperloop.errors import UserError, setting
from paperloop.loop.runner import restore
from paperloop.seeds import fold_seed
from paperloop.settings import load_config
from paperloop_lab import stats

__all__ = ["Measured", "Scorecard", "make_scorecard", "standard_evaluators"]

_REPS = 10_000  # of the bootstrap
_CPU_LEVELS = 2000  # of the CVaR, unless told otherwise: about a minute for three seeds of a small student


def standard_evaluators(trainer: UEDTrainer, folder: Path | None = None) -> dict[str, Any]:
    """Return what `train` measures on the way.

    Held-out levels, where there are any of the size of the mazes, and the levels that the run trains on, where the
    method has a curriculum.

    Args:
        trainer: whose states are measured.
        folder: where snapshots of the levels go; None for none.
    """
    evaluators: dict[str, Any] = {}
    try:
        evaluators["held_out"] = HeldOut(trainer)
    except UserError:
        if isinstance(trainer.env, Maze):
            evaluators["mazes"] = OODMazes(trainer, OOD_MAZES[:3])
    method = trainer.config.method_spec
    if method.curated or method.teacher:
        evaluators[KEPT_SPLIT] = LevelSnapshots(trainer, folder)
    return evaluators


@dataclasses.dataclass(frozen=True)
class Measured:
    """What one student of one run, or one control, did.

    Attributes:
        solved: task -> f64 `[seeds]`, rate of solved episodes.
        returns: task -> f64 `[seeds]`, mean undiscounted return.
        regrets: task -> f64 `[seeds]`, mean of the best possible return minus this one; tasks without one are absent.
        win_rates: on the levels of the CVaR, or None.
        own: f64 `[seeds, L]`, solved rate on each level of the user's, or None.
        control: whether it is a control.
        run: the run folder, None for a control.
        source: the run's label, which several students of it share.
        budget: what the run is and how far it was trained.
        history: what the run trained on, None where it did not log it.
    """

    solved: dict[str, np.ndarray]
    returns: dict[str, np.ndarray]
    regrets: dict[str, np.ndarray]
    win_rates: WinRates | None = None
    own: np.ndarray | None = None
    control: bool = False
    run: Path | None = None
    source: str = ""
    budget: dict[str, Any] = dataclasses.field(default_factory=dict)
    history: History | None = None

    @property
    def seeds(self) -> int:
        """Number of seeds."""
        return len(next(iter(self.solved.values())))


@dataclasses.dataclass(frozen=True)
class Scorecard:
    """Runs and controls side by side.

    Attributes:
        tasks: what was played: "held out", "held out, hard", "own levels", and test mazes.
        mazes: which of the tasks are test mazes.
        measured: label -> what came of it; runs first, then controls.
        tail: the CVaR with its levels, None if it was left out.
        own: the levels of the user's, or None.
        settings: seed, numbers of episodes and so on.
        notes: sentences about what was left out and why.
    """

    tasks: tuple[str, ...]
    mazes: tuple[str, ...]
    measured: dict[str, Measured]
    tail: CVaR | None
    own: Level | None
    settings: dict[str, Any]
    notes: tuple[str, ...] = ()

    @property
    def runs(self) -> dict[str, Measured]:
        """Everything but the controls."""
        return {label: one for label, one in self.measured.items() if not one.control}

    @property
    def histories(self) -> dict[str, History]:
        """Source -> what the run trained on, for those that logged it; students of one run share theirs."""
        return {one.source: one.history for one in self.runs.values() if one.history is not None}

    @property
    def folders(self) -> dict[str, Path]:
        """Source -> run folder."""
        return {one.source: one.run for one in self.runs.values() if one.run is not None}

    def scores(self, label: str, kind: str = "solved") -> np.ndarray:
        """Return f64 `[seeds, tasks]`; `kind` is "solved", "returns" or "regrets". NaN where a task has none."""
        values = getattr(self.measured[label], kind)
        nothing = np.full(self.measured[label].seeds, np.nan)
        return np.stack([values.get(task, nothing) for task in self.tasks], axis=1)

    def interval(self, values: np.ndarray, statistic: str = "mean") -> stats.Interval:
        """Return a statistic of `[seeds]` or `[seeds, tasks]` with its 95 % stratified bootstrap interval."""
        return stats.stratified_bootstrap(values, statistic, reps=_REPS)

    def aggregates(self, mazes: Sequence[str] | None = None) -> dict[str, dict[str, stats.Interval]]:
        """Return label -> "mean", "iqm" and "optimality_gap" of the solved rate over test mazes and seeds.

        Args:
            mazes: which; None for all.
        """
        columns = [self.tasks.index(name) for name in (self.mazes if mazes is None else mazes)]
        if not columns:
            return {}
        return {
            label: {
                name: self.interval(self.scores(label)[:, columns], name) for name in ("mean", "iqm", "optimality_gap")
            }
            for label in self.measured
        }

    @property
    def alphas(self) -> tuple[float, ...]:
        """The parts of the CVaR's levels that hold at least one level."""
        return tuple(alpha for alpha in ALPHAS if self.tail is not None and alpha * self.tail.n_levels >= 1)

    @property
    def spread(self) -> str:
        """What the width of an interval says, for captions."""
        several = any(one.seeds > 1 for one in self.runs.values())
        return "95 % bootstrap interval over seeds" if several else "one seed, so no interval"

    def tails(self) -> dict[str, dict[float, stats.Interval]]:
        """Return label -> alpha -> mean win rate on the worst alpha of the levels, for the runs."""
        found = {label: one.win_rates for label, one in self.runs.items()}
        return {
            label: {
                alpha: self.interval(column)
                for alpha, column in zip(self.alphas, tails(win_rates, self.alphas).T, strict=True)
            }
            for label, win_rates in found.items()
            if win_rates is not None
        }

    def path_bins(self) -> dict[str, list[PathBin]]:
        """Return label -> win rates by the length of the shortest path; empty where these are not mazes."""
        if self.tail is None or self.tail.path_lengths is None:
            return {}
        return {
            label: by_path_length(one.win_rates, self.tail.path_lengths)
            for label, one in self.runs.items()
            if one.win_rates is not None
        }

    def tail_regrets(self) -> dict[str, stats.Interval]:
        """Return label -> mean regret on the levels of the CVaR; empty where the best returns are not known."""
        if self.tail is None or self.tail.optimal_returns is None:
            return {}
        best = self.tail.optimal_returns
        return {
            label: self.interval((best - one.win_rates.returns).mean(1))
            for label, one in self.runs.items()
            if one.win_rates is not None
        }


def make_scorecard(
    runs: Sequence[Path],
    *,
    mazes: Sequence[str] = (),
    episodes: int = 10,
    seed: int = 0,
    students: Sequence[int] = (0,),
    controls: bool = True,
    cvar_levels: int | None = None,
    cvar_attempts: int = 10,
    own_levels: Level | None = None,
) -> Scorecard:
    """Measure the newest checkpoint of every run.

    Args:
        runs: run folders of `minimax-ued train`.
        mazes: test mazes; none means the twelve of `OOD_MAZES`.
        episodes: on each test maze and each level of the user's; held-out levels are played once each.
        seed: of actions and procedural mazes; the same for every run.
        students: which of the students that a method trains side by side; each makes a row of its own.
        controls: measure the untrained student and the random policy of the first run too.
        cvar_levels: levels of the CVaR; None for all on a GPU and 2,000 on a CPU; 0 leaves the CVaR out.
        cvar_attempts: attempts at each of them, in each of the two rounds.
        own_levels: mazes of the user's, leading axis L.

    Raises:
        UserError: a folder holds no such run, a maze is unknown, a run has no such student, or an argument is out of
            range.
        CheckpointError: the newest checkpoint is damaged.
    """
    configs = [dataclasses.replace(load_config(TrainConfig, run), devices=1) for run in runs]
    _check(runs, configs, students)
    names = tuple(mazes) or OOD_MAZES
    measured: dict[str, Measured] = {}
    notes: list[str] = []
    plans: dict[TrainConfig, _Plan] = {}  # runs of one configuration share it, so that nothing is compiled twice
    for run, config, label in zip(runs, configs, _labels(runs), strict=True):
        if config not in plans:
            plans[config] = _Plan(UEDTrainer(config), names, episodes, seed, (cvar_levels, cvar_attempts), own_levels)
        plan, first = plans[config], plans[configs[0]]
        if plan.tasks != first.tasks:
            raise UserError(
                f"{run} was trained on {_described(config)} and {runs[0]} on {_described(configs[0])}, for which other "
                "levels are kept for testing: evaluate them one by one."
            )
        state = restore(plan.trainer, run)
        notes += [f"{label}: {note}" for note in plan.trainer.final_notes(state)]
        try:
            history = read_history(run)
        except UserError:
            history = None
        for student in students:
            name = label if len(students) == 1 and student == 0 else f"{label}, student {student}"
            one = plan.measure(state, "sampled", student)
            budget = _budget(plan.trainer, state, student)
            measured[name] = dataclasses.replace(one, run=run, source=label, budget=budget, history=history)
    plan = plans[configs[0]]
    if controls:
        state = plan.trainer.init(fold_seed(seed, "untrained"))
        for label, policy in (("untrained student", "sampled"), ("random policy", "random")):
            measured[label] = dataclasses.replace(plan.measure(state, policy, 0, tail=False), control=True)
    return Scorecard(
        tasks=plan.tasks,
        mazes=plan.mazes,
        measured=measured,
        tail=plan.tail,
        own=own_levels,
        settings={
            "seed": seed,
            "episodes": episodes,
            "policy": "sampled",
            "students": list(students),
            "cvar_levels": 0 if plan.tail is None else plan.tail.n_levels,
            "cvar_attempts": cvar_attempts,
            "runs": [str(run) for run in runs],
        },
        notes=tuple(dict.fromkeys([*notes, *(note for one in plans.values() for note in one.notes)])),
    )


class _Plan:
    """The evaluators of one trainer."""

    def __init__(
        self,
        trainer: UEDTrainer,
        mazes: tuple[str, ...],
        episodes: int,
        seed: int,
        cvar: tuple[int | None, int],  # levels and attempts
        own: Level | None,
    ) -> None:
        self.trainer, self.seed, self.episodes, self.own = trainer, seed, episodes, own
        self.notes: list[str] = []
        self.mazes = mazes if isinstance(trainer.env, Maze) else ()
        if not self.mazes:
            self.notes.append(f"The test mazes are left out: {type(trainer.env).__name__} is not a maze.")
        self.tasks: tuple[str, ...] = ()
        try:
            self.tasks += ("held out", "held out, hard")[: 1 + HeldOut(trainer).hard.any()]
        except UserError as error:
            self.notes.append(str(error))
        self.tail = _tail(trainer, *cvar) if self.tasks and cvar[0] != 0 else None
        self.tasks += ("own levels",) * (own is not None) + self.mazes
        if not self.tasks:
            raise UserError(f"There is nothing to measure a student of {type(trainer.env).__name__} on.")

    def measure(self, state: Any, policy: Policy, student: int, tail: bool = True) -> Measured:
        """Play everything. Evaluators compile by value, so that those made here share their programs."""
        found = Measured({}, {}, {})
        kinds = {"solve_rate": found.solved, "return": found.returns, "regret": found.regrets}
        how: dict[str, Any] = {"policy": policy, "student": student}

        def take(task: str, metrics: Any, suffix: str = "") -> None:
            for kind, into in kinds.items():
                if kind + suffix in metrics:
                    into[task] = np.asarray(metrics[kind + suffix], float)

        if "held out" in self.tasks:
            metrics = HeldOut(self.trainer, **how)(state, self.seed)
            take("held out", metrics)
            take("held out, hard", metrics, "_hard")
        own = None
        if self.own is not None:
            levels = OwnLevels(self.trainer, self.own, n_episodes=self.episodes, **how)
            played = levels.episodes(state, self.seed)
            own = np.asarray(played.solved.mean(-1), float)
            take("own levels", levels.summary(played))
        if self.mazes:
            metrics = OODMazes(self.trainer, self.mazes, n_episodes=self.episodes, **how)(state, self.seed)
            for name in self.mazes:
                take(name, metrics, f"/{name}")
        rates = self.tail.win_rates(state, self.seed, student=student) if self.tail is not None and tail else None
        return dataclasses.replace(found, win_rates=rates, own=own)


def _tail(trainer: UEDTrainer, n_levels: int | None, attempts: int) -> CVaR:
    if n_levels is not None or jax.default_backend() != "cpu":
        return CVaR(trainer, n_levels=n_levels, attempts=attempts)
    everything = CVaR(trainer, attempts=attempts)
    return everything if everything.n_levels <= _CPU_LEVELS else CVaR(trainer, n_levels=_CPU_LEVELS, attempts=attempts)


def _check(runs: Sequence[Path], configs: Sequence[TrainConfig], students: Sequence[int]) -> None:
    for run, config in zip(runs, configs, strict=True):
        for student in students:
            if not 0 <= student < config.n_students:
                there = "one student, 0" if config.n_students == 1 else f"students 0 to {config.n_students - 1}"
                raise UserError(
                    f"{setting('student')} is {student}, but {run} is a run of {config.method!r}, which has {there}."
                )
    if not students or len(set(students)) != len(students):
        raise UserError(f"{setting('student')} is {list(students)}, but must name at least one, and each once.")


def _budget(trainer: UEDTrainer, state: Any, student: int) -> dict[str, Any]:
    config = trainer.config
    return {
        "method": config.method,
        "student": student,
        "trained_on": _described(config),
        "network": f"{config.student.arch}-{config.student.features}",
        "environments": config.n_envs,
        "rollout_steps": config.rollout_steps,
        "seeds": config.seeds,
        "env_steps_per_dispatch": config.env_steps_per_cycle * config.cycles_per_step,
        **{name: int(value) for name, value in trainer.progress(state).items()},
    }


def _described(config: TrainConfig) -> str:
    if config.domain != "maze":
        return config.domain
    walls = f"{config.env.n_walls} walls"
    if config.method_spec.teacher:
        walls = f"up to {config.teacher.editor.n_walls} walls of a teacher"
    elif config.env.sample_n_walls:
        walls = f"up to {walls}"
    edits = " and edits" if config.method_spec.mutates else ""
    return f"{config.env.height} x {config.env.width} mazes, {walls}{edits}"


def _labels(runs: Sequence[Path]) -> list[str]:
    """Folder names, with their parents where that is needed to tell them apart."""
    names = [run.resolve().name for run in runs]
    if len({run.resolve() for run in runs}) < len(runs):
        raise UserError(f"A run is named twice among {', '.join(map(str, runs))}: name each once.")
    return names if len(set(names)) == len(names) else [str(run) for run in runs]
