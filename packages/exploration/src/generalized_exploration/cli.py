"""The command `generalized-exploration`: run, grow, criteria, demo."""

from __future__ import annotations

from typing import Any

from generalized_exploration.config import (
    GROW_PRESET_HELP,
    GROW_PRESETS,
    PRESET_HELP,
    PRESETS,
    GrowConfig,
    RunConfig,
)
from paperloop.cli import App, DemoOptions, RunOptions, start_jax
from paperloop.settings import settings

__all__ = ["main"]

app = App("generalized-exploration", "Choose what to learn from next, and measure where each way of choosing fails.")


@app.command(
    options=RunOptions,
    config=RunConfig,
    presets=PRESETS,
    preset_help=PRESET_HELP,
    essentials=("task.type", "arms", "task.label_noise", "reference.share", "steps", "seeds"),
)
def run(options: RunOptions, config: RunConfig) -> None:
    """Train one learner for each criterion on the same data, and draw accuracy against steps and operations.

    Continues what is in the run folder.
    """
    start_jax(options.device)
    from generalized_exploration.report import selection_report
    from generalized_exploration.trainer import SelectionTrainer

    _train(SelectionTrainer(config), options, config.dispatches)
    selection_report(options.out, quiet=options.quiet)


@app.command(
    options=RunOptions,
    config=GrowConfig,
    presets=GROW_PRESETS,
    preset_help=GROW_PRESET_HELP,
    essentials=("arms", "size", "edits", "threshold", "steps", "seeds"),
)
def grow(options: RunOptions, config: GrowConfig) -> None:
    """Let learners edit the mazes that they learn from, and count the families of mazes that they come to pass.

    Continues what is in the run folder.
    """
    start_jax(options.device)
    from generalized_exploration.outer.trainer import GrowthTrainer
    from generalized_exploration.report import growth_report

    _train(GrowthTrainer(config), options, config.dispatches)
    growth_report(options.out, quiet=options.quiet)


def _train(trainer: Any, options: RunOptions, dispatches: int) -> None:
    import paperloop
    from paperloop_lab.sinks import make_sinks

    arguments: dict[str, Any] = options.run_arguments()
    arguments["log_every"] = options.log_every or 1
    paperloop.run(trainer, options.out, steps=dispatches, sinks=make_sinks(options.sinks), **arguments)


@settings
class CriteriaOptions:
    """What `criteria` takes: nothing."""


@app.command(options=CriteriaOptions)
def criteria(options: CriteriaOptions) -> None:
    """List the criteria: what each needs, and what may be expected of it."""
    from rich.console import Console
    from rich.table import Table

    from generalized_exploration.criteria.catalogue import CRITERIA

    table = Table("criterion", "needs", "lowest when mastered", "low on noise", box=None)
    for one in CRITERIA.values():
        table.add_row(one.name, ", ".join(one.needs) or "nothing", "yes" if one.mastered else "no", one.noise)
    Console().print(table)


@app.command(options=DemoOptions)
def demo(options: DemoOptions) -> None:
    """Show it in half a minute: uniform sampling, high loss and the reducible loss on digits with wrong labels."""
    start_jax(options.device)
    import dataclasses

    from generalized_exploration.report import selection_report
    from generalized_exploration.trainer import SelectionTrainer

    config = dataclasses.replace(PRESETS["digits"], arms=("uniform", "loss", "reducible_loss"), steps=500, seeds=3)
    run_options = RunOptions(out=options.out / "run", device=options.device)
    _train(SelectionTrainer(config), run_options, config.dispatches)
    selection_report(run_options.out, out=options.out)


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    return app.main(argv)
