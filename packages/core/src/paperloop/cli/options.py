"""The options of a command, generated from its settings, and what was typed: defaults < preset < file < typed.

`--x 1` and `--x=1`; dashes and underscores alike; a flag is `--x`, `--no-x` or `--x True`; a tuple takes all words up
to the next option; `None` is typed as it is. Where settings are one of several, `--FIELD.type NAME` chooses which,
before the other options are looked at, so that a command has the options of the member that is chosen and no others.

A preset and a file that choose different members: the file's is taken, with its defaults where the file says nothing,
and nothing of the preset's member is left.
"""

from __future__ import annotations

import dataclasses
import functools
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, NamedTuple, TypeVar

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
from paperloop.settings.shapes import MISSING, Shape, shapes, walk

__all__ = ["Command", "Option", "Positional", "Typed"]

_T = TypeVar("_T")


class _Positional:
    """The mark of an argument that is given without a name."""


#: `data: Positional[Path]` is given by its place; `runs: Positional[tuple[Path, ...]]` takes all that are left.
Positional = Annotated[_T, _Positional()]


class Option:
    """One option: the dotted path of its field, what it may be, and its default in JSON (`MISSING` for none).

    `switch` is tag -> class, where it chooses a member of a union. `name` is how it is typed, or how the help calls a
    positional one, and `off` how a `flag` is switched off.
    """

    def __init__(self, path: str, shape: Shape, default: Any, switch: Mapping[str, Any] | None = None):
        self.path, self.shape, self.default, self.switch = path, shape, default, switch or {}
        self.positional = any(isinstance(e, _Positional) for _, extra in shape.parts for e in extra)
        self.required = default is MISSING
        self.flag = shape.flag and not switch
        self.name = dashed(path).upper() if self.positional else f"--{dashed(path)}"
        holder, dot, last = dashed(path).rpartition(".")
        self.off = f"--{holder}{dot}no-{last}"

    def value(self, words: list[str]) -> Any:
        """Return in JSON what words stand for."""
        if self.shape.members:
            return {"true": {}, "false": None, "none": None}.get(words[0].lower(), words[0])
        return self.shape.read(words)


def dashed(path: str) -> str:
    """Return the path of a setting as it is typed."""
    return path.replace("_", "-")


def _options(cls: Any, tree: Mapping[str, Any]) -> Iterator[Option]:
    """The options of settings, of unions those of the member that is chosen in their JSON."""
    for path, _, shape, value in walk(cls, tree):
        if len(shape.members) > 1:
            chosen = "none" if value is None else value.get("type", MISSING) if isinstance(value, Mapping) else value
            yield Option(f"{path}.type", shape, chosen, {**shape.members, **({"none": None} if shape.optional else {})})
        elif shape.members and not shape.optional:
            continue
        elif not (path.endswith(".type") and shape.choices) and not any(s.members for s in shape.items(1) or ()):
            yield Option(path, shape, value)


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
        names = [{*shapes(cls)} for cls in (self.options, self.config) if cls is not None]
        clash = set.intersection(*names) if len(names) == 2 else set()
        own = {"preset", "config"} if self.config is not None else set()
        clash |= set().union(*names) & (own | {"help", "help_all", "debug"})
        if clash:
            raise TypeError(f"the options and the configuration of {self.prog} both have {', '.join(sorted(clash))}")


class _Word(NamedTuple):
    """An option as it was typed, the path it names, its value behind "=", and the words that follow it."""

    typed: str
    path: str
    value: str | None
    behind: list[str]

    def one(self) -> str:
        """Return its value, where it takes one word."""
        if self.value is None and not self.behind:
            raise UserError(f"--{dashed(self.path)} needs a value.")
        return self.behind.pop(0) if self.value is None else self.value


def _split(argv: Sequence[str]) -> tuple[list[_Word], list[str]]:
    """What was typed, option by option; the first has no name. And the words behind a bare "--"."""
    end = argv.index("--") if "--" in argv else len(argv)
    found = [_Word("", "", None, [])]
    for word in argv[:end]:
        if word.startswith("--"):
            typed, equals, value = word.partition("=")
            found.append(_Word(typed, typed[2:].replace("-", "_"), value if equals else None, []))
        else:
            found[-1].behind.append(word)
    return found, [*argv[end + 1 :]]


class Typed:
    """What was typed for a command: first what the options depend on (preset, file, members), then all of it.

    `help` is "help", "help_all" or ""; `table` is path -> option, and `words` path -> the words typed, once they are
    read.

    Raises:
        UserError: there is no such preset, file or member.
    """

    def __init__(self, command: Command, argv: Sequence[str]):
        self.command, self.words = command, {}
        self._typed, self._loose = _split(["--help" if word == "-h" else word for word in argv])
        names = [word.path for word in self._typed]
        self.help = next((name for name in ("help_all", "help") if name in names), "")
        layers = {"config", *["preset"] * bool(command.presets)} if command.config is not None else set()
        first: dict[str, str] = {}
        for word in self._typed:
            if word.path in layers or word.path.endswith(".type"):
                if word.path in first:
                    raise UserError(f"--{dashed(word.path)} is given twice.")
                first[word.path] = word.one()
                if not first[word.path]:  # an unset variable of the shell must not mean "none given"
                    raise UserError(f"--{dashed(word.path)} needs a value.")
        self.preset, self._file, self._from_file = first.get("preset"), first.get("config", ""), {}
        tags = {path: None if tag.lower() == "none" else tag for path, tag in first.items() if path not in layers}
        chosen = nested({path if tag else path.removesuffix(".type"): tag for path, tag in tags.items()})
        self._trees, self.table = {}, {}
        for cls, below in ((command.options, defaults), (command.config, self._below)):
            if cls is not None:
                mine = {name: value for name, value in chosen.items() if name in shapes(cls)}
                self._trees[cls] = merge(cls, below(cls), mine)
                self.table |= {option.path: option for option in _options(cls, self._trees[cls])}
        for path, tag in tags.items():
            switch = self.table[path].switch if path in self.table else {}
            if switch and (tag or "none") not in switch:
                raise UserError(f'{self.table[path].name} has no choice "{tag}"{did_you_mean(str(tag), switch)}')
        for path, option in self.table.items():
            if option.switch and not option.required and str(option.default) not in option.switch:  # in the file
                rule = f"one of {', '.join(map(repr, option.shape.members))}"
                made = Problem(tuple(path.split(".")), value=option.default, rule=rule, where=str(self._file))
                raise SettingsError([made])
        self._first = layers | (tags.keys() & self.table.keys())

    def _below(self, cls: Any) -> dict[str, Any]:
        """The JSON of the configuration below the typed options."""
        tree = defaults(cls)
        if self.preset is not None:
            if self.preset not in self.command.presets:
                raise UserError(f'there is no preset "{self.preset}"{did_you_mean(self.preset, self.command.presets)}')
            tree = to_dict(self.command.presets[self.preset])
        if self._file:
            self._file, self._from_file = read_document(cls, self._file, self.command.schema, partial=True)
            if not isinstance(self._from_file, Mapping):
                raise UserError(f"{self._file} does not hold the settings of {cls.__name__} as an object.")
            tree = merge(cls, tree, self._from_file)
        return tree

    def command_words(self) -> CommandWords:
        """Return how the settings of this command are typed."""
        places: dict[str, set[str]] = {}
        for cls, tree in self._trees.items():
            absent: tuple[str, ...] = ()
            for path, owner, shape, value in walk(cls, tree):
                absent += (f"{path}.",) if value is None and shape.members else ()
                if not path.startswith(absent):
                    places.setdefault(owner.__name__, set()).add(path.rpartition(".")[0])
        return CommandWords(
            self.command.prog,
            {path: option.name for path, option in self.table.items()},
            {path: option.off for path, option in self.table.items() if option.flag},
            {name: found.pop() for name, found in places.items() if len(found) == 1},
            self.command.distribution,
            self.words,  # which `read` fills
        )

    def read(self) -> tuple[Any, Any]:
        """Return the options and the configuration; None for what the command does not have."""
        self._assign()
        given = {p: self.table[p].value(words) for p, words in self.words.items() if not self.table[p].switch}
        for path in given:
            if inner := next((p for p in given if p.startswith(f"{path}.") and given[path] is None), None):
                raise UserError(
                    f"{self.table[path].off} and {self.table[inner].name} contradict: leave one of them out."
                )
        made, problems = {None: None}, []
        for cls, tree in self._trees.items():
            own = {name: value for name, value in nested(given).items() if name in shapes(cls)}
            try:
                made[cls] = validate(cls, merge(cls, tree, own))
            except SettingsError as error:
                problems += [self._placed(problem) for problem in error.problems]
        if problems:
            raise SettingsError(problems)
        return made[self.command.options], made[self.command.config]

    def _assign(self) -> None:
        """Fill `words`."""
        loose = []
        for word in self._typed:
            if word.typed and word.path not in self._first:
                path, words = self._option(word)
                if path in self.words:
                    raise UserError(f"{self.table[path].name} is given twice.")
                self.words[path] = words
            loose += word.behind
        loose += self._loose
        for path, option in self.table.items():
            if option.positional and loose:
                count = len(loose) if option.shape.several else 1
                self.words[path], loose = loose[:count], loose[count:]
        if loose:
            raise UserError(f'unexpected argument "{loose[0]}": options begin with "--", and {self._all()}.')

    def _option(self, word: _Word) -> tuple[str, list[str]]:
        """The path of an option, and the words it takes."""
        option = self.table.get(word.path)
        off = option is None
        if off:
            option = next((o for o in self.table.values() if o.flag and o.off == f"--{dashed(word.path)}"), None)
        if option is None or option.positional:
            raise UserError(self._unknown(word))
        if off and word.value is not None:
            raise UserError(f"{option.name} is switched off by its name: leave out ={word.value}.")
        if option.flag and word.value is None:
            given = word.behind and word.behind[0].lower() in ("true", "false", "none") and not off
            return option.path, [word.behind.pop(0) if given else str(not off)]
        if option.shape.several and word.value is None:
            words = [*word.behind]
            word.behind.clear()
            return option.path, words
        return option.path, [word.one()]

    def _unknown(self, word: _Word) -> str:
        """The message about an option that there is not: another member's, or the nearest name."""
        for option in self.table.values():
            holder = option.path.removesuffix("type")
            for tag, member in option.switch.items():
                inner = (field.path for field in walk(member, defaults(member), holder)) if member is not None else ()
                if tag != option.default and word.path in inner:
                    chosen = f"{word.typed} belongs to {option.name} {tag}, and {option.default} is chosen"
                    return f"{chosen}: leave it out, or choose {tag}."
        off = word.path.rpartition(".")[2].startswith("no_")
        names = [(o.off if off else o.name)[2:] for o in self.table.values() if not o.positional]
        names += [name for name in ("config", "preset") if name in self._first]
        near = nearest(word.typed[2:], names, separators=".", cutoff=0.7)  # --levels is not --levels-ahead
        hint = f"did you mean {' or '.join(f'--{name}' for name in near)}? " if near else ""
        return f'unknown option "{word.typed}"; {hint}{self._all()}.'

    def _all(self) -> str:
        chosen = f" --preset {self.preset}" if self.preset else ""
        return f"`{self.command.prog}{chosen} --help-all` lists all"

    def _placed(self, problem: Problem) -> Problem:
        """A problem with the words that were typed for it, or the file that it comes from."""
        path = ".".join(map(str, problem.path))
        if path in self.words:
            return dataclasses.replace(problem, typed=" ".join(map(shlex.quote, self.words[path])) or "empty")
        if problem.path and problem.kind != "missing" and not any(known.startswith(f"{path}.") for known in self.words):
            try:
                functools.reduce(lambda tree, name: tree[name], problem.path, self._from_file)
                return dataclasses.replace(problem, where=str(self._file) if self._from_file else "")
            except (KeyError, IndexError, TypeError):
                pass
        return problem
