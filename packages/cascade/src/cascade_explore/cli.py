"""The command `cascade-explore`. Loads no array library before a command runs."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any

from cascade_explore.config import PRESET_HELP, PRESETS, LabelConfig, TrainConfig
from paperloop.cli import App, DemoOptions, Device, Positional, RunOptions, start_jax
from paperloop.settings import Count, Ge, Seed, fault, settings

__all__ = ["main"]

app = App("cascade-explore", "Reward-free exploration by a population of explorers in a handful of deployments.")


@app.command(
    options=RunOptions,
    config=TrainConfig,
    presets=PRESETS,
    preset_help=PRESET_HELP,
    essentials=("env.type", "explorer.type", "deployments", "env_steps", "updates", "seeds"),
)
def train(options: RunOptions, config: TrainConfig) -> None:
    """Explore without rewards: deploy a population, train on what it brought, deploy again.

    Continues what is in the run folder. Afterwards `cascade-explore label OUT` learns tasks from what was found.
    """
    start_jax(options.device)
    from cascade_explore.reports.runs import explored_report
    from cascade_explore.trainer import ExploreTrainer
    from paperloop import run
    from paperloop_lab.sinks import make_sinks

    arguments: dict[str, Any] = options.run_arguments()
    arguments |= {"log_every": options.log_every or 1, "sinks": make_sinks(options.sinks)}
    trainer = ExploreTrainer(config)
    state = run(trainer, options.out, steps=config.steps, **arguments)
    explored_report(trainer, state, options.out / "plots", quiet=options.quiet)


@settings
class LabelOptions:
    """What `label` takes.

    Attributes:
        run: the run folder of `train`
        task: by name (reward; at:X,Y in a grid; stand walk run flip; Crafter's achievements) or FILE.py:FUNCTION;
            several are learned in one program
        out: a folder for the tasks' run (None: tasks/ in the run folder)
        updates: of reward heads and policies
        episodes: of each task and seed to try it in the environment
        horizon: imagined steps
        seed: of the policies and of trying them
        device: where to compute; auto: the GPU where there is one
        quiet: no progress bar, no table
    """

    run: Positional[Path]
    task: tuple[str, ...] = ("reward",)
    out: Path | None = None
    updates: Count = 1000
    episodes: Count = 20
    horizon: Annotated[int, Ge(2)] = 10
    seed: Seed = 0
    device: Device = "auto"
    quiet: bool = False

    def __post_init__(self) -> None:
        if not self.task or len(set(self.task)) < len(self.task):
            raise fault(self, "task", "at least one task, and none twice")


@app.command(options=LabelOptions)
def label(options: LabelOptions) -> None:
    """Learn tasks from what a run found, without further interaction: zero-shot.

    Labels the replay, trains a reward head and a policy for each task in the frozen world model, and tries the policies
    in the environment. A function of your own takes rows, a dictionary of arrays [streams, steps, ...], to rewards
    [streams, steps]. Continues what is in the folder.
    """
    start_jax(options.device)
    from cascade_explore.reports.runs import label_run

    actor = dataclasses.replace(LabelConfig(run="").actor, horizon=options.horizon)
    per_step = max(d for d in range(1, 51) if options.updates % d == 0)
    config = LabelConfig(
        run=str(options.run), tasks=options.task, actor=actor, updates=options.updates, updates_per_step=per_step
    )
    out = options.out or options.run / "tasks"
    label_run(config, out, seed=options.seed, episodes=options.episodes, quiet=options.quiet)


@settings
class TabularOptions:
    """What `tabular` takes.

    Attributes:
        out: a folder for the table and the figures
        agents: policies in a deployment
        deployments: the first is random
        layouts: of each family of rooms; intervals are over them
        seed: of ties and random actions
        device: where to compute; auto: the GPU where there is one
    """

    out: Path
    agents: Count = 10
    deployments: Count = 6
    layouts: Count = 10
    seed: Seed = 0
    device: Device = "auto"


@app.command(options=TabularOptions)
def tabular(options: TabularOptions) -> None:
    """Compare methods of exploration by planning in tables: a binary tree in closed form, and rooms.

    Shows what coordination is worth when the model is exact; takes minutes on a CPU.
    """
    start_jax(options.device)
    from cascade_explore.reports.tabular import tabular_report

    tabular_report(
        options.out, layouts=options.layouts, agents=options.agents, deployments=options.deployments, seed=options.seed
    )


@app.command(options=DemoOptions)
def demo(options: DemoOptions) -> None:
    """Show it in half a minute: ten explorers in four rooms, planning in tables, and where each of them went."""
    start_jax(options.device)
    from cascade_explore.reports.tabular import tabular_report

    tabular_report(options.out, layouts=2, agents=10, deployments=6, seed=0, rooms_only="four_rooms")


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    return app.main(argv)
