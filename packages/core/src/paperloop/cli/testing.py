"""A check for tests: every field of every command answers a wrong value in the words that were typed."""

from __future__ import annotations

import contextlib
import dataclasses
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from paperloop.cli.app import App
from paperloop.cli.options import Command, Option, Typed
from paperloop.settings.shapes import Shape

__all__ = ["check_command_errors"]


def check_command_errors(app: App) -> int:
    """Check that a wrong value of every field of every command is refused by the option that was typed.

    Every field is walked, of all members of every union. Fields that take any text cannot be wrong and are left out.
    No command is run. Returns how many fields were tried.

    Raises:
        AssertionError: one of them is accepted, or refused in other words; the message shows the command line.
    """
    tried = 0
    for command in app.commands.values():
        probe = App(app.prog, app.description, app.distribution)
        probe.commands[command.name] = dataclasses.replace(command, function=lambda *_: 0)
        for switches in _choices(command):
            table = Typed(command, switches).table
            if any(option.switch and option.required for option in table.values()):
                continue  # a line of its own for each member follows
            for option in table.values():
                wrong = None if option.switch else _wrong(option.shape)
                if wrong is not None:
                    tried += 1
                    needed = [_typed(o, _right(o)) for o in table.values() if o.required and o is not option]
                    argv = [command.name, *switches, *needed, _typed(option, wrong)]
                    _expect(probe, argv, f"error: {option.name} is {wrong}; it must be ")
    return tried


def _expect(app: App, argv: list[str], start: str) -> None:
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
        code = app.main(argv)
    text, line = errors.getvalue(), " ".join([app.prog, *argv])
    assert code == 2, f"{line} is accepted (exit code {code})"
    assert text.startswith(start), f"{line} is answered {text!r}, which does not begin with {start!r}"
    assert text.count("\n") == 1, f"{line} is answered by several lines: {text!r}"


def _choices(command: Command) -> Iterator[list[str]]:
    """Command lines that between them choose every member of every union once."""
    seen: set[tuple[str, str]] = set()
    waiting: list[list[str]] = [[]]
    while waiting:
        line = waiting.pop()
        yield line
        for path, option in Typed(command, line).table.items():
            new = [tag for tag in option.switch if (path, tag) not in seen]
            seen |= {(path, tag) for tag in new}
            others = [word for word in line if not word.startswith(f"{option.name}=")]
            waiting += [[*others, f"{option.name}={tag}"] for tag in new]


def _typed(option: Option, word: str) -> str:
    return word if option.positional else f"{option.name}={word}"


def _right(option: Option) -> str:
    """A word that a required option takes."""
    shape = next(iter(option.shape.items(1) or ()), option.shape)
    (kind, extra), *_ = shape.parts
    low = max([1, *(getattr(e, "ge", 0) or 0 for e in extra), *((getattr(e, "gt", 0) or 0) + 1 for e in extra)])
    words = [*option.switch, *map(str, shape.choices)]
    return words[0] if words else {bool: "True", int: str(low), float: str(low)}.get(kind, "x")


def _wrong(shape: Shape) -> str | None:
    """A word that is not taken: out of range where there is one; None where anything is."""
    if {str, Path} & set(shape.kinds) or shape.members:
        return None
    if shape.several:
        return next((_wrong(item) for count in range(1, 9) for item in shape.items(count) or ()), None)
    for kind, extra in shape.parts:
        for name, step in (("gt", -1), ("ge", -1), ("lt", 1), ("le", 1)) if kind in (int, float) else ():
            bounds: list[Any] = [getattr(e, name) for e in extra if getattr(e, name, None) is not None]
            if bounds:
                return str(bounds[0] + step)
    return "wrong"
