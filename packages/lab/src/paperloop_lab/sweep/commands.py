"""The command that the words of a sweep start, with its options and settings, where it is one of `paperloop.cli`.

It is found without being run: for a program, by the entry point of its package; for a script, by running the file under
another name than `__main__`, which defines its `App` and starts nothing.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import re
import runpy
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from paperloop.cli import App
from paperloop.cli.options import Command, Typed
from paperloop.errors import UserError, running_command

__all__ = ["app_command", "read_words"]


def app_command(words: Sequence[str]) -> tuple[Command, int] | None:
    """Return the command that words start and how many of them name it; None where it is not one of `paperloop.cli`.

    Args:
        words: such as ("minimax-ued", "train"), ("python", "mine.py", "train") or ("python", "-m", "mine", "train").
    """
    python = bool(re.fullmatch(r"python[0-9.]*", Path(words[0]).name))
    module = list(words[1:2]) == ["-m"]
    count = 1 + python + (python and module)
    if len(words) < count or (python and not module and not words[1].endswith(".py")):
        return None
    app = _of_script(words[1:count]) if python else _of_program(words[0])
    if app is None:
        return None
    name = words[count] if len(words) > count else ""
    if name not in app.commands:
        raise UserError(f'{" ".join(words[:count])} has no command "{name}": it has {", ".join(app.commands)}.')
    return app.commands[name], count + 1


def read_words(command: Command, argv: Sequence[str]) -> tuple[Typed, Any, Any]:
    """Return what was typed for a command, its options and its configuration, read as the command itself reads them."""
    typed = Typed(command, argv)
    token = running_command.set(typed.command_words())
    try:
        return typed, *typed.read()
    except UserError as error:
        raise UserError(str(error)) from error  # said in the words of that command, not of this one
    finally:
        running_command.reset(token)


def _of_program(name: str) -> App | None:
    for entry in importlib.metadata.entry_points(group="console_scripts", name=name):
        app = getattr(entry.load(), "__self__", None)
        if isinstance(app, App):
            return app
    return None


def _of_script(words: Sequence[str]) -> App | None:
    """The `App` of a script or module that starts nothing when it is loaded under another name."""
    *flag, name = words
    try:
        spec = importlib.util.find_spec(name) if flag else None
        path = Path(spec.origin) if spec is not None and spec.origin else Path(name)
        source = path.read_text(encoding="utf-8")
        if "App(" not in source or not re.search(r"""if __name__ == ["']__main__["']""", source):
            return None
        names: Mapping[str, Any]
        if flag:
            names = vars(importlib.import_module(name))
        else:
            sys.path.insert(0, str(path.parent.absolute()))  # as Python does
            names = runpy.run_path(str(path), run_name=path.stem)
    except Exception as error:  # whatever the script does
        raise UserError(f"{name} cannot be loaded ({type(error).__name__}: {error}): correct it.") from error
    return next((value for value in names.values() if isinstance(value, App)), None)
