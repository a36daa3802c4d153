"""`metrics.jsonl`, the rows that a run leaves behind: written by `JsonlSink`, read by `read_metrics` and `curve`.

A row is `{"step": 40, "wall": 12.5, "split": "train", "loss": 0.3, "return": [1.0, 2.0]}`. A list has the seed axis
first. Rows of different splits have different keys, and keys may come and go within a split. A run that was killed
may leave a torn last line, which is not counted.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from paperloop.errors import CheckpointError, UserError, did_you_mean
from paperloop.files import check_is_file

__all__ = [
    "Curve", "JsonlSink", "Rows", "curve", "finite_or_null", "in_order", "metric_names", "metrics_in_parts",
    "read_metrics",
]  # fmt: skip

Rows = Sequence[dict[str, Any]]
RESERVED = ("step", "wall", "split")
FLUSH_SECONDS = 5.0
CHUNK = 4 << 20  # bytes that are parsed at a time


class JsonlSink:
    """`metrics.jsonl`: one JSON object per row with step, wall, split and the metrics, append-only.

    NaN and infinities, for which JSON has no word, become null.

    Rows are buffered and made durable before every checkpoint, whose manifest records size and SHA-256 of the file up
    to there (`mark`). After a kill the rows up to the restored step are all there, and `open` cuts off what came after.
    """

    def __init__(self) -> None:
        self._file: io.BufferedWriter | None = None
        self._flushed = time.monotonic()
        self._size, self._hash = 0, hashlib.sha256()

    def resume(self, run_dir: Path, mark: Mapping[str, Any], *, whole: bool = False) -> bool:
        """Return whether the file is there, after a check that it begins with what a checkpoint vouches for.

        Called before `open`; where the file is missing, rows start anew.

        Args:
            run_dir: the run folder.
            mark: what `mark` returned when the checkpoint was written.
            whole: nothing may follow, because the run ended there.

        Raises:
            CheckpointError: the file is shorter, or has changed.
            UserError: something that is not a file is in its place.
        """
        path = run_dir / "metrics.jsonl"
        if not path.exists() and not path.is_symlink():
            return False
        if fault := self._fault(check_is_file(path), mark, whole):
            raise CheckpointError(
                f"{path} is not what the checkpoint was written with ({fault}): restore the file, or move it away to "
                "start its rows anew."
            )
        return True

    def _fault(self, path: Path, mark: Mapping[str, Any], whole: bool) -> str:
        """What is wrong with a file that is there; empty where nothing is."""
        size, digest = int(mark["bytes"]), hashlib.sha256()
        with path.open("rb") as file:
            left = size
            while left and (block := file.read(min(left, 2**20))):
                digest.update(block)
                left -= len(block)
            if left:
                return f"it has {size - left} bytes instead of at least {size}"
            if digest.hexdigest() != mark["sha256"]:
                return "its rows have changed since"
            if whole and file.read(1):
                return "rows were added to it since"
        self._size, self._hash = size, digest
        return ""

    def mark(self) -> dict[str, Any]:
        """Return size and SHA-256 of what has been written, for a checkpoint's manifest."""
        return {"bytes": self._size, "sha256": self._hash.hexdigest()}

    def open(self, run_dir: Path, step: int) -> None:
        """Cut the file after what `resume` vouched for (nothing in a new run) and append from there."""
        path = run_dir / "metrics.jsonl"
        path.touch()
        if path.stat().st_size != self._size:
            os.truncate(path, self._size)
        self._file = path.open("ab")

    def write(self, step: int, wall: float, split: str, metrics: Mapping[str, Any]) -> None:
        """Append one row."""
        assert self._file is not None
        row = {"step": step, "wall": round(wall, 3), "split": split}
        row.update({name: value.tolist() if hasattr(value, "tolist") else value for name, value in metrics.items()})
        try:
            text = json.dumps(row, allow_nan=False)
        except ValueError:
            text = json.dumps(finite_or_null(row))
        line = text.encode() + b"\n"
        self._file.write(line)
        self._size += len(line)
        self._hash.update(line)
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


class Curve(NamedTuple):
    """One metric of one run over time, in the order of steps."""

    steps: np.ndarray  # (n,) integers
    wall: np.ndarray  # (n,) seconds of running time
    values: np.ndarray  # (n,) or (n, seeds) or (n, seeds, ...); NaN where a row holds null


def read_metrics(run_dir: Path) -> list[dict[str, Any]]:
    """Return the rows of a run's `metrics.jsonl`, without a torn last line; raises as `metrics_in_parts` does."""
    return [row for rows in metrics_in_parts(run_dir) for row in rows]


def metrics_in_parts(run_dir: Path) -> Iterator[list[dict[str, Any]]]:
    """Yield the rows of a run's `metrics.jsonl`, some thousands at a time, without a torn last line.

    Raises:
        UserError: there is no such file, it cannot be read, or a line before the last is damaged; the message names
            the file and the line.
    """
    path = check_is_file(Path(run_dir) / "metrics.jsonl")
    number, rest = 1, b""
    try:
        with path.open("rb") as file:
            while data := file.read(CHUNK):
                rest += data
                cut = rest.rfind(b"\n", 0, rest.rfind(b"\n")) + 1  # the last whole line may be the file's last
                lines, rest = rest[:cut].split(b"\n")[:-1], rest[cut:]
                yield _rows(lines, path, number)
                number += len(lines)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): check the path and its permissions.") from None
    # A crash of the machine can leave a tail of zero bytes.
    *lines, last = rest.rstrip(b" \t\r\n\0").split(b"\n")
    yield _rows(lines, path, number)
    if not _problem(row := _parsed(last)):
        yield [row]


def _rows(lines: Sequence[bytes], path: Path, first: int) -> list[dict[str, Any]]:
    """Parse lines, all in one call where they are sound; `first` is the number of the first."""
    numbered = [(number, line) for number, line in enumerate(lines, first) if line.strip()]
    try:
        rows = json.loads(b"[" + b",".join(line for _, line in numbered) + b"]")
    except (ValueError, RecursionError):
        rows = []
    if len(rows) != len(numbered):  # "1},{2" in one line would pass as two
        rows = [_parsed(line) for _, line in numbered]
    for (number, _), row in zip(numbered, rows, strict=True):
        if problem := _problem(row):
            raise UserError(f"{path}, line {number} is not a row of metrics: {problem}; restore the file.")
    return rows


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _problem(row: Any) -> str:
    """What is wrong with a row as parsed; "" for nothing."""
    if row is None:
        return "it is not JSON"
    if not isinstance(row, dict) or not row.keys() >= {*RESERVED}:
        return "it is not an object with step, wall and split"
    if type(row["step"]) is not int or not 0 <= row["step"] < 2**63:
        return "its step is not a whole number from 0 on"
    if type(row["wall"]) not in (int, float) or not math.isfinite(row["wall"]):
        return "its wall is not a number of seconds"
    return "" if isinstance(row["split"], str) else "its split is not a name"


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
    return in_order(Curve(np.asarray(steps), np.asarray(wall, float), values))


def in_order(one: Curve) -> Curve:
    """Return a curve in the order of its steps; of two values at one step the later counts."""
    order = np.argsort(one.steps, kind="stable")
    order = order[np.append(np.diff(one.steps[order]) > 0, True)]
    return Curve(*(column[order] for column in one))


def _array(raw: Sequence[Any], what: str, steps: Sequence[int]) -> np.ndarray:
    try:
        values = np.asarray(raw, dtype=float)  # None becomes NaN
    except (TypeError, ValueError):
        shapes: dict[tuple[int, ...], int] = {}
        for step, value in zip(steps, raw, strict=True):
            try:
                shapes.setdefault(np.shape(np.asarray(value, dtype=float)), step)
            except (TypeError, ValueError):
                raise UserError(f"{what} is not a number or even list at step {step}: choose another metric.") from None
        told = " and ".join(f"{list(shape)} at step {step}" for shape, step in list(shapes.items())[:2])
        raise UserError(f"{what} changes its shape, {told}: give runs of one seed count each.") from None
    return values


def _missing(where: str, rows: Rows, name: str, split: str) -> str:
    names = metric_names(rows)
    if not names:
        return f"There is no complete row of metrics in {where} yet: wait for the first, or leave this run out."
    if split not in names:
        return f"There is no split {split!r} in {where}{did_you_mean(split, names)}"
    return f"There is no metric {name!r} in split {split!r} of {where}{did_you_mean(name, names[split])}"


def finite_or_null(value: Any) -> Any:
    """Return a JSON tree in which numbers that are not finite are null."""
    if isinstance(value, dict):
        return {name: finite_or_null(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [finite_or_null(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
