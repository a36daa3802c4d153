"""Where metrics go. JSONL is always on; TensorBoard, Weights & Biases and Trackio are extras."""

from __future__ import annotations

import io
import json
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paperloop.errors import UserError
from paperloop.files import write_atomically

__all__ = ["JsonlSink", "TensorBoardSink", "TrackioSink", "WandbSink", "make_sink", "truncate_rows"]

FLUSH_SECONDS = 5.0


class JsonlSink:
    """`metrics.jsonl`: one JSON object per row with step, wall, split and the metrics, append-only.

    NaN and infinities, for which JSON has no word, become null.

    Rows are buffered and made durable before every checkpoint, so after a kill the rows up to the restored step are
    all there, and `open` cuts off whatever came after it.
    """

    def __init__(self) -> None:
        self._file: io.BufferedWriter | None = None
        self._flushed = time.monotonic()

    def open(self, run_dir: Path, step: int) -> None:
        """Cut the file after the rows of `step` (0 for a new run: empty) and append from there."""
        path = run_dir / "metrics.jsonl"
        path.touch()
        truncate_rows(path, step)
        self._file = path.open("ab")

    def write(self, step: int, wall: float, split: str, metrics: Mapping[str, Any]) -> None:
        """Append one row."""
        assert self._file is not None
        row = {"step": step, "wall": round(wall, 3), "split": split}
        row.update({name: value.tolist() if hasattr(value, "tolist") else value for name, value in metrics.items()})
        try:
            text = json.dumps(row, allow_nan=False)
        except ValueError:
            text = json.dumps(_finite_or_null(row))
        self._file.write(text.encode() + b"\n")
        if time.monotonic() - self._flushed > FLUSH_SECONDS:
            self._file.flush()
            self._flushed = time.monotonic()

    def flush(self) -> None:
        """Flush and fsync."""
        assert self._file is not None
        self._file.flush()
        os.fsync(self._file.fileno())
        self._flushed = time.monotonic()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None


def truncate_rows(path: Path, step: int) -> None:
    """Cut a metrics file behind its last whole row of `step` or before it.

    A damaged line further up is left for its reader to complain about: cutting there would lose the rows behind it.
    At step 0, where no checkpoint exists, nothing is kept: the run starts anew and writes its first rows again.
    """
    end = place = 0
    if step > 0:
        with path.open("rb") as file:
            for line in file:
                place += len(line)
                try:
                    if json.loads(line)["step"] > step:
                        break
                except (ValueError, KeyError, TypeError):
                    continue
                if line.endswith(b"\n"):
                    end = place
    if end != path.stat().st_size:
        os.truncate(path, end)


class TensorBoardSink:
    """TensorBoard events in `tb/` (extra `tensorboard`). A seed axis becomes one scalar per seed and a mean."""

    def __init__(self) -> None:
        self._writer: Any = None

    def open(self, run_dir: Path, step: int) -> None:
        """Start an event file; TensorBoard hides the rows of an earlier try that come after `step`."""
        try:
            from tensorboardX import SummaryWriter
        except ImportError:
            raise UserError("TensorBoard needs tensorboardX: pip install 'paperloop[tensorboard]'.") from None
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
    """Weights & Biases (extra `wandb`). The run's id is kept in `wandb_id`, so that a resumed run goes on in place.

    Args:
        project: the project to log to.
        options: further arguments of `wandb.init`.
    """

    def __init__(self, project: str = "paperloop", **options: Any) -> None:
        self._project, self._options = project, options
        self._run: Any = None

    def open(self, run_dir: Path, step: int) -> None:
        """Start or continue the W&B run of this folder."""
        try:
            import wandb  # ty: ignore[import-not-found]
        except ImportError:
            raise UserError("Weights & Biases needs wandb: pip install 'paperloop[wandb]'.") from None
        id_file = run_dir / "wandb_id"
        if not id_file.exists():
            write_atomically(id_file, os.urandom(6).hex().encode())
        self._run = wandb.init(
            project=self._project, id=id_file.read_text(), name=run_dir.name, dir=str(run_dir), resume="allow",
            config=json.loads((run_dir / "config.json").read_text())["config"], **self._options,
        )  # fmt: skip

    def write(self, step: int, wall: float, split: str, metrics: Mapping[str, Any]) -> None:
        """Log one row; our step is the metric `step`, because W&B's own never goes back after a resume."""
        scalars = {f"{split}/{name}": value for name, value in flat_scalars(metrics).items()}
        self._run.log({"step": step, "wall": wall, **scalars})

    def flush(self) -> None:
        """W&B uploads by itself."""

    def close(self) -> None:
        """Finish the W&B run."""
        if self._run is not None:
            self._run.finish()


class TrackioSink:
    """Trackio (extra `trackio`): a local dashboard with the interface of W&B."""

    def __init__(self, project: str = "paperloop") -> None:
        self._project = project
        self._run: Any = None

    def open(self, run_dir: Path, step: int) -> None:
        """Start or continue the Trackio run of this folder's name."""
        try:
            import trackio  # ty: ignore[import-not-found]
        except ImportError:
            raise UserError("Trackio needs trackio: pip install 'paperloop[trackio]'.") from None
        config = json.loads((run_dir / "config.json").read_text())["config"]
        self._run = trackio.init(project=self._project, name=run_dir.name, config=config, resume="allow")

    def write(self, step: int, wall: float, split: str, metrics: Mapping[str, Any]) -> None:
        """Log one row."""
        scalars = {f"{split}/{name}": value for name, value in flat_scalars(metrics).items()}
        self._run.log({"step": step, "wall": wall, **scalars})

    def flush(self) -> None:
        """Trackio writes by itself."""

    def close(self) -> None:
        """Finish the Trackio run."""
        if self._run is not None:
            self._run.finish()


SINKS = {"tensorboard": TensorBoardSink, "wandb": WandbSink, "trackio": TrackioSink}


def make_sink(name: str) -> Any:
    """Return the sink of that name: tensorboard, wandb or trackio."""
    if name not in SINKS:
        raise UserError(f"There is no sink {name!r}: choose among {', '.join(SINKS)}.")
    return SINKS[name]()


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


def _finite_or_null(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite_or_null(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [_finite_or_null(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
