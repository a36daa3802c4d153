"""What may lie in the folder of a training, and what is refused when it resumes."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from otr.labels.labelling import otr_version, solver_name
from otr.training.config import SCHEMA, TrainConfig
from otr.training.labels import GivenLabels, content_digest
from otr.training.report import CONFIG_FILE
from paperloop.errors import UserError, setting
from paperloop.loop.folder import RunFolder
from paperloop.settings import load_config, read_json, to_dict
from paperloop_data import EpisodeDataset

__all__ = ["FREE", "KEY", "ORIGIN", "check_folder", "check_origin", "is_complete", "origin_of", "remove_all"]

#: The attribute of a file in OUT/data that says what it was made from.
KEY = "otr_train"
#: The key of train.json that says what the labels are made from.
ORIGIN = "made_from"
#: What a call may change of an `otr train` that resumes: nothing that results depend on.
FREE = ("devices",)


def check_folder(out: Path, config: TrainConfig, seed: int) -> None:
    """Refuse a folder that holds anything but this training; nothing is written."""
    path = out / CONFIG_FILE
    if not path.exists():
        if out.exists() and (not out.is_dir() or not all(_may_precede(p) for p in out.iterdir())):
            raise UserError(
                f"{out} exists and is not a folder of otr train (no {CONFIG_FILE}): choose another {setting('out')}."
            )
        return
    before, here = to_dict(load_config(TrainConfig, path, SCHEMA)), to_dict(config)
    names = [name for name in here if before[name] != here[name] and name not in FREE]
    changed = [f"{setting(name)} ({_shown(before[name])} there, {_shown(here[name])} here)" for name in names]
    stated = read_json(path).get("seed")
    if stated != seed:
        changed.append(f"{setting('seed')} ({stated} there, {seed} here)")
    if changed:
        changed = changed if len(changed) < 6 else [*changed[:5], f"and {len(changed) - 5} more"]
        raise UserError(
            f"{out} holds another training, which differs in {', '.join(changed)}: choose another "
            f"{setting('out')}, or give {setting('out')} "
            "alone, which resumes it and shows its settings."
        )


def _shown(value: Any) -> str:
    """A value in the words of the command line; "none" for an empty one."""
    words = value if isinstance(value, list | tuple) else [] if value in ("", None) else [value]
    return " ".join(map(str, words)) or "none"


def _may_precede(path: Path) -> bool:
    """Whether a process killed before train.json was there leaves such a file."""
    return path.name == ".lock" or (path.name.startswith(f".{CONFIG_FILE}.") and path.name.endswith(".tmp"))


def remove_all(leftovers: Iterable[Path]) -> None:
    """Remove what killed processes left; the lock is held, so that no process is writing it."""
    for path in leftovers:
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def is_complete(folder: Path, config: TrainConfig) -> bool:
    """Whether a program's run folder holds all its dispatches."""
    record = RunFolder(folder).record()
    return record is not None and record["status"] == "complete" and record.get("step") == config.num_steps


def origin_of(
    config: TrainConfig, data: EpisodeDataset, demos: EpisodeDataset, given: Mapping[str, GivenLabels]
) -> dict[str, Any]:
    """What labels are made from, apart from the configuration: contents, version, solvers; JSON-ready."""
    solvers = {name: solver_name(config.label_config(name)) for name in config.used_presets}
    files = {name: one.digest for name, one in given.items()}
    return {
        "data": content_digest(data),
        "demonstrations": content_digest(demos),
        "otr": otr_version(),
        "solvers": {name: solver for name, solver in solvers.items() if solver},
        **({"label_files": files} if files else {}),
    }


def check_origin(out: Path, config: TrainConfig, here: Mapping[str, Any]) -> None:
    """Refuse to resume with other data than a training began with: its arms could not be compared."""
    path = out / CONFIG_FILE
    if not path.exists():
        return
    before = read_json(path).get(ORIGIN)
    files = before.get("label_files", {}) if isinstance(before, dict) else None
    if not isinstance(before, dict) or before.keys() != here.keys() or not isinstance(files, dict):
        raise UserError(f"{path} does not say which data it began with: choose another {setting('out')}.")
    for what, name in (("data", config.data), ("demonstrations", config.demos)):
        if before[what] != here[what]:
            raise UserError(
                f"{name}: the {what} are not those that the training in {out} began with: restore the {what}, or "
                f"choose another {setting('out')}."
            )
    for name, digest in here.get("label_files", {}).items():
        if files.get(name) != digest:
            raise UserError(
                f"{config.label_files[name]}: the labels are not those that the training in {out} began with: restore "
                f"the file, or choose another {setting('out')}."
            )
    if before["otr"] != here["otr"]:
        raise UserError(
            f"{out} was begun with otr {before['otr']}, and this is {here['otr']}, whose labels may differ: resume "
            f"with that version, or choose another {setting('out')}."
        )
    if before["solvers"] != here["solvers"]:
        raise UserError(
            f"{out} was begun with the solvers {before['solvers']}, and here they are {here['solvers']}: resume where "
            f"it was begun ({setting('device')}, extra numba), or choose another {setting('out')}."
        )
