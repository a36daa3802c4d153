"""Whether what lies in a run folder belongs together: its record, its checkpoints and its metrics."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paperloop.checkpoint import Checkpoints
from paperloop.errors import UserError
from paperloop.metrics_file import JsonlSink

__all__ = ["checkpoint_fault", "rows_fault"]


def checkpoint_fault(manifest: Mapping[str, Any], record: Mapping[str, Any]) -> str:
    """Return how a checkpoint's manifest shows that it is of another run than run.json; "" where it does not."""
    for what, name, held in (
        ("", "method", "method"),
        ("seed ", "seed", "seed"),
        ("configuration ", "config", "resume_hash"),
    ):
        if name in manifest and held in record and manifest[name] != record[held]:
            there, here = (f"{what}{value}" for value in (manifest[name], record[held]))
            return f"it is of {there}, and run.json says {here}: it was copied from another run; restore this run's own"
    return ""


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
