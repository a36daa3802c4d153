"""The help of a program and of its commands: at most a screen of what most people need; all of it on demand."""

from __future__ import annotations

import inspect
import json
import shutil
import textwrap
import types
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from paperloop.cli.options import Command, Option, Typed
from paperloop.settings import defaults, to_dict
from paperloop.settings.shapes import Shape, shapes

__all__ = ["command_help", "program_help", "summary"]

SCREEN = 60  # lines
COMMON = ("out", "device")


def summary(command: Command) -> str:
    """Return the command's docstring up to its sections, which are for readers of the code."""
    text = inspect.cleandoc(command.function.__doc__ or "")
    return text.split("\n\nArgs:")[0].split("\n\nRaises:")[0].split("\n\nReturns:")[0]


def program_help(prog: str, description: str, commands: Iterable[Command]) -> str:
    """Return a program's help: its commands with one line each."""
    commands = list(commands)
    width = max((len(command.name) for command in commands), default=0)
    lines = [f"usage: {prog} [--help] [--version] COMMAND ...", "", *_wrap(description), "", "commands:"]
    for command in commands:
        lines += _wrap(summary(command).splitlines()[0], f"  {command.name:<{width}}  ")
    more = f"`{prog} COMMAND --help` shows a command's options. With --debug, errors show where they come from."
    return "\n".join([*lines, "", *_wrap(more)])


def command_help(typed: Typed, *, everything: bool) -> str:
    """Return a command's help, with the values of the chosen preset as defaults: a screen of it, or everything."""
    options = list(typed.table.values())
    page = _page(typed, options, presets="full" if everything else "lines")
    if not everything and len(page) > SCREEN:
        wanted = {*COMMON, *typed.command.essentials}
        options = [o for o in options if o.positional or o.required or o.path in wanted or o.switch]
        options.sort(key=lambda o: (not o.required, o.path not in COMMON))
        page = _page(typed, options, presets="lines", short=True)
        if len(page) > SCREEN:
            page = _page(typed, options, presets="names", short=True)
    return "\n".join(page)


def _page(typed: Typed, options: list[Option], *, presets: str, short: bool = False) -> list[str]:
    command = typed.command
    usage = [f"usage: {command.prog}"]
    for o in sorted(options, key=lambda o: not o.positional):
        if o.positional or o.required:
            name = f"{o.name}{' ...' if o.shape.several else ''}" if o.positional else f"{o.name} {_metavar(o)}"
            usage.append(name if o.required else f"[{name}]")
    lines = [*_wrap(" ".join([*usage, "[options]"])), ""]
    for paragraph in summary(command).split("\n\n"):
        lines += [*_wrap(" ".join(paragraph.split())), ""]
    groups: dict[str, list[str]] = {"arguments": [], "options": []}
    for option in options:
        holder = option.path.removesuffix(".type").rpartition(".")[0] if not short else ""
        groups.setdefault("arguments" if option.positional else holder or "options", []).extend(_entry(option))
    if command.config is not None:
        groups["options"] += _rows("--config FILE", "start from the settings in this file or run folder")
        if command.presets:
            chosen = f" (default: {typed.preset})" if typed.preset else ""
            groups["options"] += _rows("--preset NAME", f"start from one of the presets below{chosen}")
    groups["options"] += _rows("--help, --help-all", "show the essential options, or all")
    for title, rows in groups.items():
        lines += [f"{title}:", *rows, ""] if rows else []
    lines += [*_presets(command, presets), ""] if command.presets else []
    if short:
        more = "; with --preset NAME, the help shows that preset's values." if command.presets else "."
        lines += _wrap(f"`{command.prog} --help-all` lists all {len(typed.table)} options{more}")
    return lines if lines[-1] else lines[:-1]


def _entry(option: Option) -> list[str]:
    """The lines of one option: how it is typed, what it is, its default."""
    text = option.shape.text.removesuffix(".") + (f" ({', '.join(option.switch)})" if option.switch else "")
    if option.required:
        text += " (required)"
    elif not (option.default in (None, []) if option.positional else option.default is None and "None" in text):
        text += f" (default: {_value(option.default)})"
    how = f", {option.off}" if option.flag else "" if option.positional else f" {_metavar(option)}"
    return _rows(option.name + how, text.strip())


def _rows(name: str, text: str) -> list[str]:
    head = f"  {name:<26}  "
    return _wrap(text, head) if len(head) <= 30 else [head.rstrip(), *_wrap(text, " " * 30)]


def _metavar(option: Option) -> str:
    return "NAME" if option.switch else _kinds(option.shape)


def _kinds(shape: Shape) -> str:
    return "|".join(dict.fromkeys(_kind(kind) for kind in shape.kinds if kind is not types.NoneType))


def _kind(kind: Any) -> str:
    args = get_args(kind)
    if get_origin(kind) is Literal:
        return "|".join(map(str, args))
    if get_origin(kind) is tuple:
        inner = [_kinds(Shape(arg)) for arg in args if arg is not ...]
        inner = [f"{{{word}}}" if "|" in word else word for word in inner]
        return f"[{inner[0]} ...]" if ... in args else " ".join(inner)
    return {int: "INT", float: "NUMBER", str: "TEXT", Path: "PATH"}.get(kind, "VALUE")


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return " ".join(map(str, value)) or "empty"
    return "none" if value is None else "as below" if isinstance(value, dict) else str(value) or '""'


def _presets(command: Command, how: str) -> list[str]:
    """The presets: names alone, one line each, or in full, saying in what they differ from the defaults."""
    if how == "names":
        return ["presets:", *_wrap(", ".join(command.presets), "  ")]
    width, usual = max(map(len, command.presets)), defaults(command.config)
    lines = ["presets, and in what they differ from the defaults:"]
    for name, config in command.presets.items():
        changed = _changed(command.config, to_dict(config), usual)
        shown = ", ".join(f"{path}={v if isinstance(v, str) else json.dumps(v)}" for path, v in changed)
        text = "; ".join(filter(None, [command.preset_help.get(name, ""), shown or "the defaults"]))
        rows = _wrap(text, f"  {name:<{width}}  ")
        lines += rows if how == "full" or len(rows) == 1 else [f"{rows[0]} ..."]
    return lines


def _changed(cls: Any, tree: Mapping[str, Any], base: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Path and value of what differs between the JSON of settings, of unions from the defaults of the member chosen."""
    for name, shape in shapes(cls).items():
        path, value, usual = f"{prefix}{name}", tree[name], base.get(name)
        if value == usual:
            continue
        if not isinstance(value, dict):
            yield path, value
            continue
        member = shape.member(value)
        if not isinstance(usual, dict) or usual.get("type") != value.get("type"):
            yield (f"{path}.type", value["type"]) if len(shape.members) > 1 else (path, True)
            usual = defaults(member)
        yield from _changed(member, value, usual, f"{path}.")


def _wrap(text: str, head: str = "") -> list[str]:
    width = min(max(shutil.get_terminal_size((80, 24)).columns, 80), 110)
    rows = textwrap.wrap(
        text, width, initial_indent=head, subsequent_indent=" " * len(head), break_on_hyphens=False,
        break_long_words=False,
    )  # fmt: skip
    return rows or [head.rstrip()]
