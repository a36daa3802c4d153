"""Sweeps: a file of complete configurations, of which whatever is missing or incomplete is run.

Each line of the file is one run:

    {"command": ["minimax-ued", "train"], "config": {"schema": 1, "type": "...", "config": {...}}, "args": {"seed": 0}}

Its id is a hash of that line's content, its folder is `<out>/<id>`, and it is done when run.json there says
"complete". So a sweep needs no state of its own: run it again, on any engine, and it does what is left.

    <out>/<id>/.sweep_config.json   the configuration, passed on as --config
    <out>/<id>/.sweep.log           what the run printed, one part per attempt
    <out>/<id>/.sweep.lock          held while a process works on the run
"""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from paperloop.cli.options import Command, Typed
from paperloop.errors import UserError
from paperloop.files import check_is_file, write_atomically
from paperloop.settings import did_you_mean, flatten, json_hash, load_config, parse_json, read_json, to_dict
from paperloop_lab.sweep.commands import app_command, read_words

__all__ = ["SweepRun", "differences", "find_program", "read_sweep", "run_status", "write_sweep"]

CONFIG = ".sweep_config.json"
RESERVED = ("config", "out", "resume", "preset")  # what the sweep itself gives to a command, or has resolved


@dataclasses.dataclass(frozen=True)
class SweepRun:
    """One run of a sweep."""

    command: tuple[str, ...]  # program and sub-command, such as ("minimax-ued", "train"), and nameless arguments
    config: Mapping[str, Any]  # the complete configuration, as `save_config` writes it
    #: Further options of the command: name -> string, number, bool, None (typed as it is), or list of these.
    args: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the run as its line of the file has it."""
        return {"command": list(self.command), "config": dict(self.config), "args": dict(self.args)}

    @property
    def id(self) -> str:
        """12 hexadecimal digits that depend on command, configuration and arguments."""
        return json_hash(self.to_dict())

    def argv(self, folder: Path) -> list[str]:
        """Return the command line that does the run in `folder`, or what is left of it."""
        argv = [*self.command, "--config", str(folder / CONFIG), "--out", str(folder), "--resume", "auto"]
        for name, value in self.args.items():
            holder, dot, last = name.replace("_", "-").rpartition(".")
            if isinstance(value, bool):
                argv.append(f"--{holder}{dot}{'' if value else 'no-'}{last}")
            elif isinstance(value, list) and len(value) != 1:
                argv += [f"--{holder}{dot}{last}", *map(str, value)]
            elif isinstance(value, list):
                argv.append(f"--{holder}{dot}{last}={value[0]}")
            else:
                argv.append(f"--{holder}{dot}{last}={value}")
        return argv


def read_sweep(path: Path | str) -> list[SweepRun]:
    """Read a sweep file; where the command of a line is one of `paperloop.cli`, the line is read as it would read it.

    Raises:
        UserError: the file cannot be read or has no run, or a line is not a run or the same as another; the message
            names the line.
    """
    path = Path(path)
    try:
        lines = check_is_file(path).read_text(encoding="utf-8").splitlines()
    except UserError as error:
        raise UserError(f"The sweep file {error}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"The sweep file {path} cannot be read: {getattr(error, 'strerror', error)}.") from None
    runs: list[SweepRun] = []
    seen: dict[str, int] = {}
    known: dict[tuple[str, ...], tuple[Command, int] | None] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            where = f"{path}, line {number}"
            run = _parse(line, where)
            if run.id in seen:
                raise UserError(f"{where} is the same run as line {seen[run.id]}: remove one of them.")
            if run.command not in known:
                known[run.command] = _app_command(run.command, where)
            if (found := known[run.command]) is not None:
                _check(run, *found, where, Path(scratch))
            seen[run.id] = number
            runs.append(run)
    if not runs:
        raise UserError(f"The sweep file {path} has no runs.")
    return runs


def write_sweep(runs: Sequence[SweepRun], path: Path | str) -> None:
    """Write a sweep file, atomically: one line for each run."""
    write_atomically(Path(path), "".join(line(run) for run in runs).encode())


def line(run: SweepRun) -> str:
    """Return the line of a sweep file that holds a run."""
    return json.dumps(run.to_dict(), allow_nan=False) + "\n"


def run_status(folder: Path) -> str:
    """Return the status that run.json in `folder` gives, "missing" without one, "unreadable" with a damaged one."""
    path = folder / "run.json"
    if not path.exists():
        return "missing"
    try:
        return str(read_json(path)["status"])
    except (UserError, KeyError, TypeError):
        return "unreadable"


def differences(runs: Sequence[SweepRun]) -> list[str]:
    """Return a short label for each run: the values in which the runs differ."""
    leaves = [flatten(run.to_dict()) for run in runs]
    names = list(dict.fromkeys(name for leaf in leaves for name in leaf))
    varied = [name for name in names if len({json.dumps(leaf.get(name)) for leaf in leaves}) > 1]
    short = {name: re.sub(r"^(config\.config|config|args)\.", "", name) for name in varied}
    return [" ".join(f"{short[n]}={_brief(leaf[n])}" for n in varied if n in leaf) for leaf in leaves]


def find_program(name: str) -> str:
    """Return the path of a program: next to this Python, where it is when no environment is activated, or on PATH."""
    installed = Path(sys.executable).parent / name
    found = str(installed) if installed.is_file() else shutil.which(name)
    if found is None:
        raise UserError(f'the program "{name}" is not installed here: pip install it, or correct the sweep file.')
    return found


def counted(number: int) -> str:
    """Return "1 run", "2 runs" ..."""
    return f"{number} run{'s' * (number != 1)}"


def _app_command(command: Sequence[str], where: str) -> tuple[Command, int] | None:
    try:
        return app_command(command)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


def _check(run: SweepRun, command: Command, count: int, where: str, scratch: Path) -> None:
    """Raise unless a command, named by `count` words, reads a run: names, values, and a complete configuration.

    The command reads configurations from files, which are made in `scratch`.
    """
    names = [*Typed(command, ()).table, *flatten(run.config.get("config") or {})]
    for name in run.args:
        if name.replace("-", "_") not in names:
            raise UserError(f'{where}: {command.prog} has no option "{name}"{did_you_mean(name, names)}')
    if command.config is None:
        raise UserError(f"{where}: {command.prog} has no configuration, so it cannot be the command of a run.")
    folder = scratch / json_hash([run.command, run.config])
    try:
        if not folder.exists():  # the first line with this configuration
            folder.mkdir()
            (folder / CONFIG).write_text(json.dumps(run.config))
            config = load_config(command.config, folder / CONFIG, command.schema)
            given = flatten(run.config.get("config"))
            if absent := [name for name in flatten(to_dict(config)) if name not in given]:
                told = ", ".join(absent[:3])
                raise UserError(f'"config" does not say {told}: give the complete configuration.')
        read_words(command, run.argv(folder)[count:])
    except UserError as error:
        raise UserError(f"{where}: {str(error).replace(str(folder / CONFIG), 'its config')}") from None


def _parse(text: str, where: str) -> SweepRun:
    try:
        data = parse_json(text)
    except ValueError as error:
        raise UserError(f"{where} is not JSON: {error}.") from None
    if not isinstance(data, dict):
        raise UserError(f"{where} is not a JSON object.")
    known = [field.name for field in dataclasses.fields(SweepRun)]
    for key in data:
        if key not in known:
            raise UserError(f'{where} has the unknown key "{key}"{did_you_mean(key, known)}')
    command, config, args = data.get("command"), data.get("config"), data.get("args", {})
    if not isinstance(command, list) or not command or not all(isinstance(c, str) and c for c in command):
        raise UserError(f'{where}: "command" must be a list of words such as ["minimax-ued", "train"].')
    if not isinstance(config, dict):
        raise UserError(f'{where}: "config" must be a configuration as a run folder\'s config.json has it.')
    if not isinstance(args, dict):
        raise UserError(f'{where}: "args" must be an object of options.')
    for name, value in args.items():
        if not re.fullmatch(r"[A-Za-z][\w.-]*", name):
            raise UserError(f'{where}: "{name}" in "args" is not the name of an option.')
        if not all(isinstance(v, str | int | float | None) for v in (value if isinstance(value, list) else [value])):
            raise UserError(f'{where}: the option "{name}" must be a string, number, bool or list of these.')
        if isinstance(value, list) and len(value) > 1 and (options := [v for v in value if str(v).startswith("--")]):
            raise UserError(
                f'{where}: "{options[0]}" in the list "{name}" would be read as another option: only in a list of one '
                'item may a value begin with "--".'
            )
    for name in (*args, *(word[2:].partition("=")[0] for word in command if word.startswith("--"))):
        if name.replace("-", "_") in RESERVED:
            raise UserError(f'{where}: the run may not have the option "{name}", which the sweep sets itself.')
    return SweepRun(tuple(command), config, args)


def _brief(value: Any) -> str:
    """A value in at most 40 characters; a long list by its length."""
    text = str(value)
    if len(text) <= 40:
        return text
    return f"[{len(value)} items]" if isinstance(value, list) else f"{text[:37]}..."
