"""What a run's metrics.jsonl says of its agents, checked: the file may have been written by anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from paperloop.errors import UserError
from paperloop.loop.metrics_file import read_metrics
from paperloop.settings import read_json

__all__ = ["config_type", "evaluations", "numbers"]


def numbers(value: Any) -> np.ndarray | None:
    """Return a metric of a row as (A,) float64, NaN for null; None where it is not that."""
    try:
        array = np.atleast_1d(np.array(value, np.float64))
    except (TypeError, ValueError, OverflowError):
        return None
    return array if array.ndim == 1 and array.size else None


def evaluations(
    folder: Path, rows: Sequence[Mapping[str, Any]] | None = None
) -> tuple[list[Mapping[str, Any]], np.ndarray]:
    """Return the rows of a run's evaluations and the agents' returns in them, (T, A) float64.

    Args:
        folder: the run folder.
        rows: of its metrics.jsonl, where they were read before.

    Raises:
        UserError: a row does not hold the same number of returns as the first.
    """
    rows = [row for row in (read_metrics(folder) if rows is None else rows) if row.get("split") == "evaluation"]
    returns = [numbers(row.get("return")) for row in rows]
    for row, here in zip(rows, returns, strict=True):
        if here is None or returns[0] is None or here.shape != returns[0].shape:
            raise UserError(
                f"{folder / 'metrics.jsonl'}: the evaluation at step {row.get('step')} does not hold a return for each "
                "agent; restore the file, or leave the run out."
            )
    return rows, np.array(returns, np.float64)


def config_type(folder: Path) -> str:
    """Return the type that a run folder's config.json names, "" where it names none.

    Raises:
        UserError: the file cannot be read.
    """
    document = read_json(folder / "config.json")
    return str(document.get("type", "")) if isinstance(document, dict) else ""
