"""The options of a command, generated from its settings, and what was typed: defaults < preset < file < typed.

`--x 1` and `--x=1`; dashes and underscores alike; a flag is `--x`, `--no-x` or `--x True`; a tuple takes all words up
to the next option; `None` is typed as it is. Where settings are one of several, `--FIELD.type NAME` chooses which,
before the other options are looked at, so that a command has the options of the member that is chosen and no others.

A preset and a file that choose different members: the file's is taken, with its defaults where the file says nothing,
and nothing of the preset's member is left.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import operator
import shlex
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

from paperloop.annotations import alternatives, field_help, field_types, from_words, members
from paperloop.errors import CommandWords, UserError
from paperloop.settings import (
    Problem,
    SettingsError,
    defaults,
    did_you_mean,
    merge,
    nearest,
    nested,
    read_document,
    to_dict,
    validate,
)

__all__ = ["MISSING", "Command", "Option", "Positional", "Typed", "choose", "options_of"]

_T = TypeVar("_T")
MISSING = object()


class _Positional:
    """The mark of an argument that is given without a name."""


#: `data: Positional[Path]` is given by its place; `runs: Positional[tuple[Path, ...]]` takes all that are left.
Positional = Annotated[_T, _Positional()]


@dataclasses.dataclass(frozen=True)
class Option:
    """One option.

    Attributes:
        path: the dotted path of its field.
        annotation: the field's.
        default: in JSON; `MISSING` where there is none.
        text: for the help.
        switch: tag -> class, where it chooses a member of a union.
    """

    path: str
    annotation: Any
    default: Any
    text: str = ""
    switch: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def positional(self) -> bool:
        """Whether it is given by its place."""
        return any(isinstance(e, _Positional) for _, extra in alternatives(self.annotation) for e in extra)

    @property
    def required(self) -> bool:
        """Whether it must be given."""
        return self.default is MISSING

    @property
    def flag(self) -> bool:
        """Whether it can be switched on and off: a bool, or settings that may be absent."""
        kinds = {part for part, _ in alternatives(self.annotation)}
        return not self.switch and (kinds <= {bool, types.NoneType} or bool(members(self.annotation)))

    @property
    def several(self) -> bool:
        """Whether it takes several words."""
        return any(get_origin(part) is tuple for part, _ in alternatives(self.annotation))

    def value(self, words: list[str]) -> Any:
        """Return in JSON what words stand for."""
        if members(self.annotation):
            return {"True": {}, "False": None, "None": None}.get(words[0], words[0])
        return from_words(self.annotation, words)

    @property
    def name(self) -> str:
        """As it is typed, or for a positional one as it is called in the help."""
        name = self.path.replace("_", "-")
        return name.upper() if self.positional else f"--{name}"


def options_of(cls: Any, tree: Mapping[str, Any], prefix: str = "") -> list[Option]:
    """Return the options of settings, of unions those of the member that is chosen in `tree`, their JSON."""
    found = []
    texts = field_help(cls)
    for name, annotation in field_types(cls).items():
        inside = members(annotation)
        value = tree.get(name, MISSING)
        path = f"{prefix}{name}"
        optional = any(part is types.NoneType for part, _ in alternatives(annotation))
        text = texts.get(name, "")
        if not inside:
            tuples = [part for part, _ in alternatives(annotation) if get_origin(part) is tuple]
            is_tag = name == "type" and prefix and get_origin(alternatives(annotation)[0][0]) is Literal
            if not is_tag and not any(members(arg) for part in tuples for arg in get_args(part)[:1]):
                found.append(Option(path, annotation, value, text))
            continue
        chosen = value.get("type") if isinstance(value, Mapping) else None
        if len(inside) > 1:
            switch = {**inside, "none": None} if optional else inside
            default = chosen or ("none" if value is None else MISSING)
            found.append(Option(f"{path}.type", str, default, text, switch=switch))
        elif optional:
            found.append(Option(path, annotation, value, text))
        member = inside.get(chosen) if len(inside) > 1 else next(iter(inside.values()))
        if member is not None:
            inner = (
                value if isinstance(value, Mapping) else {} if value is MISSING and not optional else defaults(member)
            )
            found += options_of(member, inner, f"{path}.")
    return found


@dataclasses.dataclass(frozen=True)
class Command:
    """A sub-command as it was registered; see `App.command`."""

    name: str
    prog: str
    function: Callable[..., int | None]
    options: Any
    config: Any
    presets: Mapping[str, Any]
    preset_help: Mapping[str, str]
    schema: int
    essentials: tuple[str, ...]
    distribution: str

    def __post_init__(self) -> None:
        """Refuse options and settings that share a name: the developer's error."""
        names = [set(field_types(cls)) for cls in (self.options, self.config) if cls is not None]
        own = {"preset", "config"} if self.config is not None else set()
        clash = set.intersection(*names) if len(names) == 2 else set()
        clash |= set().union(*names) & (own | {"help", "help_all", "debug"})
        if clash:
            raise TypeError(f"the options and the configuration of {self.prog} both have {', '.join(sorted(clash))}")


class Typed:
    """What was typed for a command: first what the options depend on (preset, file, members), then all of it.

    Raises:
        UserError: there is no such preset, file or member.
    """

    def __init__(self, command: Command, argv: Sequence[str]):
        self.command = command
        self.argv = list(argv)
        first = _first(argv)
        self.preset = first.get("preset") if command.presets else None
        self.help = next(
            (name for name in ("help_all", "help") if name in first or (name == "help" and "-h" in argv)), ""
        )
        self.file = Path(first["config"]) if command.config is not None and first.get("config") else None
        self.from_file: Any = {}
        self.options = defaults(command.options) if command.options is not None else {}
        self.config = self._layers() if command.config is not None else {}
        for cls, tree in ((command.options, self.options), (command.config, self.config)):
            if cls is not None:
                choose(cls, tree, first, "")
        own = options_of(command.options, self.options) if command.options is not None else []
        self._own = {option.path for option in own}
        self.table = {o.path: o for o in own + (options_of(command.config, self.config) if command.config else [])}
        self.words: dict[str, list[str]] = {}

    def _layers(self) -> Any:
        """The JSON of the configuration below the typed options."""
        command, tree = self.command, defaults(self.command.config)
        if self.preset is not None:
            if self.preset not in command.presets:
                raise UserError(f'there is no preset "{self.preset}"{did_you_mean(self.preset, command.presets)}')
            tree = to_dict(command.presets[self.preset])
        if self.file is not None:
            self.file, self.from_file = read_document(command.config, self.file, command.schema, partial=True)
            if not isinstance(self.from_file, Mapping):
                raise UserError(f"{self.file} does not hold the settings of {command.config.__name__} as an object.")
            tree = merge(command.config, tree, self.from_file)
        return tree

    def command_words(self) -> CommandWords:
        """Return how the settings of this command are typed."""
        places: dict[str, list[str]] = {}
        for cls, tree in ((self.command.options, self.options), (self.command.config, self.config)):
            if cls is not None:
                _places(cls, tree, "", places)
        return CommandWords(
            self.command.prog,
            {path: option.name for path, option in self.table.items()},
            frozenset(path for path, option in self.table.items() if option.flag),
            {name: found[0] for name, found in places.items() if len(found) == 1},
            self.command.distribution,
        )

    def read(self) -> tuple[Any, Any]:
        """Return the options and the configuration; None for what the command does not have.

        Raises:
            UserError: an unknown option, a word too many or missing.
            SettingsError: settings that are not allowed.
        """
        self._assign()
        command = self.command
        values = {
            path: self.table[path].value(words) for path, words in self.words.items() if not self.table[path].switch
        }
        made, problems = [], []
        for cls, tree in ((command.options, self.options), (command.config, self.config)):
            own = nested({path: v for path, v in values.items() if (path in self._own) == (cls is command.options)})
            try:
                made.append(None if cls is None else validate(cls, merge(cls, tree, own)))
            except SettingsError as error:
                problems += [self._placed(problem) for problem in error.problems]
        if problems:
            raise SettingsError(problems)
        return made[0], made[1]

    def _assign(self) -> None:
        """Fill `words`: path -> what was typed for it."""
        known = {path.replace("_", "-"): path for path, option in self.table.items() if not option.positional}
        rest, loose = list(self.argv), []
        while rest:
            item = rest.pop(0)
            if item == "--":
                loose += rest
                break
            if not item.startswith("--"):
                loose.append(item)
                continue
            name, equals, value = item.removeprefix("--").partition("=")
            name = name.replace("_", "-")
            holder, dot, last = name.rpartition(".")
            positive = f"{holder}{dot}{last.removeprefix('no-')}"
            path = known.get(name)
            off = path is None and last.startswith("no-") and positive in known
            path = known[positive] if off else path
            if name in ("config", *["preset"] * bool(self.command.presets)) and self.command.config is not None:
                if not equals:
                    rest.pop(0)
                continue
            if path is None or (off and not self.table[path].flag):
                raise UserError(self._unknown(name, item.partition("=")[0]))
            if path in self.words:
                raise UserError(f"{self.table[path].name} is given twice.")
            self.words[path] = self._take(self.table[path], off, [value] if equals else None, rest)
        self._place(loose)

    def _take(self, option: Option, off: bool, value: list[str] | None, rest: list[str]) -> list[str]:
        """The words of one option, off the rest of the command line where they do not come with it."""
        if off:
            if value is not None:
                raise UserError(f"{option.name} is switched off by its name: leave out ={value[0]}.")
            return ["False"]
        if value is not None:
            return value
        if option.several and not option.flag:
            words = []
            while rest and not rest[0].startswith("--"):
                words.append(rest.pop(0))
            return words
        if option.flag:
            yes = rest and (rest[0] in ("None", "none") or rest[0].lower() in ("true", "false"))
            return [rest.pop(0)] if yes else ["True"]
        if not rest or rest[0].startswith("--"):
            raise UserError(f"{option.name} needs a value.")
        return [rest.pop(0)]

    def _place(self, loose: list[str]) -> None:
        """Give the words without a name to the positional arguments, in order."""
        for path, option in self.table.items():
            if option.positional and loose:
                self.words[path] = loose if option.several else loose[:1]
                loose = [] if option.several else loose[1:]
        if loose:
            raise UserError(f'unexpected argument "{loose[0]}": options begin with "--", and {self._all()}.')

    def _unknown(self, name: str, typed: str) -> str:
        """The message about an option that there is not: another member's, or the nearest name."""
        for path, tag, chosen in self._other_members(name):
            return f"{typed} belongs to --{path}.type {tag}, and {chosen} is chosen: leave it out, or choose {tag}."
        names = [path.replace("_", "-") for path, option in self.table.items() if not option.positional]
        names += ["config"] * (self.command.config is not None) + ["preset"] * bool(self.command.presets)
        if name.rpartition(".")[2].startswith("no-"):
            names = [_off(known) for known in names]
        near = nearest(name, names, separators=".", cutoff=0.7)  # --levels is not --levels-ahead
        hint = f"did you mean {' or '.join(f'--{found}' for found in near)}? " if near else ""
        return f'unknown option "{typed}"; {hint}{self._all()}.'

    def _all(self) -> str:
        chosen = f" --preset {self.preset}" if self.preset else ""
        return f"`{self.command.prog}{chosen} --help-all` lists all"

    def _other_members(self, name: str) -> list[tuple[str, str, str]]:
        """Path of a union, tag of the member that has the option, tag of the one chosen."""
        found = []
        for path, option in self.table.items():
            if option.switch:
                holder = path.removesuffix(".type")
                for tag, member in option.switch.items():
                    inner = options_of(member, defaults(member), f"{holder}.") if member is not None else []
                    paths = {o.path.replace("_", "-") for o in inner}
                    if tag != option.default and name in paths:
                        found.append((holder.replace("_", "-"), tag, str(option.default)))
        return found

    def _placed(self, problem: Problem) -> Problem:
        """A problem with the words that were typed for it, or the file that it comes from."""
        path = ".".join(map(str, problem.path))
        if path in self.words:
            return dataclasses.replace(problem, typed=" ".join(map(shlex.quote, self.words[path])) or "empty")
        under = any(known.startswith(f"{path}.") for known in self.words)
        with contextlib.suppress(KeyError, IndexError, TypeError):
            functools.reduce(operator.getitem, problem.path, self.from_file)
            if problem.path and not under and problem.kind != "missing":
                return dataclasses.replace(problem, where=str(self.file))
        return problem


def _first(argv: Sequence[str]) -> dict[str, str]:
    """What all else depends on: the value of --preset and --config, and of every option named "type"; and --help."""
    found: dict[str, str] = {}
    for item, following in itertools.pairwise([*argv, "--"]):
        if item == "--":
            break
        name, equals, value = item.partition("=")
        name = name.removeprefix("--").replace("-", "_")
        if item.startswith("--") and name in ("help", "help_all"):
            found[name] = ""
        elif item.startswith("--") and (name in ("preset", "config") or name.endswith(".type")):
            option = name.replace("_", "-")
            if name in found:
                raise UserError(f"--{option} is given twice.")
            if not equals and following.startswith("--"):
                raise UserError(f"--{option} needs a value.")
            found[name] = value if equals else following
    return found


def choose(cls: Any, tree: dict[str, Any], first: Mapping[str, str], prefix: str) -> None:
    """Choose the members of unions in the JSON of settings."""
    for name, annotation in field_types(cls).items():
        found = members(annotation)
        path = f"{prefix}{name}"
        if not found:
            continue
        chosen = first.get(f"{path}.type")
        value = tree.get(name)
        if len(found) > 1 and chosen is not None:
            absent = any(part is types.NoneType for part, _ in alternatives(annotation))
            if chosen in ("None", "none") and absent:
                value = tree[name] = None
            elif chosen not in found:
                near = did_you_mean(chosen, found)
                raise UserError(f'--{path.replace("_", "-")}.type has no choice "{chosen}"{near}')
            elif not isinstance(value, Mapping) or value.get("type") != chosen:
                value = tree[name] = defaults(found[chosen])
        if isinstance(value, dict):
            member = found.get(value.get("type"), next(iter(found.values())))
            choose(member, value, first, f"{path}.")


def _places(cls: Any, tree: Mapping[str, Any], prefix: str, places: dict[str, list[str]]) -> None:
    """Collect where each class stands among the settings."""
    places.setdefault(cls.__name__, []).append(prefix)
    for name, annotation in field_types(cls).items():
        found, value = members(annotation), tree.get(name)
        if found and isinstance(value, Mapping):
            member = found.get(value.get("type"), next(iter(found.values())))
            _places(member, value, f"{prefix}.{name}" if prefix else name, places)


def _off(name: str) -> str:
    holder, dot, last = name.rpartition(".")
    return f"{holder}{dot}no-{last}"
