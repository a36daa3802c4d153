"""Grids: every combination of some options of a command, as the runs of a sweep."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Collection, Mapping, Sequence

from paperloop.cli.options import MISSING, Command
from paperloop.errors import UserError
from paperloop.settings import config_document, defaults, flatten, to_dict
from paperloop_lab.sweep.commands import app_command, read_words
from paperloop_lab.sweep.plan import RESERVED, SweepRun

__all__ = ["grid_of_command"]


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
    runs: list[SweepRun] = []
    seen: dict[str, dict[str, str]] = {}
    for values in itertools.product(*vary.values()):
        point = dict(zip(vary, values, strict=True))
        argv = [*words[count:], "--out", "."]
        for name, value in point.items():
            argv += [f"--{name}={value}"] if len(parts := shlex.split(value)) == 1 else [f"--{name}", *parts]
        run = _run(command, words[:count], argv, varied)
        if (before := seen.setdefault(run.id, point)) is not point:
            told = [
                ", ".join(f"{k}={v}" for k, v in p.items() if before == point or before[k] != point[k])
                for p in (before, point)
            ]
            what = f"{told[0]} is given twice" if before == point else f"{' and '.join(told)} are the same run"
            raise UserError(f"{what}: leave one out.")
        runs.append(run)
    return runs


def _run(command: Command, words: Sequence[str], argv: Sequence[str], varied: Collection[str]) -> SweepRun:
    """The run that a command line stands for: the whole configuration, and options.

    Options that are the defaults are left out, but for the seed and those that are varied, which tell the runs apart.
    """
    typed, options, config = read_words(command, argv)
    if config is None:
        raise UserError(f"{command.prog} has no configuration to vary.")
    usual = flatten(defaults(command.options)) if options is not None else {}
    values = flatten(to_dict(options)) if options is not None else {}
    loose = [word for path, option in typed.table.items() if option.positional for word in typed.words.get(path, ())]
    args = {
        name: value
        for name, value in values.items()
        if name not in RESERVED
        and (value != usual.get(name, MISSING) or name == "seed" or name in varied)
        and not (name in typed.table and typed.table[name].positional)
    }
    return SweepRun((*words, *loose), config_document(config, command.schema), args)
