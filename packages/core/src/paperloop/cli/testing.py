"""A check for tests: every field of every command answers a wrong value in the words that were typed."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import itertools
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from paperloop.annotations import alternatives
from paperloop.cli.app import App
from paperloop.cli.options import Command, Option, Typed

__all__ = ["check_command_errors"]


def check_command_errors(app: App) -> int:
    """Check that a wrong value of every field of every command is refused by the option that was typed.

    Every field is walked, of all members of every union. Fields that take any text cannot be wrong and are left out.
    No command is run.

    Args:
        app: the program.

    Returns:
        How many fields were tried.

    Raises:
        AssertionError: one of them is accepted, or refused in other words; the message shows the command line.
    """
    tried = 0
    for command in app.commands.values():
        silent = dataclasses.replace(command, function=_ran)
        probe = App(app.prog, app.description, app.distribution)
        probe.commands[command.name] = silent
        for switches in _choices(command):
            table = Typed(command, switches).table
            needed = list(itertools.chain.from_iterable(_give(o) for o in table.values() if o.required))
            for option in table.values():
                wrong = _wrong(option)
                if wrong is None or option.switch:
                    continue
                tried += 1
                given = needed if not option.required else [
                    word for o in table.values() if o.required and o is not option for word in _give(o)
                ]  # fmt: skip
                argv = [command.name, *switches, *given, wrong if option.positional else f"{option.name}={wrong}"]
                _expect(probe, argv, f"error: {option.name} is {wrong}; it must be ")
    return tried


def _ran(*_: Any) -> int:
    raise AssertionError("the command was run")


def _expect(app: App, argv: list[str], start: str) -> None:
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
        try:
            code = app.main(argv)
        except AssertionError:
            code = 0
    text = errors.getvalue()
    line = " ".join([app.prog, *argv])
    assert code == 2, f"{line} is accepted (exit code {code})"
    assert text.startswith(start), f"{line} is answered {text!r}, which does not begin with {start!r}"
    assert text.count("\n") == 1, f"{line} is answered by several lines: {text!r}"


def _choices(command: Command) -> Iterator[list[str]]:
    """Command lines that between them choose every member of every union once."""
    yield []
    seen = set()
    waiting: list[list[str]] = [[]]
    while waiting:
        before = waiting.pop()
        for path, option in Typed(command, before).table.items():
            for tag in option.switch:
                if (path, tag) not in seen:
                    seen.add((path, tag))
                    line = [word for word in before if not word.startswith(f"{option.name}=")] + [
                        f"{option.name}={tag}"
                    ]
                    yield line
                    waiting.append(line)


def _give(option: Option) -> list[str]:
    """A required option with a value that it takes."""
    value = next(iter(option.switch), None) or _right(option.annotation)
    return [value] if option.positional else [f"{option.name}={value}"]


def _right(annotation: Any) -> str:
    part, extra = alternatives(annotation)[0]
    if get_origin(part) is Literal:
        return str(get_args(part)[0])
    if get_origin(part) is tuple:
        return _right(get_args(part)[0])
    if part is bool:
        return "True"
    low = max([getattr(e, "ge", None) or (getattr(e, "gt", None) or 0) + 1 for e in extra if hasattr(e, "ge")
               or hasattr(e, "gt")] or [1])  # fmt: skip
    return str(low) if part in (int, float) else next(iter(getattr(part, "__members__", {"x": 0})))


def _wrong(option: Option) -> str | None:
    """A word that the option does not take: out of range where there is one; None where it takes anything."""
    parts = alternatives(option.annotation)
    kinds = {part for part, _ in parts}
    if kinds & {str, Path}:
        return None
    for part, extra in parts:
        if get_origin(part) is tuple:
            return _wrong(Option(option.path, get_args(part)[0], None))
        if part in (int, float):
            for e in extra:
                for name, step in (("gt", -1), ("ge", -1), ("lt", 1), ("le", 1)):
                    bound = getattr(e, name, None)
                    if bound is not None:
                        return str(bound + step)
    if option.flag and not kinds <= {bool, types.NoneType}:
        return None  # settings that may be absent
    return "wrong"
