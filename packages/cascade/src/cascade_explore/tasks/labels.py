"""Labels of a replay: tasks that the environment knows by name, or functions of the user's."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cascade_explore.config import Cheetah, Walker
from cascade_explore.deploy.replay import Rows
from cascade_explore.envs.grid import Grid
from cascade_explore.envs.host import HostEnvs
from cascade_explore.tasks.places import places
from cascade_explore.tasks.planar import TASKS
from paperloop.errors import UserError

__all__ = ["Label", "describe", "find_label", "label_rows"]

#: Arrays of rows in time order, `[N, T, ...]`, by the names that `describe` gives -> rewards `[N, T]`.
Label = Callable[[Mapping[str, np.ndarray]], Any]


def describe(rows: Rows, env: Grid | HostEnvs) -> dict[str, np.ndarray]:
    """Return rows `[N, T, ...]` as labels see them, by name.

    These are the names of `Rows`, those of the environment's facts, and in a grid `place` and `layout`.
    """
    named = {name: np.asarray(x) for name, x in rows._asdict().items() if name != "facts"}
    if isinstance(env, Grid):
        return named | places(env, named["observation"], named["action"], named["first"])
    return named | {name: np.asarray(rows.facts)[..., i] for i, name in enumerate(env.facts)}


def known_tasks(env: Grid | HostEnvs) -> dict[str, Label]:
    """Return the tasks that an environment knows by name; a grid knows at:X,Y besides."""
    tasks: dict[str, Label] = {"reward": lambda rows: rows["reward"]}
    if isinstance(env, HostEnvs) and isinstance(env.config, Walker | Cheetah):
        return tasks | TASKS[env.config.type]
    names = () if isinstance(env, Grid) else env.facts
    return tasks | {name: lambda rows, name=name: rows[name] for name in names}


def find_label(name: str, env: Grid | HostEnvs) -> Label:
    """Return what a task's name stands for: one that the environment knows, or FILE.py:FUNCTION.

    Raises:
        UserError: the task, file or function does not exist.
    """
    known = known_tasks(env)
    if name in known:
        return known[name]
    if isinstance(env, Grid) and name.startswith("at:"):
        return _at(name, env)
    file, _, function = name.rpartition(":")
    path = Path(file)
    if not file or path.suffix != ".py":
        names = ", ".join([*known, *(["at:X,Y"] if isinstance(env, Grid) else [])])
        raise UserError(f"{name} is not a task: it is {names}, or FILE.py:FUNCTION with a function of your own.")
    if not path.is_file():
        raise UserError(f"There is no file {path}, which the task {name} names.")
    spec = importlib.util.spec_from_file_location(f"cascade_explore_task_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise UserError(f"{path} cannot be imported: {type(error).__name__}: {error}") from error
    found = getattr(module, function, None)
    if not callable(found):
        raise UserError(f"{path} has no function {function}.")
    return found


def _at(name: str, grid: Grid) -> Label:
    """Return the task of being at a cell."""
    x, _, y = name.removeprefix("at:").partition(",")
    width, height = grid.reachable.shape[1:]
    if not (x.isdigit() and y.isdigit() and int(x) < width and int(y) < height):
        raise UserError(f"{name} is not a cell: give at:X,Y, X below {width} and Y below {height}.")
    if not bool(grid.reachable[:, int(x), int(y)].any()):
        raise UserError(f"{name} cannot be reached in any layout.")
    return lambda rows: (rows["place"] == (int(x), int(y))).all(-1)


def label_rows(name: str, label: Label, rows: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return a task's reward of every row, float32 `[N, T]`; the first row of an episode has none.

    Args:
        name: of the task, for messages.
        label: its function.
        rows: arrays `[N, T, ...]`.

    Raises:
        UserError: the function fails, or returns another shape, or something that is not finite.
    """
    shape = rows["first"].shape
    try:
        values = np.asarray(label(rows))
        values = values.astype(np.float32, casting="unsafe" if values.dtype.kind in "biuf" else "same_kind")
    except Exception as error:
        hint = f"; rows hold {', '.join(rows)}" if isinstance(error, KeyError) else ""
        raise UserError(f"The task {name} fails: {type(error).__name__}: {error}{hint}.") from error
    if values.shape != shape:
        raise UserError(f"The task {name} returns an array of shape {values.shape}; it must be {shape}, one a row.")
    bad = ~np.isfinite(values)
    if bad.any():
        at = tuple(int(i) for i in np.argwhere(bad)[0])
        raise UserError(f"The task {name} returns {values[at]} for row {at[1]} of stream {at[0]}; it must be finite.")
    return np.where(rows["first"], 0.0, values)
