"""`metrics.jsonl`, the rows that a run leaves behind: written by `JsonlSink`, read by `read_metrics` and `curve`.

A row is `{"step": 40, "wall": 12.5, "split": "train", "loss": 0.3, "return": [1.0, 2.0]}`. A list has the seed axis
first. Rows of different splits have different keys, and keys may come and go within a split. A run that was killed
may leave a torn last line, which is not counted.
"""

from __future__ import annotations

import difflib
import io
import json
import math
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

import numpy as np

from paperloop.errors import UserError

__all__ = ["Curve", "JsonlSink", "Rows", "curve", "metric_names", "read_metrics", "truncate_rows"]

Rows = Sequence[dict[str, Any]]
RESERVED = ("step", "wall", "split")
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


class Curve(NamedTuple):
    """One metric of one run over time, in the order of steps.

    Attributes:
        steps: (n,) integers.
        wall: (n,) seconds of running time.
        values: (n,) or (n, seeds) or (n, seeds, ...); NaN where a row holds null.
    """

    steps: np.ndarray
    wall: np.ndarray
    values: np.ndarray


def read_metrics(run_dir: Path) -> list[dict[str, Any]]:
    """Return the rows of a run's `metrics.jsonl`, without a torn last line.

    Raises:
        UserError: there is no such file, it cannot be read, or a line before the last is damaged; the message names
            the file and the line.
    """
    path = Path(run_dir) / "metrics.jsonl"
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: give the folder of a run that has written metrics.") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): check the path and its permissions.") from None
    lines = content.splitlines()
    while lines and not lines[-1].strip(b" \t\0"):  # a crash of the machine can leave a tail of zero bytes
        lines.pop()
    if not lines:
        return []
    *whole, last = lines
    try:
        rows = json.loads(b"[" + b",".join(line for line in whole if line.strip()) + b"]")  # one call for all lines
        if len(rows) != sum(bool(line.strip()) for line in whole) or not all(map(_is_row, rows)):
            rows = None  # "1},{2" in one line would pass as two
    except ValueError:
        rows = None
    if rows is None:
        rows = _line_by_line(path, whole)
    try:
        row = json.loads(last)
    except ValueError:
        return rows
    if _is_row(row):
        rows.append(row)
    return rows


def metric_names(rows: Rows) -> dict[str, list[str]]:
    """Return split -> names of its metrics, both in the order in which they first appear."""
    names: dict[str, dict[str, None]] = {}
    for row in rows:
        known = names.setdefault(row["split"], {})
        for name in row:
            if name not in known and name not in RESERVED:
                known[name] = None
    return {split: list(known) for split, known in names.items()}


def curve(run: Path | Rows, name: str, split: str = "train") -> Curve:
    """Return one metric of one split over time. Rows without it are left out; of two at one step the later counts.

    Args:
        run: a run folder, or the rows of one (`read_metrics`), which saves reading the file for every metric.
        name: of the metric.
        split: "train", or the name of an evaluator.

    Raises:
        UserError: the metric or the split is not there (the message gives the nearest names), or its values are no
            numbers or change their shape.
    """
    where, rows = ("these rows", run) if not isinstance(run, (str, Path)) else (str(run), read_metrics(Path(run)))
    found = [(row["step"], row["wall"], row[name]) for row in rows if row["split"] == split and name in row]
    if not found or name in RESERVED:
        raise UserError(_missing(where, rows, name, split))
    steps, wall, raw = zip(*found, strict=True)
    values = _array(raw, f"Metric {name!r} in split {split!r} of {where}", steps)
    at = np.asarray(steps)
    if np.any(np.diff(at) <= 0):
        order = np.argsort(at, kind="stable")
        order = order[np.append(np.diff(at[order]) > 0, True)]
    else:
        order = slice(None)
    return Curve(at[order], np.asarray(wall, float)[order], values[order])


def _array(raw: Sequence[Any], what: str, steps: Sequence[int]) -> np.ndarray:
    try:
        values = np.asarray(raw, dtype=float)  # None becomes NaN
    except (TypeError, ValueError):
        shapes: dict[tuple[int, ...], int] = {}
        for step, value in zip(steps, raw, strict=True):
            try:
                shapes.setdefault(np.shape(np.asarray(value, dtype=float)), step)
            except (TypeError, ValueError):
                raise UserError(f"{what} is no number or even list at step {step}: choose another metric.") from None
        told = " and ".join(f"{list(shape)} at step {step}" for shape, step in list(shapes.items())[:2])
        raise UserError(f"{what} changes its shape, {told}: give runs of one seed count each.") from None
    return values


def _missing(where: str, rows: Rows, name: str, split: str) -> str:
    names = metric_names(rows)
    if not names:
        return f"There is no complete row of metrics in {where} yet: wait for the first, or leave this run out."
    if split not in names:
        return f"There is no split {split!r} in {where}: choose among {', '.join(names)}."
    near = difflib.get_close_matches(name, names[split], n=3) or sorted(names[split])[:8]
    return f"There is no metric {name!r} in split {split!r} of {where}: there is {', '.join(near) or 'none'}."


def _line_by_line(path: Path, lines: Sequence[bytes]) -> list[dict[str, Any]]:
    """Parse slowly, to say which line is damaged."""
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row: Any = json.loads(line)
        except ValueError:
            row = None
        if not _is_row(row):
            raise UserError(
                f"{path}, line {number} is no row of metrics (an object with step, wall and split): "
                "restore the file, or delete that line."
            )
        rows.append(row)
    return rows


def _is_row(row: Any) -> TypeGuard[dict[str, Any]]:
    return isinstance(row, dict) and all(name in row for name in RESERVED)


def _finite_or_null(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite_or_null(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [_finite_or_null(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
