"""The command `minimax-ued`: train, evaluate, levels, demo."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Annotated, Any

import tyro

from minimax_ued.config import PRESETS, TrainConfig
from minimax_ued.methods import METHODS
from outerloop.command import App, Device, RunOptions, select_device
from outerloop.errors import UserError

__all__ = ["main"]

app = App("minimax-ued", "Unsupervised environment design: train maze agents on curricula of levels, and measure them.")

PRESET_HELP = {
    "small": "7x7 mazes, domain randomisation; about a minute of two CPU cores per seed",
    "small_plr": "the same by prioritised level replay",
    "small_robust_plr": "the same by robust prioritised level replay, at equal gradient updates",
    "maze13_dr": "13x13 mazes, domain randomisation, as the reference ships it (a GPU run)",
    "maze13_plr": "13x13 mazes, prioritised level replay, as the reference ships it (a GPU run)",
    "maze13_robust_plr": "13x13 mazes, robust prioritised level replay (a GPU run)",
    "cpu13_dr": "13x13 mazes, domain randomisation, a small student; minutes of two CPU cores",
}


@app.command(options=RunOptions, config=TrainConfig, presets=PRESETS, preset_help=PRESET_HELP)
def train(options: RunOptions, config: TrainConfig) -> None:
    """Train students on a curriculum of mazes, evaluate them, and draw figures.

    Continues what is in the run folder. Afterwards `minimax-ued evaluate OUT` measures more, and `outerloop report
    OUT...` compares runs.
    """
    _start_jax(options.device, config.devices)
    from minimax_ued.gallery import draw_run
    from minimax_ued.scorecard import standard_evaluators
    from minimax_ued.trainer import UEDTrainer
    from outerloop.report import report, report_command
    from outerloop.runner import run

    trainer = UEDTrainer(config)
    evaluators = standard_evaluators(trainer)
    arguments = options.run_arguments()
    arguments["eval_every"] = options.eval_every or max(1, trainer.num_steps // 5)
    arguments["log_every"] = options.log_every or 1
    state = run(trainer, options.out, steps=trainer.num_steps, evaluators=evaluators, **arguments)
    plots = options.out / "plots"
    plots.mkdir(exist_ok=True)
    draw_run(trainer, state, plots, seed=options.seed)
    shown = [f"{next(iter(evaluators))}/solve_rate", "train/return"]
    if "held_out" in evaluators:
        shown.insert(1, "held_out/solve_rate_hard")
    describe = report if options.quiet else report_command
    describe([options.out], plots, metrics=shown, x="env_steps")


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """What `evaluate` takes."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """run folders; each run's newest checkpoint is measured"""
    out: Path | None = None
    """where evaluation.json and evaluation.png go (None: into the run's plots/, or ./evaluation for several runs)"""
    mazes: tuple[str, ...] = ()
    """test mazes by name (none: the twelve of the UED literature)"""
    episodes: int = 10
    """episodes on each test maze"""
    seed: int = 0
    """of actions and of procedural mazes; every run meets the same"""
    controls: bool = True
    """measure the untrained student and the uniformly random policy too"""
    fallback: bool = False
    """where the newest checkpoint is damaged, take the newest intact one"""
    device: Device = "auto"
    """where to compute"""

    def __post_init__(self) -> None:
        if not self.runs:
            raise UserError("evaluate needs at least one run folder: minimax-ued evaluate runs/NAME.")
        if self.episodes < 1:
            raise UserError(f"episodes is {self.episodes}; it must be at least 1.")


@app.command(options=EvaluateOptions)
def evaluate(options: EvaluateOptions) -> None:
    """Measure trained students on held-out levels and on the out-of-distribution test mazes.

    Prints solved rates with intervals over seeds beside the untrained student and the random policy.
    """
    _start_jax(options.device, 1)
    from minimax_ued.scorecard import make_scorecard

    out = options.out
    if out is None:
        out = options.runs[0] / "plots" if len(options.runs) == 1 else Path("evaluation")
    card = make_scorecard(
        options.runs,
        mazes=options.mazes,
        episodes=options.episodes,
        seed=options.seed,
        controls=options.controls,
        fallback=options.fallback,
    )
    card.print()
    for file in card.write(out):
        print(file)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LevelsOptions:
    """What `levels` takes."""

    out: Path = Path("levels.png")
    """the picture to write"""
    mazes: tuple[str, ...] = ()
    """test mazes by name; none draws random levels of the configuration instead"""
    n: int = 24
    """random levels to draw"""
    seed: int = 0
    """of the levels"""


@app.command(options=LevelsOptions, config=TrainConfig, presets=PRESETS, preset_help=PRESET_HELP)
def levels(options: LevelsOptions, config: TrainConfig) -> None:
    """Draw test mazes, or random levels of a configuration with the number of actions they take."""
    _start_jax("cpu", 1)
    from minimax_ued.envs.maze import Maze
    from minimax_ued.gallery import action_labels, draw_test_mazes, random_levels
    from minimax_ued.pictures import level_sheet, save_png

    if options.mazes:
        print(draw_test_mazes(list(options.mazes), options.out, seed=options.seed))
        return
    if options.n < 1:
        raise UserError(f"n is {options.n}; it must be at least 1.")
    drawn, actions = random_levels(Maze(config.env), options.seed, options.n)
    print(save_png(options.out, level_sheet(drawn, action_labels(actions))))


@dataclasses.dataclass(frozen=True, kw_only=True)
class DemoOptions:
    """What `demo` takes."""

    out: Path = Path("demo/minimax-ued")
    """where the run and its figures go"""
    seed: int = 0
    """everything random follows from it"""


@app.command(options=DemoOptions)
def demo(options: DemoOptions) -> None:
    """Train the small preset in about a minute, evaluate it, draw figures and a GIF."""
    train(RunOptions(out=options.out, seed=options.seed), PRESETS["small"])
    evaluate(EvaluateOptions(runs=(options.out,), seed=options.seed))


@app.command()
def methods() -> None:
    """List the methods with their papers."""
    width = max(map(len, METHODS))
    for method in METHODS.values():
        print(f"{method.name:<{width}}  {method.summary} ({method.reference})")


def _start_jax(device: Device, devices: int) -> None:
    """Choose where JAX computes; on the CPU, make as many devices as the configuration asks for.

    Compiled programs are kept in the user's cache folder, unless JAX is told another one, so that the next command
    starts in seconds.
    """
    import jax

    settings: Any = jax.config  # defines its attributes at run time
    if settings.jax_compilation_cache_dir is None:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        settings.update("jax_compilation_cache_dir", str(cache / "outerloop" / "jax"))
        settings.update("jax_persistent_cache_min_compile_time_secs", 0.3)
    if devices > 1:
        settings.update("jax_num_cpu_devices", devices)
    select_device(device, "jax")


main = app.main
