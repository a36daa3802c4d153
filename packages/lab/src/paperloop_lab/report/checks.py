"""Whether the metrics in a run folder are those that its checkpoints were written with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paperloop.errors import UserError
from paperloop.loop.checkpoint import Checkpoints
from paperloop.loop.metrics_file import JsonlSink

__all__ = ["rows_fault"]


def rows_fault(folder: Path, record: Mapping[str, Any]) -> str:
    """Return how metrics.jsonl differs from what the newest checkpoint was written with; "" where it does not.

    A run that is complete has no row after its last checkpoint; in any other, rows may have been added since.
    """
    checkpoints = Checkpoints(folder / "checkpoints")
    steps = checkpoints.steps()
    try:
        mark = checkpoints.manifest(steps[-1])["metrics"] if steps else {}
        mark = {"bytes": int(mark["bytes"]), "sha256": str(mark["sha256"])}
    except (OSError, ValueError, KeyError, TypeError):  # no checkpoint, none of this format, or a damaged one
        return ""
    try:
        whole = (record.get("status"), record.get("step")) == ("complete", steps[-1])
        if not JsonlSink().resume(folder, mark, whole=whole):
            return f"{folder / 'metrics.jsonl'} is missing: restore the file."
    except UserError as error:  # what a resume would say
        return str(error)
    return ""
