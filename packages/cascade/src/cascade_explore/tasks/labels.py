"""Labels of a replay: the environment's own reward, or a function of the user's."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from paperloop.errors import UserError

__all__ = ["Label", "find_label", "label_rows"]

#: Arrays of rows in time order, `[N, T, ...]`, by the names of `deploy.replay.Rows` -> rewards `[N, T]`.
Label = Callable[[Mapping[str, np.ndarray]], Any]


def find_label(name: str) -> Label:
    """Return what a task's name stands for: "reward", the environment's own, or FILE.py:FUNCTION.

    Raises:
        UserError: there is no such file or function.
    """
    if name == "reward":
        return lambda rows: rows["reward"]
    file, _, function = name.rpartition(":")
    path = Path(file)
    if not file or path.suffix != ".py":
        raise UserError(f"{name} is not a task: it is reward, or FILE.py:FUNCTION with a function of your own.")
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
        values = np.asarray(label(rows), np.float32)
    except Exception as error:
        raise UserError(f"The task {name} fails: {type(error).__name__}: {error}") from error
    if values.shape != shape:
        raise UserError(f"The task {name} returns an array of shape {values.shape}; it must be {shape}, one a row.")
    bad = ~np.isfinite(values)
    if bad.any():
        at = tuple(int(i) for i in np.argwhere(bad)[0])
        raise UserError(f"The task {name} returns {values[at]} for row {at[1]} of stream {at[0]}; it must be finite.")
    return np.where(rows["first"], 0.0, values)
