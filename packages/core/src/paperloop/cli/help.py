"""The help of a program and of its commands: at most a screen of what most people need; all of it on demand."""

from __future__ import annotations

import inspect
import json
import shutil
import textwrap
import types
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from paperloop.annotations import alternatives
from paperloop.cli.options import MISSING, Command, Option, Typed, choose
from paperloop.settings import defaults, to_dict

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
    return "\n".join([*lines, "", f"`{prog} COMMAND --help` shows a command's options. With --debug, errors show where",
                      "they come from."])  # fmt: skip


def command_help(typed: Typed, *, everything: bool) -> str:
    """Return a command's help, with the values of the chosen preset as defaults.

    Args:
        typed: what was typed before the help was asked for.
        everything: all options, instead of a screen of the essential ones.
    """
    command = typed.command
    options = list(typed.table.values())
    if not everything:
        whole = _page(typed, options, presets="lines") if len(options) < SCREEN else []
        if 0 < len(whole) <= SCREEN:
            return "\n".join(whole)
        wanted = {*COMMON, *command.essentials}
        options = [o for o in options if o.positional or o.required or o.path in wanted or o.switch]
        page: list[str] = []
        for presets in ("lines", "names") if len(command.presets) < SCREEN // 2 else ("names",):
            page = _page(typed, options, presets=presets, short=True)
            if len(page) <= SCREEN:
                break
        return "\n".join(page)
    return "\n".join(_page(typed, options, presets="full"))


def _page(typed: Typed, options: list[Option], *, presets: str, short: bool = False) -> list[str]:
    command = typed.command
    positional = [o for o in options if o.positional]
    usage = [f"{o.name}{' ...' if o.several else ''}" for o in positional]
    usage = [name if o.required else f"[{name}]" for o, name in zip(positional, usage, strict=True)]
    usage += [f"{o.name} {_metavar(o)}" for o in options if o.required and not o.positional]
    lines = [*_wrap(" ".join([f"usage: {command.prog}", *usage, "[options]"])), ""]
    for paragraph in summary(command).split("\n\n"):
        lines += [*_wrap(" ".join(paragraph.split())), ""]
    groups: dict[str, list[str]] = {"arguments": [], "options": []}
    for option in sorted(options, key=lambda o: (not o.required, o.path not in COMMON)) if short else options:
        holder = option.path.removesuffix(".type").rpartition(".")[0] if not short else ""
        group = "arguments" if option.positional else holder or "options"
        groups.setdefault(group, []).extend(_entry(option))
    if command.config is not None:
        groups["options"] += _rows("--config FILE", "start from the settings in this file or run folder")
        if command.presets:
            chosen = f" (default: {typed.preset})" if typed.preset else ""
            groups["options"] += _rows("--preset NAME", f"start from one of the presets below{chosen}")
    groups["options"] += _rows("--help, --help-all", "show the essential options, or all")
    for title, rows in groups.items():
        if rows:
            lines += [f"{title}:", *rows, ""]
    if command.presets:
        lines += [*_presets(typed, presets), ""]
    if short:
        hint = f"`{command.prog} --help-all` lists all {len(typed.table)} options"
        lines += _wrap(
            hint + ("; with --preset NAME, the help shows that preset's values." if command.presets else ".")
        )
    return lines[:-1] if lines[-1] == "" else lines


def _entry(option: Option) -> list[str]:
    """The lines of one option: how it is typed, what it is, its default."""
    text = option.text.removesuffix(".")
    if option.switch:
        text = f"{text} ({', '.join(option.switch)})".strip()
    if option.required:
        text = f"{text} (required)"
    elif not (option.default in (None, []) if option.positional else option.default is None and "None" in text):
        text = f"{text} (default: {_value(option.default)})"
    name = option.name if option.positional else f"{option.name} {_metavar(option)}".rstrip()
    if option.flag:
        holder, dot, last = option.path.replace("_", "-").rpartition(".")
        name = f"{option.name}, --{holder}{dot}no-{last}"
    return _rows(name, text.strip())


def _rows(name: str, text: str) -> list[str]:
    head = f"  {name:<26}  "
    if len(head) > 30:
        return [head.rstrip(), *_wrap(text, " " * 30)]
    return _wrap(text, head)


def _metavar(option: Option) -> str:
    if option.switch:
        return "NAME"
    words = [_kind(part) for part, _ in alternatives(option.annotation) if part is not types.NoneType]
    return "|".join(dict.fromkeys(words))


def _kind(part: Any) -> str:
    if get_origin(part) is Literal:
        return "|".join(str(choice) for choice in get_args(part))
    if get_origin(part) is tuple:
        args = get_args(part)
        inner = [_metavar(Option("", arg, None)) for arg in args if arg is not Ellipsis]
        inner = [f"{{{word}}}" if "|" in word else word for word in inner]
        return f"[{inner[0]} ...]" if Ellipsis in args else " ".join(inner)
    if hasattr(part, "__members__"):
        return "|".join(part.__members__)
    return {int: "INT", float: "NUMBER", str: "TEXT", Path: "PATH", bool: ""}.get(part, "VALUE")


def _value(value: Any) -> str:
    if value is MISSING:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return "as below"
    if isinstance(value, list):
        return " ".join(map(str, value)) or "empty"
    return str(value) if value != "" else '""'


def _presets(typed: Typed, how: str) -> list[str]:
    """The presets: names alone, one line each, or in full, saying in what they differ from the defaults."""
    command = typed.command
    if how == "names":
        return ["presets:", *_wrap(", ".join(command.presets), "  ")]
    width = max(map(len, command.presets))
    lines = ["presets, and in what they differ from the defaults:"]
    for name, config in command.presets.items():
        changed = [f"{k}={_brief(v)}" for k, v in differences(command.config, to_dict(config)).items()]
        text = "; ".join(filter(None, [command.preset_help.get(name, ""), ", ".join(changed) or "the defaults"]))
        head = f"  {name:<{width}}  "
        lines += _wrap(text, head) if how == "full" else [head + _cut(text, _width() - len(head))]
    return lines


def differences(cls: Any, tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return path -> value of what differs, in the JSON of settings, from the defaults of the members chosen."""
    leaves = _leaves(tree)
    base = defaults(cls)
    usual = {path: tag for path, tag in _leaves(base).items() if path.endswith(".type")}
    choose(cls, base, {path: tag for path, tag in leaves.items() if path.endswith(".type")}, "")
    before = {**_leaves(base), **usual}
    return {path: value for path, value in leaves.items() if before.get(path, MISSING) != value}


def _leaves(tree: Any, path: str = "") -> dict[str, Any]:
    if not isinstance(tree, Mapping):
        return {path: tree}
    return {k: v for name, sub in tree.items() for k, v in _leaves(sub, f"{path}.{name}" if path else name).items()}


def _brief(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 4].rstrip(" ,") + " ..."


def _width() -> int:
    return min(max(shutil.get_terminal_size((80, 24)).columns, 80), 110)


def _wrap(text: str, head: str = "") -> list[str]:
    rows = textwrap.wrap(
        text, _width(), initial_indent=head, subsequent_indent=" " * len(head), break_on_hyphens=False,
        break_long_words=False,
    )  # fmt: skip
    return rows or [head.rstrip()]
