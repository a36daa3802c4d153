"""What runs and controls do on every task, with intervals over seeds."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from minimax_ued.config import MazeConfig, TrainConfig
from minimax_ued.envs.maze import Maze
from minimax_ued.envs.maze.level import Level
from minimax_ued.evaluation.attempts import Policy
from minimax_ued.evaluation.cvar import ALPHAS, CVaR
from minimax_ued.evaluation.evaluate import HeldOut
from minimax_ued.evaluation.mazes import OODMazes
from minimax_ued.levels.suite import OOD_MAZES
from minimax_ued.trainer import UEDTrainer
from minimax_ued.use.loading import load_run
from paperloop.errors import UserError, setting
from paperloop.seeds import fold_seed
from paperloop_lab import stats

__all__ = ["Evaluation", "Measured", "evaluate_runs"]

_REPS = 10_000  # of the bootstrap
_CPU_LEVELS = 2000  # of the CVaR, unless told otherwise: about a minute for three seeds of a small student


@dataclasses.dataclass(frozen=True)
class Measured:
    """What one student of one run, or one control, did; every array is f64 `[seeds]`.

    Attributes:
        solved: task -> rate of solved episodes.
        returns: task -> mean undiscounted return.
        regrets: task -> mean of the best possible return minus this one; tasks without one are absent.
        tails: alpha -> mean win rate on the worst alpha of the levels; empty where that was left out.
        facts: what the run is and how far it was trained; empty for a control.
    """

    solved: dict[str, np.ndarray]
    returns: dict[str, np.ndarray]
    regrets: dict[str, np.ndarray]
    tails: dict[float, np.ndarray]
    facts: dict[str, Any]

    @property
    def seeds(self) -> int:
        """Number of seeds."""
        return len(next(iter(self.solved.values())))


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Runs and controls side by side.

    Attributes:
        tasks: what was played: "held out", "held out, hard", "own levels", and test mazes.
        mazes: which of the tasks are test mazes.
        measured: label -> what came of it; runs first, then controls.
        worst: of which and how many levels the tails are the worst; empty if they were left out.
        settings: seed, numbers of episodes and so on.
        notes: sentences about what was left out and why.
    """

    tasks: tuple[str, ...]
    mazes: tuple[str, ...]
    measured: dict[str, Measured]
    worst: str
    settings: dict[str, Any]
    notes: tuple[str, ...] = ()

    @property
    def runs(self) -> dict[str, Measured]:
        """Everything but the controls."""
        return {label: one for label, one in self.measured.items() if one.facts}

    def intervals(self, kind: str = "solved") -> dict[str, dict[Any, stats.Interval]]:
        """Return label -> task -> mean over seeds with its 95 % bootstrap interval.

        `kind` is "solved", "returns", "regrets" or "tails"; of "tails" the tasks are alphas.
        """
        return {
            label: {task: interval(values) for task, values in getattr(one, kind).items()}
            for label, one in self.measured.items()
        }

    def aggregates(self) -> dict[str, dict[str, stats.Interval]]:
        """Return label -> "mean", "iqm", "optimality_gap" of the solved rate over test mazes and seeds."""
        if not self.mazes:
            return {}
        scores = {label: np.stack([one.solved[m] for m in self.mazes], 1) for label, one in self.measured.items()}
        names = ("mean", "iqm", "optimality_gap")
        return {label: {name: interval(values, name) for name in names} for label, values in scores.items()}


def interval(values: np.ndarray, statistic: str = "mean") -> stats.Interval:
    """Return a statistic of `[seeds]` or `[seeds, tasks]` with its 95 % stratified bootstrap interval."""
    return stats.stratified_bootstrap(values, statistic, reps=_REPS)


def evaluate_runs(
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
) -> Evaluation:
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
    if len({Path(run).resolve() for run in runs}) < len(runs):
        raise UserError(f"A run is named twice among {', '.join(map(str, runs))}: name each once.")
    if not students or len(set(students)) != len(students):
        raise UserError(f"{setting('student')} is {list(students)}, but must name at least one, and each once.")
    suite = _Suite(tuple(mazes) or OOD_MAZES, episodes, seed, cvar_levels, cvar_attempts, own_levels)
    measured: dict[str, Measured] = {}
    first = None
    for run, label in zip(runs, _labels(runs), strict=True):
        loaded = load_run(run)
        suite.bind(loaded.trainer, run)
        first = first or loaded
        suite.notes += [f"{label}: {note}" for note in loaded.trainer.final_notes(loaded.state)]
        for student in students:
            loaded.trainer.student_params(loaded.state, student)  # raises an error if the student does not exist
            name = label if len(students) == 1 and student == 0 else f"{label}, student {student}"
            one = suite.measure(loaded.trainer, loaded.state, "sampled", student)
            measured[name] = dataclasses.replace(one, facts=_facts(run, loaded.trainer, loaded.state, student))
    if controls and first is not None:
        state = first.trainer.init(fold_seed(seed, "untrained"))
        for label, policy in (("untrained student", "sampled"), ("random policy", "random")):
            measured[label] = suite.measure(first.trainer, state, policy, 0, tail=False)
    settings = {"seed": seed, "episodes": episodes, "students": list(students), "cvar_attempts": cvar_attempts}
    notes = tuple(dict.fromkeys(suite.notes))
    return Evaluation(suite.tasks, suite.mazes, measured, suite.worst, settings, notes)


class _Suite:
    """What is played. Evaluators compile by value, so that those of equal runs share their programs."""

    def __init__(
        self,
        mazes: tuple[str, ...],
        episodes: int,
        seed: int,
        cvar_levels: int | None,
        cvar_attempts: int,
        own: Level | None,
    ) -> None:
        self.mazes, self.episodes, self.seed, self.own = mazes, episodes, seed, own
        self.cvar_levels, self.cvar_attempts = cvar_levels, cvar_attempts
        self.tasks: tuple[str, ...] = ()
        self.worst = ""
        self.notes: list[str] = []

    def bind(self, trainer: UEDTrainer, run: Path) -> None:
        """Find out what a run can be measured on; all runs must agree in it."""
        if not isinstance(trainer.env, Maze) and self.mazes:
            self.notes.append(f"The test mazes are left out: {type(trainer.env).__name__} is not a maze.")
            self.mazes = ()
        tasks: tuple[str, ...] = ()
        try:
            tasks += ("held out", "held out, hard")[: 1 + HeldOut(trainer).hard.any()]
        except UserError as error:
            self.notes.append(str(error))
        if tasks and self.cvar_levels != 0:
            tail = self._tail(trainer)
            self.worst = f"{tail.n_levels:,} levels of {tail.name}"
        tasks += ("own levels",) * (self.own is not None) + self.mazes
        if not tasks:
            raise UserError(f"There is nothing to measure a student of {type(trainer.env).__name__} on.")
        if self.tasks not in ((), tasks):
            raise UserError(f"{run} is tested on {tasks}, and the run before it on {self.tasks}: evaluate them apart.")
        self.tasks = tasks

    def measure(self, trainer: UEDTrainer, state: Any, policy: Policy, student: int, tail: bool = True) -> Measured:
        """Play everything."""
        found = Measured({}, {}, {}, {}, {})
        kinds = {"solve_rate": found.solved, "return": found.returns, "regret": found.regrets}
        how: dict[str, Any] = {"policy": policy, "student": student}

        def take(task: str, metrics: Any, suffix: str = "") -> None:
            for kind, into in kinds.items():
                if kind + suffix in metrics:
                    into[task] = np.asarray(metrics[kind + suffix], float)

        if "held out" in self.tasks:
            metrics = HeldOut(trainer, **how)(state, self.seed)
            take("held out", metrics)
            take("held out, hard", metrics, "_hard")
        if self.own is not None:
            take("own levels", HeldOut(trainer, self.own, n_episodes=self.episodes, **how)(state, self.seed))
        if self.mazes:
            metrics = OODMazes(trainer, self.mazes, n_episodes=self.episodes, **how)(state, self.seed)
            for name in self.mazes:
                take(name, metrics, f"/{name}")
        if tail and self.worst:
            cvar = self._tail(trainer, student)
            rates = cvar(state, self.seed)
            for alpha in ALPHAS:
                if alpha * cvar.n_levels >= 1:
                    found.tails[alpha] = rates[f"cvar_{100 * alpha:g}"]
        return found

    def _tail(self, trainer: UEDTrainer, student: int = 0) -> CVaR:
        n = self.cvar_levels
        how: dict[str, Any] = {"attempts": self.cvar_attempts, "student": student}
        if n is None and jax.default_backend() == "cpu":
            n = min(CVaR(trainer, **how).n_levels, _CPU_LEVELS)
        return CVaR(trainer, n_levels=n, **how)


def _facts(run: Path, trainer: UEDTrainer, state: Any, student: int) -> dict[str, Any]:
    config = trainer.config
    return {
        "folder": str(run),
        "method": config.method.name,
        "student": student,
        "trained_on": _described(config),
        "network": f"{config.student.core.type}-{config.student.core.features}",
        "environments": config.n_envs,
        "rollout_steps": config.rollout_steps,
        "seeds": config.seeds,
        **{name: int(value) for name, value in trainer.progress(state).items()},
    }


def _described(config: TrainConfig) -> str:
    env, method = config.env, config.method
    if not isinstance(env, MazeConfig):
        return env.type
    walls = f"{env.n_walls} walls"
    if method.teacher is not None:
        walls = f"up to {method.teacher.editor.n_walls} walls of a teacher"
    elif env.sample_n_walls:
        walls = f"up to {walls}"
    edits = "" if method.mutation is None else " and edits"
    return f"{env.height} x {env.width} mazes, {walls}{edits}"


def _labels(runs: Sequence[Path]) -> list[str]:
    """Folder names, with their parents where that is needed to tell them apart."""
    names = [Path(run).resolve().name for run in runs]
    return names if len(set(names)) == len(names) else [str(run) for run in runs]
