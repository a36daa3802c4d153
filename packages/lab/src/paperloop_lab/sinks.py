"""Where metrics go next to metrics.jsonl: TensorBoard and Weights & Biases, each an extra."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from paperloop.errors import UserError
from paperloop.files import write_atomically

__all__ = ["TensorBoardSink", "WandbSink", "make_sinks"]


class TensorBoardSink:
    """TensorBoard events in `tb/` (extra `tensorboard`). A seed axis becomes one scalar per seed and a mean."""

    def __init__(self) -> None:
        self._writer: Any = None

    def open(self, run_dir: Path, step: int) -> None:
        """Start an event file; TensorBoard hides the rows of an earlier try that come after `step`."""
        try:
            from tensorboardX import SummaryWriter
        except ImportError:
            raise UserError("TensorBoard needs tensorboardX: pip install 'paperloop-lab[tensorboard]'.") from None
        self._writer = SummaryWriter(str(run_dir / "tb"), purge_step=step + 1 if step else 0)

    def write(self, step: int, wall: float, split: str, metrics: Mapping[str, Any]) -> None:
        """Add one scalar per metric."""
        for name, value in flat_scalars(metrics).items():
            self._writer.add_scalar(f"{split}/{name}", value, step)

    def flush(self) -> None:
        """Write buffered events."""
        self._writer.flush()

    def close(self) -> None:
        """Close the event file."""
        if self._writer is not None:
            self._writer.close()


class WandbSink:
    """Weights & Biases (extra `wandb`). The run's id is kept in `wandb_id`, so that a resumed run continues in place.

    Args:
        project: the project to log to.
        options: further arguments of `wandb.init`.
    """

    def __init__(self, project: str = "paperloop", **options: Any) -> None:
        self._project, self._options = project, options
        self._run: Any = None

    def open(self, run_dir: Path, step: int) -> None:
        """Start or continue the run of this folder."""
        try:
            import wandb  # ty: ignore[import-not-found]
        except ImportError:
            raise UserError("Weights & Biases needs wandb: pip install 'paperloop-lab[wandb]'.") from None
        id_file = run_dir / "wandb_id"
        if not id_file.exists():
            write_atomically(id_file, os.urandom(6).hex().encode())
        self._run = wandb.init(
            project=self._project, name=run_dir.name, id=id_file.read_text(), dir=str(run_dir), resume="allow",
            config=json.loads((run_dir / "config.json").read_text())["config"], **self._options,
        )  # fmt: skip

    def write(self, step: int, wall: float, split: str, metrics: Mapping[str, Any]) -> None:
        """Log one row; our step is the metric `step`, because W&B's own never goes back after a resume."""
        scalars = {f"{split}/{name}": value for name, value in flat_scalars(metrics).items()}
        self._run.log({"step": step, "wall": wall, **scalars})

    def flush(self) -> None:
        """The service uploads by itself."""

    def close(self) -> None:
        """Finish the run."""
        if self._run is not None:
            self._run.finish()


SINKS = {"tensorboard": TensorBoardSink, "wandb": WandbSink}


def make_sinks(names: Iterable[str]) -> list[Any]:
    """Return the sinks of these names: tensorboard, wandb."""
    names = list(names)
    for name in names:
        if name not in SINKS:
            raise UserError(f"There is no sink {name!r}: choose among {', '.join(SINKS)}.")
    return [SINKS[name]() for name in names]


def flat_scalars(metrics: Mapping[str, Any]) -> dict[str, float]:
    """One float per scalar; for an array, its mean under the name and its entries under `name/0`, `name/1` ..."""
    flat: dict[str, float] = {}
    for name, value in metrics.items():
        if getattr(value, "ndim", 0) == 0:
            flat[name] = float(value)
        elif value.size:
            flat[name] = float(value.mean())
            if value.size > 1:
                flat.update({f"{name}/{i}": float(v) for i, v in enumerate(value.reshape(-1))})
    return flat
