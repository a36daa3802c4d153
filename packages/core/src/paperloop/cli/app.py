"""A program with sub-commands: what it is made of, and how errors and signals end it."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from paperloop.cli.help import command_help, program_help
from paperloop.cli.options import Command, Typed
from paperloop.errors import UserError, printable, running_command
from paperloop.settings import did_you_mean
from paperloop.signals import leave_on_interrupt

__all__ = ["App"]

Function = TypeVar("Function", bound=Callable[..., Any])


class App:
    """A program with sub-commands, which `commands` holds by name.

    `--version` shows that of the distribution, by default the one named like the program.
    """

    def __init__(self, prog: str, description: str, distribution: str | None = None):
        self.prog = prog
        self.description = description
        self.distribution = distribution or prog
        self.commands: dict[str, Command] = {}

    def command(
        self,
        name: str | None = None,
        *,
        options: type | None = None,
        config: type | None = None,
        presets: Mapping[str, Any] | None = None,
        preset_help: Mapping[str, str] | None = None,
        schema: int = 1,
        essentials: Sequence[str] = (),
    ) -> Callable[[Function], Function]:
        """Make a function a sub-command; its docstring's first line is the one-line help.

        The function is called with what was asked for: `(options, config)`, `(options)`, `(config)` or `()`. It
        returns None, or the exit code.

        Args:
            name: by default the function's, with hyphens.
            options: settings next to the configuration; fields marked `Positional[...]` need no name.
            config: the settings of the method, with `--preset`, `--config` and an option for each field.
            presets: name -> configuration.
            preset_help: name -> a few words.
            schema: the schema number of configuration files.
            essentials: paths of the settings that the short help shows, next to positional and required ones, --out
                and --device.
        """

        def register(function: Function) -> Function:
            key = name or function.__name__.replace("_", "-")  # ty: ignore[missing-attribute]
            self.commands[key] = Command(
                key, f"{self.prog} {key}", function, options, config, presets or {}, preset_help or {}, schema,
                tuple(essentials), self.distribution,
            )  # fmt: skip
            return function

        return register

    def main(self, argv: Sequence[str] | None = None) -> int:
        """Run the command line and return the exit code.

        0: done. 2: an error of the user's making, said in one sentence. 130: Ctrl-C. A run that was interrupted ends
        with 128 + signal. Any other exception is a bug and leaves with its traceback.

        What the terminal cannot show is replaced, and control characters in messages are shown escaped.
        """
        arguments = list(sys.argv[1:] if argv is None else argv)
        if argv is None:
            leave_on_interrupt()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(AttributeError, ValueError):
                stream.reconfigure(errors="backslashreplace" if stream is sys.stderr else "replace")  # ty: ignore
        debug = "--debug" in arguments
        token = running_command.set(None)
        try:
            return self._run([a for a in arguments if a != "--debug"])
        except UserError as error:
            if debug:
                traceback.print_exc()
            print(printable(f"error: {error}"), file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            if debug:
                traceback.print_exc()
            print("interrupted", file=sys.stderr)
            return 130
        except BrokenPipeError:  # `... | head`: nobody reads any more
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 128 + 13
        except SystemExit as stop:
            if isinstance(stop.code, str):
                print(printable(stop.code), file=sys.stderr)
                return 1
            return stop.code or 0
        finally:
            running_command.reset(token)

    def _run(self, argv: list[str]) -> int:
        if not argv or argv[0] in ("-h", "--help", "--help-all"):
            print(program_help(self.prog, self.description, self.commands.values()), file=None if argv else sys.stderr)
            return 0 if argv else 2
        name, *rest = argv
        if name == "--version":
            try:
                print(f"{self.prog} {importlib.metadata.version(self.distribution)}")
            except importlib.metadata.PackageNotFoundError:
                print(f"{self.prog}, which is not an installed package and has no version")
            return 0
        command = self.commands.get(name)
        if command is None:
            raise UserError(f'{self.prog} has no command "{name}"{did_you_mean(name, self.commands)}')
        typed = Typed(command, rest)
        running_command.set(typed.command_words())
        if typed.help:
            print(command_help(typed, everything=typed.help == "help_all"))
            return 0
        values = [value for value in typed.read() if value is not None]
        code = command.function(*values)
        sys.stdout.flush()
        return code or 0
