"""Errors of the user's making: one clear sentence, no traceback, exit code 2; in the words of whoever runs the code."""

from __future__ import annotations

import dataclasses
import difflib
import shlex
import sys
from collections.abc import Collection, Iterable, Mapping
from contextvars import ContextVar
from typing import Any, TextIO

__all__ = [
    "CheckpointError", "CommandWords", "NonFiniteError", "UserError", "did_you_mean", "nearest", "note",
    "printable", "running_command", "setting",
]  # fmt: skip

_ABSENT = object()


class UserError(Exception):
    """Something the user can fix.

    The message is one sentence that names what is wrong, where, and how to fix it. Command lines print it without a
    traceback and exit with code 2; library code raises it like any other exception.
    """


class CheckpointError(UserError):
    """A checkpoint that is damaged, incomplete, or belongs to another configuration."""


class NonFiniteError(UserError):
    """A metric became NaN or infinite, and the run was asked to stop on that."""


@dataclasses.dataclass(frozen=True)
class CommandWords:
    """How the settings of the running command are typed."""

    prog: str  # the program and its command, such as "minimax-ued train"
    options: Mapping[str, str]  # dotted path of a setting -> how its option is written, such as "--ppo.lr"
    #: Path of one that is switched on and off -> how it is switched off, such as "--no-anneal".
    flags: Mapping[str, str] = dataclasses.field(default_factory=dict)
    #: Name of a settings class -> the path of its only instance among the settings ("" for the outermost).
    classes: Mapping[str, str] = dataclasses.field(default_factory=dict)
    distribution: str = ""  # the package whose command runs
    given: Collection[str] = ()  # paths of the settings that were typed

    def find(self, name: str) -> str | None:
        """Return the path that a full path, or a suffix that only one path has, stands for."""
        if name in self.options:
            return name
        found = [path for path in self.options if path.endswith(f".{name}")]
        return found[0] if len(found) == 1 else None

    def option(self, owner: str, path: str) -> str | None:
        """Return the option of a field, given by the name of its settings class and its path within."""
        holder = self.classes.get(owner, None if owner else "")
        return None if holder is None else self.options.get(f"{holder}.{path}" if holder else path)


#: The command that runs, set by `paperloop.cli.App`; None in Python.
running_command: ContextVar[CommandWords | None] = ContextVar("paperloop_command", default=None)


def setting(name: str, value: Any = _ABSENT, otherwise: str | None = None) -> str:
    """Return how the person who runs this code writes a setting, for a message.

    >>> setting("drop_nonfinite", True)
    'drop_nonfinite=True'

    Under a command that has the option it is "--loading.drop-nonfinite"; a False flag is "--no-NAME", and a tuple
    "--sizes 64 64".

    Args:
        name: the field, as a full dotted path, or as much of its end as is unique among the command's options.
        value: the value to give; left out, only the name is returned.
        otherwise: what to say where the running command has no such option; by default that it is a setting in Python.
    """
    words = running_command.get()
    python = name if value is _ABSENT else f"{name}={value!r}"
    if words is None:
        return python
    path = words.find(name)
    if path is None:
        return f"{python} in Python" if otherwise is None else otherwise
    option = words.options[path]
    if value is _ABSENT:
        return option
    if path in words.flags and isinstance(value, bool):
        return option if value else words.flags[path]
    return " ".join([option, *(shlex.quote(str(v)) for v in (value if isinstance(value, tuple | list) else [value]))])


def shown(name: object) -> str:
    r"""Return a name for a message, on one line, with control characters escaped so that they reach no terminal.

    >>> shown("a\x1b[31m\n")
    'a\\x1b[31m\\n'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(name))


def printable(text: str) -> str:
    """Return text as `shown` does, but with its lines and tabs."""
    return "".join(c if c in "\n\t" else shown(c) for c in text)


def note(texts: Iterable[str], file: TextIO | None = None) -> None:
    """Print each of the texts as "note: ...", on standard error unless told otherwise: warnings, with --quiet too."""
    for text in texts:
        print(printable(f"note: {text}"), file=file or sys.stderr)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `; did you mean "x"?` for what is near of `known`, or `; known are ...` where nothing is (`nearest`)."""
    choices = [str(k) for k in known]
    if near := nearest(name, choices):
        return "; did you mean " + " or ".join(f'"{k}"' for k in near) + "?"
    return f"; known are {', '.join(choices)}." if choices else "; nothing is known here."


def nearest(name: str, known: Iterable[str], separators: str = "._-", cutoff: float = 0.6) -> list[str]:
    """Return at most three of the `known` names that are near to one.

    A name that begins or ends with the one given, as whole words between `separators`, is nearer than one of similar
    letters (similar by at least `cutoff`, in (0, 1]).
    """
    choices = [str(k) for k in known]
    low = name.lower()
    near = [k for k in choices if k.lower().replace("-", "_") == low.replace("-", "_")]
    near = near or [k for k in choices if any(k.lower().startswith(low + s) for s in separators)]
    near = near or [k for k in choices if any(k.lower().endswith(s + low) for s in separators)]
    return (near or difflib.get_close_matches(name, choices, n=1, cutoff=cutoff))[:3]
