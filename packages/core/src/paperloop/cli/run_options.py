"""The options that every `train` command has, and those of a `demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from paperloop.cli.devices import Device
from paperloop.settings import Count, Seed, settings

__all__ = ["DemoOptions", "RunOptions", "SinkName"]

SinkName = Literal["tensorboard", "wandb"]


@settings
class RunOptions:
    """What every `train` command takes next to the method's configuration.

    Attributes:
        out: the run folder: made if absent, continued if it holds this run
        seed: everything random follows from it
        resume: continue the run in the folder; never: refuse one that is there; must: refuse to start anew
        device: where to compute; auto: the GPU where there is one
        log_every: steps between rows of metrics (None: the method's choice)
        eval_every: steps between evaluations (None: the method's choice)
        save_every: steps between checkpoints (None: the method's choice)
        on_nonfinite: end the run when a training metric is not finite, or continue
        sinks: where metrics go next to metrics.jsonl: tensorboard, wandb
        quiet: no progress bar, no tables; warnings are still shown
    """

    out: Path
    seed: Seed = 0
    resume: Literal["auto", "never", "must"] = "auto"
    device: Device = "auto"
    log_every: Count | None = None
    eval_every: Count | None = None
    save_every: Count | None = None
    on_nonfinite: Literal["stop", "continue"] = "stop"
    sinks: tuple[SinkName, ...] = ()
    quiet: bool = False

    def run_arguments(self) -> dict[str, Any]:
        """Return the keyword arguments of `paperloop.run` that these options decide: all but `out` and `sinks`."""
        names = ("seed", "resume", "log_every", "eval_every", "save_every", "on_nonfinite")
        return {name: getattr(self, name) for name in names} | {"progress": not self.quiet}


@settings
class DemoOptions:
    """What `demo` takes.

    Attributes:
        out: a folder for the figures
        device: where to compute; auto: the GPU where there is one
    """

    out: Path
    device: Device = "auto"
