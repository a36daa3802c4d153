"""The command `minimax-ued`: train, evaluate, export, levels, demo."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from minimax_ued.config import SCHEMA, MazeConfig, TrainConfig
from minimax_ued.methods import METHODS
from minimax_ued.presets import PRESET_HELP, PRESETS
from paperloop.cli import App, Device, Positional, RunOptions, start_jax
from paperloop.errors import UserError, printable, setting
from paperloop.settings import Count, CountOrZero, Seed, fault, flatten, settings, to_dict

__all__ = ["main"]

app = App("minimax-ued", "Unsupervised environment design: train maze agents on curricula of levels, and measure them.")


@app.command(
    options=RunOptions,
    config=TrainConfig,
    schema=SCHEMA,
    presets=PRESETS,
    preset_help=PRESET_HELP,
    essentials=("seed", "method.type", "total_env_steps", "seeds", "n_envs", "ppo.lr", "env.height", "env.width"),
)
def train(options: RunOptions, config: TrainConfig) -> None:
    """Train students on a curriculum of mazes, evaluate them, and draw figures.

    Continues what is in the run folder. Afterwards `minimax-ued evaluate OUT` measures more, and `paperloop report
    OUT...` compares runs.
    """
    _start_jax(options.device, config.devices)
    from minimax_ued.exhibits.gallery import draw_run
    from minimax_ued.trainer import UEDTrainer
    from paperloop.loop.folder import RunFolder
    from paperloop.loop.runner import run
    from paperloop_lab.report import report, report_command
    from paperloop_lab.sinks import make_sinks

    trainer = UEDTrainer(config)
    evaluators = _evaluators(trainer)
    arguments: dict[str, Any] = options.run_arguments() | {"sinks": make_sinks(options.sinks)}
    arguments["eval_every"] = options.eval_every or max(1, trainer.num_steps // 5)
    arguments["log_every"] = options.log_every or 1
    RunFolder(options.out).check(trainer, seed=options.seed, resume=options.resume)  # before compiling is spoken of
    _say_how_long(config, options)
    state = run(trainer, options.out, steps=trainer.num_steps, evaluators=evaluators, **arguments)
    plots = options.out / "plots"
    plots.mkdir(exist_ok=True)
    draw_run(trainer, state, plots, seed=options.seed)
    shown = [f"{split}/solve_rate" for split in evaluators if split != "kept"] + ["train/return"]
    if "held_out" in evaluators and evaluators["held_out"].hard.any():
        shown.insert(1, "held_out/solve_rate_hard")
    if config.env.type == "maze":
        shown += [f"{split}{name}" for split in ("train/level/", "kept/") for name in ("n_walls", "path_length")]
    describe = report if options.quiet else report_command
    describe([options.out], plots, metrics=[name for name in shown if name[:5] != "kept/" or "kept" in evaluators],
             x="env_steps")  # fmt: skip


def _evaluators(trainer: Any) -> dict[str, Any]:
    """What `train` measures on the way: test levels of the size of the mazes, and what is trained on."""
    from minimax_ued.envs.maze import Maze
    from minimax_ued.evaluation.evaluate import HeldOut
    from minimax_ued.evaluation.kept import KeptLevels
    from minimax_ued.evaluation.mazes import OODMazes
    from minimax_ued.levels.suite import OOD_MAZES

    evaluators: dict[str, Any] = {}
    try:
        evaluators["held_out"] = HeldOut(trainer)
    except UserError:
        if isinstance(trainer.env, Maze):
            evaluators["mazes"] = OODMazes(trainer, OOD_MAZES[:3])
    if trainer.config.method.type != "dr":
        evaluators["kept"] = KeptLevels(trainer)
    return evaluators


def _say_how_long(config: TrainConfig, options: RunOptions) -> None:
    """Say how much is really trained, where that is much more than was asked for, and that compiling takes a while."""
    planned = config.num_steps * config.cycles_per_step * config.env_steps_per_cycle
    if planned > 1.1 * config.total_env_steps:
        print(
            f"Training takes about {planned:,.0f} environment steps, not {config.total_env_steps:,}: a dispatch is "
            f"{planned / config.num_steps:,.0f} of them ({setting('cycles_per_step')} is {config.cycles_per_step}).",
            file=sys.stderr,
        )
    if not options.quiet:
        print("Compiling; the first time that takes half a minute or more.", file=sys.stderr, flush=True)


@settings
class EvaluateOptions:
    """What `evaluate` takes.

    Attributes:
        runs: run folders; each run's newest checkpoint is measured
        out: where the report goes (None: into the run's plots/, or ./evaluation for several runs)
        mazes: test mazes by name; "ood" (the default) is the twelve of the UED literature
        episodes: episodes on each test maze, and on each level of your own
        levels: levels of your own to measure on too: an .npz file, or text that draws mazes with blank lines between
            them
        student: which of the students that a method trains together; several are measured one after the other
        cvar_levels: solvable levels for the win rate on the worst ones (None: 2000 on a CPU, all on a GPU; 0: leave it
            out)
        cvar_attempts: attempts at each of these levels, in each of two independent rounds
        seed: of actions and of procedural mazes; every run meets the same
        controls: measure the untrained student and the uniformly random policy too
        device: where to compute
    """

    runs: Positional[tuple[Path, ...]]
    out: Path | None = None
    mazes: tuple[str, ...] = ()
    episodes: Count = 100
    levels: Path | None = None
    student: tuple[CountOrZero, ...] = (0,)
    cvar_levels: CountOrZero | None = None
    cvar_attempts: Count = 10
    seed: Seed = 0
    controls: bool = True
    device: Device = "auto"


@app.command(options=EvaluateOptions, essentials=("mazes", "episodes", "levels"))
def evaluate(options: EvaluateOptions) -> None:
    """Measure trained students, and write a report in Markdown and JSON with a figure.

    Solved rate, return and regret on held-out levels and on the out-of-distribution test mazes, next to the untrained
    student and the random policy; and the win rate on the worst of many solvable levels. All with intervals over seeds.
    """
    from minimax_ued.levels.suite import expand_mazes

    mazes = expand_mazes(options.mazes)  # before JAX starts, which takes its time
    own = None
    if options.levels is not None:
        from minimax_ued.levels.files import load_levels

        own = load_levels(options.levels)
    _start_jax(options.device, 1)
    from minimax_ued.evaluation.measure import evaluate_runs
    from minimax_ued.evaluation.report import print_evaluation, write_evaluation

    out = options.out
    if out is None:
        out = options.runs[0] / "plots" if len(options.runs) == 1 else Path("evaluation")
    found = evaluate_runs(
        options.runs,
        mazes=mazes,
        episodes=options.episodes,
        seed=options.seed,
        students=options.student,
        controls=options.controls,
        cvar_levels=options.cvar_levels,
        cvar_attempts=options.cvar_attempts,
        own_levels=own,
    )
    print_evaluation(found)
    for file in write_evaluation(found, out):
        _print(file)


@settings
class ExportOptions:
    """What `export` takes.

    Attributes:
        run: the run folder
        out: the .npz file to write
        seed: which of the run's seeds
        student: which of the students that a method trains together
    """

    run: Positional[Path]
    out: Path
    seed: Seed = 0
    student: CountOrZero = 0


@app.command(options=ExportOptions)
def export(options: ExportOptions) -> None:
    """Write a trained student to one .npz file, which a page of NumPy runs (`minimax_ued.NumpyStudent`)."""
    _start_jax("cpu", 1)
    from minimax_ued.use.loading import load_run

    student = load_run(options.run).student(options.seed, options.student)
    print(f"Wrote {printable(str(student.export(options.out)))}.")


@settings
class LevelsOptions:
    """What `levels` takes.

    Attributes:
        out: the picture to write
        mazes: test mazes by name; without these and --levels, random levels of the configuration
        levels: levels of your own: an .npz file, or text that draws mazes with blank lines between them
        n: random levels to draw
        seed: of the levels
    """

    out: Path = Path("levels.png")
    mazes: tuple[str, ...] = ()
    levels: Path | None = None
    n: Count = 24
    seed: Seed = 0

    def __post_init__(self) -> None:
        if self.mazes and self.levels is not None:
            text = "{mazes} and {levels} are both given: draw test mazes, or a file of levels."
            raise fault(self, "levels", text=text)


@app.command(
    options=LevelsOptions,
    config=TrainConfig,
    schema=SCHEMA,
    presets=PRESETS,
    preset_help=PRESET_HELP,
    essentials=("mazes", "levels", "n", "seed", "env.height", "env.width", "env.n_walls"),
)
def levels(options: LevelsOptions, config: TrainConfig) -> None:
    """Draw test mazes, levels of your own, or random ones of a configuration, with the number of actions they take."""
    env = config.env
    if not options.mazes and options.levels is None and not isinstance(env, MazeConfig):
        raise fault(config, "env.type", "'maze', because only mazes can be drawn: choose a preset with mazes")
    own = None
    if options.levels is not None:
        from minimax_ued.levels.files import load_levels

        own = load_levels(options.levels)
    _start_jax("cpu", 1)
    import jax

    from minimax_ued.envs.maze import Maze
    from minimax_ued.exhibits.gallery import draw_levels, draw_test_mazes, random_levels

    if options.mazes:
        _print(draw_test_mazes(options.mazes, options.out, seed=options.seed))
        return
    if own is None and isinstance(env, MazeConfig):
        own = random_levels(Maze(env), jax.random.key(options.seed), options.n)
    _print(draw_levels(own, options.out))


@settings
class DemoOptions:
    """What `demo` takes.

    Attributes:
        out: where the run and its figures go
        seed: everything random follows from it
    """

    out: Path = Path("demo/minimax-ued")
    seed: Seed = 0


@app.command(options=DemoOptions)
def demo(options: DemoOptions) -> None:
    """Train the small preset in about a minute, evaluate it, draw figures and a GIF."""
    train(RunOptions(out=options.out, seed=options.seed), PRESETS["small"])
    evaluate(EvaluateOptions(runs=(options.out,), seed=options.seed))


@app.command()
def methods() -> None:
    """List the methods of the literature, what chooses each, and their papers."""
    for name, method in METHODS.items():
        print(f"{name}: {method.summary} ({method.reference})\n    {_options_of(method.settings)}")


def _options_of(method: Any) -> str:
    """The options that choose a method."""
    found, usual = flatten(to_dict(method)), flatten(to_dict(type(method)()))
    told = [f"--method.type {method.type}"]
    if getattr(method, "mutation", None) is not None:
        told.append("--method.mutation")
    if method.type == "paired" and method.buffer is not None:
        told.append("--method.buffer")
    changed = [path for path in usual if path in found and found[path] != usual[path]]
    return " ".join(told + [f"--method.{path.replace('_', '-')} {found[path]}" for path in changed])


def _print(file: Path) -> None:
    print(printable(str(file)))


def _start_jax(device: Device, devices: int) -> None:
    """Start JAX, and say what several devices on one CPU are."""
    if start_jax(device, devices) == "cpu" and devices > 1:
        print(
            f"{setting('devices')} is {devices}: the CPU appears as {devices} virtual devices, which share its "
            f"{os.cpu_count()} cores; that tries out the layout and makes nothing faster.",
            file=sys.stderr,
        )


main = app.main
