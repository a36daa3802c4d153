"""Sweeps: a file of complete configurations, of which whatever is missing or incomplete is run.

Each line of the file is one run:

    {"command": ["minimax-ued", "train"], "config": {"schema": 1, "type": "...", "config": {...}}, "args": {"seed": 0}}

Its id is a hash of that line's content, its folder is `<out>/<id>`, and it is done when run.json there says
"complete". So a sweep needs no state of its own: run it again, on any engine, and it does what is left.

    <out>/<id>/sweep_config.json   the configuration, passed on as --config
    <out>/<id>/sweep.log           what the run printed, one part per attempt
    <out>/<id>/sweep.lock          held while a process works on the run
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from paperloop.cli import RunOptions
from paperloop.errors import UserError
from paperloop.files import write_atomically
from paperloop.settings import (
    config_document,
    did_you_mean,
    field_paths,
    field_types,
    json_hash,
    parse_json,
    read_json,
    replace_in,
)

__all__ = ["SweepRun", "differences", "find_command", "make_grid", "read_sweep", "run_status", "write_sweep"]

RESERVED = ("config", "out", "resume", "preset")


@dataclasses.dataclass(frozen=True)
class SweepRun:
    """One run of a sweep.

    Attributes:
        command: program and sub-command, such as ("minimax-ued", "train").
        config: the complete configuration, as `save_config` writes it.
        args: further options of the command: name -> string, number, bool, list of these, or None to leave it out.
    """

    command: tuple[str, ...]
    config: Mapping[str, Any]
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
        argv = [*self.command, "--config", str(folder / "sweep_config.json"), "--out", str(folder), "--resume", "auto"]
        for name, value in self.args.items():
            option = name.replace("_", "-")
            if isinstance(value, bool):
                argv.append(f"--{option}" if value else f"--no-{option}")
            elif isinstance(value, list):
                argv += [f"--{option}", *map(str, value)]
            elif value is not None:
                argv.append(f"--{option}={value}")
        return argv


def read_sweep(path: Path | str) -> list[SweepRun]:
    """Read a sweep file.

    Raises:
        UserError: the file cannot be read or has no run, or a line is no run or the same as another; the message names
            the line.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"The sweep file {path} cannot be read: {getattr(error, 'strerror', error)}.") from None
    runs: list[SweepRun] = []
    seen: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        run = _parse(line, where)
        if run.id in seen:
            raise UserError(f"{where} is the same run as line {seen[run.id]}: remove one of them.")
        seen[run.id] = number
        runs.append(run)
    if not runs:
        raise UserError(f"The sweep file {path} has no runs.")
    return runs


def write_sweep(runs: Sequence[SweepRun], path: Path | str) -> None:
    """Write a sweep file, atomically: one line for each run."""
    text = "".join(json.dumps(run.to_dict(), allow_nan=False) + "\n" for run in runs)
    write_atomically(Path(path), text.encode())


def make_grid(
    command: Sequence[str],
    base_config: Any,
    axes: Mapping[str, Sequence[Any]],
    path: Path | str | None = None,
    *,
    args: Mapping[str, Any] | None = None,
    schema: int = 1,
) -> list[SweepRun]:
    """Make the runs of a full grid, the last axis varying fastest, and write them to `path`.

    >>> make_grid(["my-method", "train"], TrainConfig(), {"ppo.lr": [1e-4, 1e-3], "seed": range(5)}, "sweep.jsonl")

    Args:
        command: program and sub-command.
        base_config: the configuration that the axes change.
        axes: dotted path of a field, or an option of `RunOptions` such as "seed" -> the values it takes.
        path: the file to write; None writes none.
        args: options that all runs get.
        schema: the schema number of the configuration.

    Raises:
        UserError: an axis is empty or names nothing (with the nearest name), or a value does not fit.
    """
    paths = field_paths(base_config)
    options = [name for name in field_types(RunOptions) if name not in RESERVED]
    for name, values in axes.items():
        if name not in paths and name not in options:
            raise UserError(f'there is no field "{name}" to vary{did_you_mean(name, [*paths, *options])}')
        if len(values) == 0:
            raise UserError(f'the axis "{name}" has no values.')
    runs = []
    for values in itertools.product(*axes.values()):
        point = dict(zip(axes, values, strict=True))
        config = replace_in(base_config, {k: v for k, v in point.items() if k in paths})
        extra = {k: v for k, v in point.items() if k not in paths}
        runs.append(SweepRun(tuple(command), config_document(config, schema), {**(args or {}), **extra}))
    if path is not None:
        write_sweep(runs, path)
    return runs


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
    leaves = [dict(_leaves(run.to_dict(), "")) for run in runs]
    names = list(dict.fromkeys(name for leaf in leaves for name in leaf))
    varied = [name for name in names if len({json.dumps(leaf.get(name)) for leaf in leaves}) > 1]
    return [" ".join(f"{_short(n)}={_brief(leaf[n])}" for n in varied if n in leaf) for leaf in leaves]


def find_command(name: str) -> str:
    """Return the path of a program: on PATH, or beside this Python, where it is when no environment is activated.

    Raises:
        UserError: there is none.
    """
    beside = Path(sys.executable).parent / name
    found = shutil.which(name) or (str(beside) if beside.is_file() else None)
    if found is None:
        raise UserError(f'the program "{name}" is not installed here: pip install it, or correct the sweep file.')
    return found


def _parse(line: str, where: str) -> SweepRun:
    try:
        data = parse_json(line)
    except ValueError as error:
        raise UserError(f"{where} is no JSON: {error}.") from None
    if not isinstance(data, dict):
        raise UserError(f"{where} is no JSON object.")
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
        if name.replace("-", "_") in RESERVED:
            raise UserError(f'{where}: "args" may not hold "{name}", which the sweep sets itself.')
        if not all(isinstance(v, str | int | float | None) for v in (value if isinstance(value, list) else [value])):
            raise UserError(f'{where}: the option "{name}" must be a string, number, bool or list of these.')
    return SweepRun(tuple(command), config, args)


def _leaves(tree: Any, path: str) -> list[tuple[str, Any]]:
    if not isinstance(tree, dict):
        return [(path, tree)]
    return [leaf for name, sub in tree.items() for leaf in _leaves(sub, f"{path}.{name}" if path else name)]


def _brief(value: Any) -> str:
    """A value in at most 40 characters; a long list by its length."""
    text = str(value)
    if len(text) <= 40:
        return text
    return f"[{len(value)} items]" if isinstance(value, list) else f"{text[:37]}..."


def _short(name: str) -> str:
    """`config.config.ppo.lr` -> `ppo.lr`, `args.seed` -> `seed`."""
    for prefix in ("config.config.", "config.", "args."):
        if name.startswith(prefix):
            return name.removeprefix(prefix)
    return name
