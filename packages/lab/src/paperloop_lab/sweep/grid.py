"""Grids: every combination of some settings, as the runs of a sweep."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from paperloop.cli.options import MISSING, Command
from paperloop.errors import UserError
from paperloop.settings import config_document, defaults, did_you_mean, field_paths, replace_in, to_dict
from paperloop_lab.report.reading import flattened
from paperloop_lab.sweep.commands import app_command, read_words
from paperloop_lab.sweep.plan import RESERVED, SweepRun, write_sweep

__all__ = ["grid_of_command", "make_grid"]


def grid_of_command(words: Sequence[str], vary: Mapping[str, Sequence[str]]) -> list[SweepRun]:
    """Return the runs of a full grid over options of a command, the last axis varying fastest.

    >>> grid_of_command(["minimax-ued", "train", "--preset", "small"], {"ppo.lr": ["1e-3", "1e-4"], "seed": ["0", "1"]})

    Each combination is read as the command itself would read it, so a wrong name or value is the command's own error.

    Args:
        words: the command as it is typed, without --out and --resume, which the sweep gives.
        vary: name of an option -> the values it takes, as they are typed.

    Raises:
        UserError: the command is not one of `paperloop.cli`, or refuses a combination, or two are the same run.
    """
    found = app_command(words)
    if found is None:
        raise UserError(
            f'"{shlex.join(words)}" is not a command of paperloop.cli: give a program such as minimax-ued, or a script '
            'with an App and `if __name__ == "__main__":`, and its command.'
        )
    command, count = found
    given = [word.partition("=")[0].removeprefix("--") for word in words if word.startswith("--")]
    if wrong := [name for name in (*given, *vary) if name in ("out", "resume")]:
        raise UserError(f"--{wrong[0]} is what the sweep itself gives to every run: leave it out.")
    varied = {name.replace("-", "_") for name in vary}
    runs, seen = [], {}
    for values in itertools.product(*vary.values()):
        argv = [*words[count:], "--out", "."]
        for name, value in zip(vary, values, strict=True):
            argv += [f"--{name}={value}"] if len(parts := shlex.split(value)) == 1 else [f"--{name}", *parts]
        run = _run(command, words[:count], argv, varied)
        _refuse_equal(run, dict(zip(vary, values, strict=True)), seen)
        runs.append(run)
    return runs


def _refuse_equal(run: SweepRun, point: Mapping[str, Any], seen: dict[str, Mapping[str, Any]]) -> None:
    """Raise where an earlier point of the grid, of those in `seen`, is the same run; note this one there."""
    before = seen.setdefault(run.id, point)
    if before is not point:
        told = [
            ", ".join(f"{k}={v}" for k, v in p.items() if repr(v) != repr(q[k]))
            for p, q in ((before, point), (point, before))
        ]
        raise UserError(
            f"{' and '.join(told)} are the same run: leave one out."
            if all(told)
            else f"{', '.join(f'{k}={v}' for k, v in point.items())} is given twice: leave one out."
        )


def _run(command: Command, words: Sequence[str], argv: Sequence[str], varied: Collection[str]) -> SweepRun:
    """The run that a command line stands for: the whole configuration, and options.

    Options that are the defaults are left out, but for the seed and those that are varied, which tell the runs apart.
    """
    typed, options, config = read_words(command, argv)
    if config is None:
        raise UserError(f"{command.prog} has no configuration to vary.")
    usual = flattened(defaults(command.options)) if options is not None else {}
    values = flattened(to_dict(options)) if options is not None else {}
    loose = [word for path, option in typed.table.items() if option.positional for word in typed.words.get(path, ())]
    args = {
        name: value
        for name, value in values.items()
        if name not in RESERVED
        and (value != usual.get(name, MISSING) or name == "seed" or name in varied)
        and not (name in typed.table and typed.table[name].positional)
    }
    return SweepRun((*words, *loose), config_document(config, command.schema), args)


def make_grid(
    command: Sequence[str],
    base_config: Any,
    axes: Mapping[str, Sequence[Any]],
    path: Path | str | None = None,
    *,
    args: Mapping[str, Any] | None = None,
    schema: int = 1,
) -> list[SweepRun]:
    """Return the runs of a full grid over settings, the last axis varying fastest, and write them to `path`.

    >>> make_grid(["my-method", "train"], Train(), {"ppo.lr": [1e-4, 1e-3], "seed": range(5)}, "sweep.jsonl")

    Args:
        command: program and sub-command.
        base_config: the settings that the axes change.
        axes: dotted path of a setting, or "seed" -> the values it takes.
        path: the file to write; None writes none.
        args: options that all runs get.
        schema: the schema number of the configuration.

    Raises:
        UserError: an axis is empty or names nothing (with the nearest name), a value does not fit, or two runs are the
            same.
    """
    paths = field_paths(base_config)
    for name, values in axes.items():
        if name not in paths and name != "seed":
            raise UserError(f'there is no setting "{name}" to vary{did_you_mean(name, [*paths, "seed"])}')
        if len(values) == 0:
            raise UserError(f'the axis "{name}" has no values.')
    runs, seen = [], {}
    for values in itertools.product(*axes.values()):
        point = dict(zip(axes, values, strict=True))
        config = replace_in(base_config, {k: v for k, v in point.items() if k in paths})
        extra = {k: v for k, v in point.items() if k not in paths}
        run = SweepRun(tuple(command), config_document(config, schema), {**(args or {}), **extra})
        _refuse_equal(run, point, seen)
        runs.append(run)
    if path is not None:
        write_sweep(runs, path)
    return runs
