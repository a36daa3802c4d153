"""One run's folder: its record, its configuration, its lock, its checkpoints.

runs/<name>/
  run.json        status, command, seed, times, devices, versions, commit
  config.json     the whole configuration
  metrics.jsonl   one row per line (`paperloop.loop.metrics_file`)
  checkpoints/    `paperloop.loop.checkpoint`
  plots/, tb/     figures, TensorBoard events
  .lock           held while a process runs here
"""

from __future__ import annotations

import contextlib
import os
import socket
import warnings
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

from paperloop.errors import CheckpointError, UserError, running_command
from paperloop.files import remove_leftovers, write_json
from paperloop.loop.checkpoint import Checkpoints
from paperloop.loop.provenance import provenance, utc_now
from paperloop.settings import config_hash, flatten, json_hash, nested, read_json, save_config, to_dict

__all__ = ["RunFolder"]

#: 2: headlines, agents and notes; the manifests of checkpoints vouch for metrics.jsonl and the configuration.
SCHEMA = 2
#: What run.json must hold, and of which type.
_KEYS = {"schema": int, "status": str, "method": str, "seed": int, "start": str}


class RunFolder:
    """The folder of one run, which `lock` makes; `keep` is how many checkpoints to keep."""

    def __init__(self, path: Path, keep: int = 3):
        self.path = Path(path)
        self.checkpoints = Checkpoints(self.path / "checkpoints", keep)

    def record(self) -> dict[str, Any] | None:
        """Return run.json, or None where there is no run.

        Raises:
            UserError: the file is there but cannot be read, or is not the record of a run.
        """
        path = self.path / "run.json"
        if not path.exists():
            return None
        record = read_json(path)
        if not isinstance(record, dict) or not all(type(record.get(key)) is kind for key, kind in _KEYS.items()):
            raise UserError(f"{path} is not the record of a run: restore it, or start in a new run folder.")
        return record

    def check(self, trainer: Any, *, seed: int, resume: str) -> dict[str, Any] | None:
        """Return the record of the run that is there, or None, after a check that `trainer` may run here.

        Nothing is written. `resume` is that of `paperloop.run`.

        Raises:
            UserError: the folder holds another run or something else, or `resume` forbids what is found.
        """
        if self.path.exists() and not self.path.is_dir():
            raise UserError(f"{self.path} is a file, not a folder: choose another run folder.")
        record = self.record()
        if record is None:
            if resume == "must":
                raise UserError(f"There is no run in {self.path} to resume: name its folder, or start without resume.")
            if self.path.is_dir() and not all(_may_precede(p) for p in self.path.iterdir()):
                raise UserError(f"{self.path} exists and is not a run folder (no run.json): choose another folder.")
        elif resume == "never":
            raise UserError(f"{self.path} already holds a run: choose another folder, or resume it.")
        else:
            self._check_same(trainer, record, seed)
        return record

    def start(
        self,
        trainer: Any,
        *,
        seed: int,
        previous: Mapping[str, Any] | None,
        parent: Path | None,
        repairs: Sequence[str],
    ) -> None:
        """Write config.json and run.json for a run that begins or resumes. The lock is held.

        A run that resumes may have changed the fields that its trainer's `resume_ignores` names.
        """
        record = {
            "schema": SCHEMA,
            "status": "running",
            "method": method_name(trainer),
            "seed": seed,
            "config_hash": config_hash(trainer.config),
            "resume_hash": resume_hash(trainer),
            "headlines": list(getattr(trainer, "headlines", ())),
            "agents": _agents(trainer),
            "saved": bool((previous or {}).get("saved")),
            "repairs": list(repairs),
            "notes": list(repairs),
            "start": previous["start"] if previous else utc_now(),
            "end": None,
            "resumed": (int(previous.get("resumed") or 0) + 1) if previous else 0,
            "parent": str(parent) if parent is not None else (previous or {}).get("parent"),
            **provenance(),
        }
        with self.writing():
            save_config(trainer.config, self.path / "config.json", _schema(trainer))
            write_json(self.path / "run.json", record)

    def finish(self, status: str, **facts: Any) -> None:
        """Record how the run ended: "complete", "interrupted" or "failed"."""
        self.add(status=status, end=utc_now(), **facts)

    def add(self, **facts: Any) -> None:
        """Change some entries of run.json."""
        record = self.record()
        if record is None:  # the folder was removed under the run: half a record would stand in the next one's way
            return
        with self.writing():
            write_json(self.path / "run.json", {**record, **facts})

    @contextlib.contextmanager
    def writing(self) -> Generator[None]:
        """Say in one sentence that the folder cannot be written, where that is so."""
        try:
            yield
        except OSError as error:
            raise UserError(
                f"The run folder {self.path} cannot be written ({error.strerror or error}): what was saved is intact; "
                "fix the cause (free space, permissions) and resume, or choose another folder."
            ) from error

    @contextlib.contextmanager
    def lock(self) -> Generator[None]:
        """Hold the folder for this process. The system releases the lock when the process dies, however it dies.

        Raises:
            UserError: another process holds it; the message names it.
        """
        import fcntl  # POSIX only, and so are the machines that train

        with self.writing():
            self.path.mkdir(parents=True, exist_ok=True)
            file = (self.path / ".lock").open("a+")
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                holder = file.read().strip() or "another process"
                raise UserError(f"{self.path} is in use by {holder}: wait for it, or choose another folder.") from None
            except OSError as error:  # a file system without locks
                warnings.warn(f"{self.path} cannot be locked ({error.strerror}): run one process on it.", stacklevel=4)
            remove_leftovers(self.path.glob(".*.tmp"))
            with contextlib.suppress(OSError):  # a full disk must not prevent a resume that only reads
                file.truncate(0)
                file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
                file.flush()
            yield

    def check_manifest(self, step: int, manifest: Mapping[str, Any], trainer: Any, seed: int) -> None:
        """Refuse a checkpoint that was copied from another run."""
        if fault := foreign(manifest, run_facts(trainer, seed)):
            raise CheckpointError(f"Checkpoint {self.checkpoints.path(step)} {fault}, or choose another folder.")

    def _check_same(self, trainer: Any, record: Mapping[str, Any], seed: int) -> None:
        if record.get("schema") != SCHEMA:
            old = "outerloop" if "outerloop" in (record.get("versions") or {}) else "another version of paperloop"
            raise UserError(
                f"{self.path} was written by {old} (run schema {record['schema']}, and this version reads {SCHEMA}), "
                "whose checkpoints do not vouch for what this version checks: resume it with the version that wrote "
                "it, or train again in a new folder."
            )
        file = self.path / "config.json"
        saved = read_json(file)
        if not isinstance(saved, dict) or "config" not in saved:
            raise UserError(f"{file} is not a configuration: restore it, or start in a new run folder.")
        if saved.get("schema") != _schema(trainer):
            raise UserError(
                f"{file} has schema {saved.get('schema')}, and this version has schema {_schema(trainer)}: resume it "
                "with the version that wrote it, or train again in a new folder."
            )
        for what, there, here in (
            ("of", record["method"], method_name(trainer)),
            ("with seed", record["seed"], seed),
            ("with the agents", record.get("agents"), _agents(trainer)),
        ):
            if there != here:
                raise UserError(f"{self.path} holds a run {what} {there}, not {what} {here}: choose another folder.")
        there, here = _fixed(saved["config"], trainer), _fixed(to_dict(trainer.config), trainer)
        pairs = {name: (there.get(name, "absent"), here.get(name, "absent")) for name in there | here}
        changed = [f"{name} ({a} there, {b} here)" for name, (a, b) in pairs.items() if a != b]
        if changed:
            raise UserError(
                f"{self.path} holds a run with another configuration, which differs in {', '.join(changed)}: resume it "
                f"with {f'--config {file}' if running_command.get() else f'the configuration in {file}'}, or choose "
                "another folder."
            )


def _schema(trainer: Any) -> int:
    """Return the schema number of a trainer's configuration."""
    return getattr(trainer, "schema", 1)


def method_name(trainer: Any) -> str:
    """The name by which a run folder knows a method: its class, without the module, which changes with the import."""
    return type(trainer).__qualname__


def resume_hash(trainer: Any) -> str:
    """Return the hash of the settings that must be equal when a run resumes: all but `resume_ignores`."""
    return json_hash(nested(_fixed(to_dict(trainer.config), trainer)))


def run_facts(trainer: Any, seed: int) -> dict[str, Any]:
    """Return what the manifest of every checkpoint says of its run."""
    return {"method": method_name(trainer), "seed": seed, "config": resume_hash(trainer)}


def foreign(manifest: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    """Return how a checkpoint's manifest differs from the facts of a run, as a predicate; "" where it does not."""
    for name, what in (("method", "of"), ("seed", "of seed"), ("config", "of configuration")):
        if name in facts and manifest.get(name) != facts[name]:
            return (
                f"is {what} {manifest.get(name)}, not {facts[name]}: it was copied from another run; restore the "
                "checkpoints of this one"
            )
    return ""


def _agents(trainer: Any) -> list[str] | None:
    agents = getattr(trainer, "agents", None)
    return None if agents is None else list(agents)


def _fixed(document: Any, trainer: Any) -> dict[str, Any]:
    """The leaves of a configuration's JSON, but for what `resume_ignores` names."""
    ignored = tuple(f"{name}." for name in getattr(trainer, "resume_ignores", ()))
    return {path: value for path, value in flatten(document).items() if not f"{path}.".startswith(ignored)}


def _may_precede(path: Path) -> bool:
    """Whether a file may lie in a run folder before run.json does.

    A process killed in between leaves the lock and config.json; a sweep puts its own dot-files there first.
    """
    return path.name == "config.json" or path.name.startswith(".")
