"""Run folders as a report reads them: what the run says of itself, and its metrics in one pass over the file.

The file is read in parts. Of a metric that is drawn, every row is kept, as arrays; of any other, the last row that has
it, whatever its value. So a run of a million rows takes the memory of the columns that are drawn.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from paperloop.errors import UserError
from paperloop.loop.metrics_file import RESERVED, Curve, in_order, metrics_in_parts
from paperloop.settings import read_json

__all__ = ["Key", "Last", "Run", "find_runs", "read_run"]

Key = tuple[str, str]  # split and metric
NUMBERS = {bool, int, float, type(None)}


class Last(NamedTuple):
    """One metric at the last row that has it."""

    values: np.ndarray  # (agents, tasks); NaN where the row holds null
    step: int
    since: np.ndarray  # (agents,) the step from which on an agent's values are not all finite; -1 where they are


@dataclasses.dataclass(frozen=True)
class Run:
    """One run folder, as read."""

    path: Path
    record: Mapping[str, Any]  # run.json, or {}
    config: Mapping[str, Any]  # the fields of config.json, or {}
    config_type: str  # the type named there, or ""
    headlines: tuple[str, ...]  # metrics that the trainer wants shown first
    agents: tuple[str, ...]  # a label for each entry of the metrics' leading axis; empty: seeds of one arm
    names: dict[str, list[str]]  # split -> its metrics, as they first appear
    last: dict[Key, Last]  # each metric at its last row
    scalars: frozenset[Key]  # metrics without a leading axis
    curves: dict[Key, Curve]  # the metrics of which every row was to be kept
    odd: dict[Key, str]  # metrics that cannot be used -> why
    steps: int  # the last step that has a row
    wall: float  # seconds of running time up to the last row

    @property
    def status(self) -> str:
        """What run.json says: "running", "complete", "interrupted" or "failed"; "unknown" without it."""
        return str(self.record.get("status", "unknown"))

    @property
    def arms(self) -> tuple[str, ...]:
        """The different labels of its agents; one without a name where the agents have no labels."""
        return tuple(dict.fromkeys(self.agents)) or ("",)

    def entries(self, key: Key, arm: str) -> np.ndarray | None:
        """Return which entries of a metric's leading axis belong to an arm; None where it does not say whose it is."""
        if key in self.scalars:
            return np.array([0]) if len(self.arms) == 1 else None
        if not self.agents:
            return np.arange(len(self.last[key].values))
        return np.flatnonzero([label == arm for label in self.agents])


def find_runs(paths: Sequence[Path]) -> list[Path]:
    """Return the run folders among `paths` and directly below them, each once whatever path leads to it, in order."""
    if not paths:
        raise UserError("There is nothing to report: give at least one run folder.")
    found: dict[Path, Path] = {}
    for path in map(Path, paths):
        if not path.is_dir():
            raise UserError(f"{path} is not a folder: give the folder of a run, or one that holds runs.")
        inside = [path] if _is_run(path) else sorted((p for p in path.iterdir() if _is_run(p)), key=_natural)
        if not inside:
            raise UserError(f"{path} is not a run folder and holds none (no run.json or metrics.jsonl).")
        for folder in inside:
            found.setdefault(folder.resolve(), folder)
    return list(found.values())


def read_run(folder: Path, keep: Callable[[str, str], bool] = lambda split, name: False, *, rows: bool = True) -> Run:
    """Read a folder with run.json, or with metrics.jsonl only.

    `keep` tells of a split and a metric whether every row of it is needed; without `rows` the metrics are left out.
    """
    record, document = (_object(folder / name) for name in ("run.json", "config.json"))
    config = document.get("config", {k: v for k, v in document.items() if k not in ("schema", "type")})
    if not isinstance(config, dict):
        raise UserError(f'"config" in {folder / "config.json"} is not a JSON object: restore it, or leave the run out.')
    headlines, agents = (_labels(record, name, folder) for name in ("headlines", "agents"))
    columns = _Columns(keep)
    if rows and (folder / "metrics.jsonl").exists():
        for part in metrics_in_parts(folder):
            columns.add(part)
    run = Run(
        path=folder, record=record, config=config, config_type=str(document.get("type") or ""), headlines=headlines,
        agents=agents, names={split: list(names) for split, names in columns.names.items()}, last=columns.last,
        scalars=frozenset(columns.scalars), curves=columns.curves(), odd=columns.odd, steps=columns.steps,
        wall=columns.wall,
    )  # fmt: skip
    for (split, name), last in run.last.items():
        if agents and (split, name) not in run.scalars and len(last.values) != len(agents):
            raise UserError(
                f"Metric {name!r} of {split} in {folder} has {len(last.values)} entries along its leading axis, and "
                f"run.json names {len(agents)} agents: correct the trainer's `agents`, or leave the run out."
            )
    return run


def _is_run(folder: Path) -> bool:
    return (folder / "run.json").is_file() or (folder / "metrics.jsonl").is_file()


def _natural(path: Path) -> list[tuple[bool, int, str]]:
    """Sort seed-2 before seed-10."""
    parts = re.split(r"([0-9]+)", path.name)
    return [(not part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in parts]


def _object(path: Path) -> dict[str, Any]:
    value = read_json(path) if path.exists() else {}
    if not isinstance(value, dict):
        raise UserError(f"{path} does not hold a JSON object: restore it, or leave this run out.")
    return value


def _labels(record: Mapping[str, Any], name: str, folder: Path) -> tuple[str, ...]:
    value = record.get(name) or []
    if not isinstance(value, list) or not all(isinstance(label, str) for label in value):
        raise UserError(f'"{name}" in {folder / "run.json"} is not a list of names: restore it, or leave the run out.')
    return tuple(value)


class _Columns:
    """Gathers columns, part by part."""

    def __init__(self, keep: Callable[[str, str], bool]):
        self.names: dict[str, dict[str, None]] = {}
        self.last: dict[Key, Last] = {}
        self.scalars: set[Key] = set()
        self.odd: dict[Key, str] = {}
        self.steps, self.wall = 0, 0.0
        self._keep = keep
        self._parts: dict[Key, list[Curve]] = {}
        self._shapes: dict[Key, tuple[int, ...]] = {}

    def add(self, rows: Sequence[dict[str, Any]]) -> None:
        """Take some rows more."""
        by_split: dict[str, list[dict[str, Any]]] = {}
        for row in rows:
            by_split.setdefault(row["split"], []).append(row)
        for split, some in by_split.items():
            self.steps = max(self.steps, max(row["step"] for row in some))
            self.wall = max(self.wall, float(max(row["wall"] for row in some)))
            found = [name for name in dict.fromkeys(itertools.chain.from_iterable(some)) if name not in RESERVED]
            self.names.setdefault(split, {}).update(dict.fromkeys(found))
            for key in [(split, name) for name in found if (split, name) not in self.odd]:
                try:
                    self._add(key, some)
                except (ValueError, TypeError, OverflowError) as error:
                    self._forget(key, str(error))

    def _add(self, key: Key, rows: Sequence[dict[str, Any]]) -> None:
        rows = [row for row in rows if key[1] in row]
        values = self._array(key, [row[key[1]] for row in rows])
        steps = np.array([row["step"] for row in rows])
        self._take_last(key, steps, values)
        if self._keep(*key):
            walls = np.array([row["wall"] for row in rows], float)
            self._parts.setdefault(key, []).append(Curve(steps, walls, values))

    def _take_last(self, key: Key, steps: np.ndarray, values: np.ndarray) -> None:
        """Note the last of some rows (n,) with values (n, ...), which follow all rows seen before."""
        fine = _finite(values)
        back = np.where(fine.any(axis=0), fine[::-1].argmax(axis=0), len(fine))  # rows after the last finite one
        since = np.where(back == 0, -1, steps[np.minimum(len(fine) - back, len(fine) - 1)])
        before = self.last.get(key)
        if before is not None:
            since = np.where((back == len(fine)) & (before.since >= 0), before.since, since)
        self.last[key] = Last(_entries(values[-1]), int(steps[-1]), since)

    def _array(self, key: Key, raw: list[Any]) -> np.ndarray:
        """Values as floats, null as NaN; a ValueError says what else they are."""
        try:
            values = np.asarray(raw)
        except ValueError:
            raise ValueError("it changes its shape, or holds lists of different lengths") from None
        if values.dtype.kind == "O" and set(map(type, values.ravel().tolist())) <= NUMBERS:
            values = values.astype(float)
        if values.dtype.kind not in "fiub":
            raise ValueError("it is not a number or an array of numbers")
        if not values.size:
            raise ValueError("it is empty")
        shape = values.shape[1:]
        if self._shapes.setdefault(key, shape) != shape:
            before, after = list(self._shapes[key]), list(shape)
            raise ValueError(f"it changes its shape, from {before} to {after}")
        if not shape:
            self.scalars.add(key)
        return values.astype(float)

    def _forget(self, key: Key, reason: str) -> None:
        self.odd[key] = reason
        for held in (self.last, self._parts, self._shapes):
            held.pop(key, None)
        self.scalars.discard(key)

    def curves(self) -> dict[Key, Curve]:
        """Every kept column in the order of steps; of two values at one step the later counts."""
        columns = {key: map(np.concatenate, zip(*parts, strict=True)) for key, parts in self._parts.items()}
        return {key: in_order(Curve(*column)) for key, column in columns.items()}


def _entries(value: np.ndarray) -> np.ndarray:
    """One value as (agents, tasks)."""
    return value.reshape(len(value) if value.ndim else 1, -1)


def _finite(values: np.ndarray) -> np.ndarray:
    """Rows of values (n, agents, ...) as (n, agents): whether all numbers of an agent are finite."""
    agents = values.shape[1] if values.ndim > 1 else 1
    return np.all(np.isfinite(values.reshape(len(values), agents, -1)), axis=2)
