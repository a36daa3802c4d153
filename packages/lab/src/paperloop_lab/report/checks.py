"""Whether what lies in a run folder belongs together: its record, its checkpoints and its metrics."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paperloop.checkpoint import Checkpoints

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
        size, digest = int(mark["bytes"]), str(mark["sha256"])
    except (OSError, ValueError, KeyError, TypeError):  # no checkpoint, none of this format, or a damaged one
        return ""
    where = f"the checkpoint of step {steps[-1]}"
    path = folder / "metrics.jsonl"
    try:
        held, found = path.stat().st_size, hashlib.sha256()
        with path.open("rb") as file:
            left = size
            while left and (block := file.read(min(left, 1 << 20))):
                found.update(block)
                left -= len(block)
    except OSError as error:
        return f"metrics.jsonl cannot be read ({error.strerror}), and {where} was written with {size:,} bytes of it."
    if held < size:
        return f"metrics.jsonl has {held:,} bytes, and {where} was written with {size:,}: rows are missing."
    if found.hexdigest() != digest:
        return f"metrics.jsonl is not what {where} was written with: rows have changed since."
    if held > size and record.get("status") == "complete":
        more = f"metrics.jsonl has {held - size:,} bytes more than {where} was written with"
        return f"{more}: rows were added to a run that is complete."
    return ""
