"""The command `cascade-explore`. Loads no array library before a command runs."""

from __future__ import annotations

from pathlib import Path

from paperloop.cli import App, Device, start_jax
from paperloop.settings import Count, Seed, settings

__all__ = ["main"]

app = App("cascade-explore", "Reward-free exploration by a population of explorers in a handful of deployments.")


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


@settings
class DemoOptions:
    """What `demo` takes.

    Attributes:
        out: a folder for the figures
        device: where to compute; auto: the GPU where there is one
    """

    out: Path
    device: Device = "auto"


@app.command(options=DemoOptions)
def demo(options: DemoOptions) -> None:
    """Show it in half a minute: ten explorers in four rooms, planning in tables, and where each of them went."""
    start_jax(options.device)
    from cascade_explore.reports.tabular import tabular_report

    tabular_report(options.out, layouts=2, agents=10, deployments=6, seed=0, rooms_only="four_rooms")


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    return app.main(argv)
