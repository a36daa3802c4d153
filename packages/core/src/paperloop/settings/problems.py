"""What is wrong with settings: errors of path, value and rule, which say themselves in the words of the reader."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from paperloop.errors import UserError, did_you_mean, running_command
from paperloop.settings.shapes import Shape, plain, shapes

__all__ = ["Problem", "SettingsError", "fault", "problems_of", "short"]

Path = tuple[str | int, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Problem:
    """What is wrong with one setting."""

    #: Names from the outermost settings inwards; empty for these themselves.
    path: Path = dataclasses.field(kw_only=False)
    value: Any = None  # what was given
    rule: str = ""  # what it must be, or the whole sentence (kind "other"), or what to do (kind "unknown")
    kind: str = "value"  # or "missing", "unknown" (there is no such setting), "other"
    #: What stands in `rule` in braces -> the path of the setting meant; without a `rule`, those that there are.
    names: Mapping[str, Path] = dataclasses.field(default_factory=dict)
    where: str = ""  # the file it comes from; empty for Python and the command line
    typed: str | None = None  # the words that were typed for it

    def inside(self, holder: Path) -> Problem:
        """Return it as a problem of settings that have these at the path `holder`."""
        names = {name: holder + path for name, path in self.names.items()}
        return dataclasses.replace(self, path=holder + self.path, names=names)

    def say(self, owner: str) -> str:
        """Return it as a sentence, for settings of the class `owner`, in the words of who runs this."""
        name, rule = self._name(self.path, owner), self.rule
        if self.kind == "unknown" and not rule:
            rule = did_you_mean(name, [_dotted(path) for path in self.names.values()])
        for word, path in self.names.items():
            rule = rule.replace(f"{{{word}}}", self._name(path, owner))
        at = f"{self.where}: " if self.where else ""
        if self.kind == "value":
            return f"{at}{name} is {self._shown()}; it must be {rule}."
        if self.kind == "missing":
            return f'{at}the key "{name}" is missing.' if self.where else f"{name} is required."
        if self.kind == "unknown":
            return f'{at}unknown key "{name}"{rule}' if self.where else f'there is no setting "{name}"{rule}'
        return f"{at}{rule}"

    def _name(self, path: Path, owner: str) -> str:
        dotted, words = _dotted(path), running_command.get()
        if self.where or self.kind == "unknown":
            return dotted
        option = words.option(owner, dotted) if words is not None else None
        return option or (f"{owner}.{dotted}" if owner else dotted)

    def _shown(self) -> str:
        if self.typed is not None:
            return self.typed
        with contextlib.suppress(TypeError, ValueError):
            if self.where:
                return short(json.dumps(self.value, allow_nan=False))
        return short(repr(self.value))


class SettingsError(UserError, ValueError):
    """Settings that are not allowed: a problem for each, and the name of the outermost settings' class."""

    def __init__(self, problems: Iterable[Problem], owner: str = ""):
        self.problems, self.owner = tuple(problems), owner
        super().__init__(self.problems, owner)

    def __str__(self) -> str:
        """Return the first problems as sentences, in the words of whoever runs this code."""
        texts = list(dict.fromkeys(problem.say(self.owner) for problem in self.problems))
        return " ".join(texts[:3] + [f"({len(texts) - 3} more.)"] * (len(texts) > 3))


def fault(config: Any, path: str, rule: str = "", *, text: str = "") -> SettingsError:
    """Return the error, to be raised in `__post_init__`, of a field that does not go with the others.

    >>> raise fault(self, "state", f"a multiple of 2 x {{blocks}} = {2 * self.blocks}")  # doctest: +SKIP
    SettingsError: S5.state is 7; it must be a multiple of 2 x S5.blocks = 4.

    The path is that of a field, or dotted into nested settings. The rule says what the value must be, the text instead
    is a whole sentence; in both a field's name in braces becomes the name that the reader knows it by.
    """
    value = functools.reduce(lambda holder, name: getattr(holder, name, None), path.split("."), config)
    found = {name: tuple(name.split(".")) for name in re.findall(r"\{([a-z_][\w.]*)\}", text or rule)}
    names = {name: parts for name, parts in found.items() if parts[0] in shapes(type(config))}
    kind = "other" if text else "value"
    problem = Problem(tuple(path.split(".")), value=value, rule=text or rule, kind=kind, names=names)
    return SettingsError([problem], type(config).__name__)


def problems_of(cls: Any, values: Mapping[str, Any], error: ValidationError) -> list[Problem]:
    """Return what pydantic found, by field: the rule is what the annotation says, whichever part of it was broken.

    `values` is name of a field -> what was given. What is wrong deeper inside is in the error as a `SettingsError`.
    """
    found: dict[Path, Problem] = {}
    for entry in error.errors(include_url=False):
        kind, at, cause = entry["type"], entry["loc"], entry.get("ctx", {}).get("error")
        path = (*at[:1], *(item for item in at[1:] if isinstance(item, int)))  # not the tags of members
        inner = shape = shapes(cls).get(str(at[0])) if at else None
        for item in at[1:]:
            if isinstance(item, int) and inner is not None:  # an item of a tuple
                inner = (inner.items(item + 1) or [None])[-1]
        if isinstance(cause, SettingsError):
            made = [_of_member(problem, inner, at).inside(path) for problem in cause.problems]
        elif cause is not None:
            made = [Problem(path, rule=str(cause), kind="other")]
        elif shape is None:
            names = {name: (name,) for name in shapes(cls)}
            made = [Problem(path, kind="unknown", names=names)]
        elif kind == "missing" and len(at) == 1:
            made = [Problem(path, kind="missing")]
        elif kind == "union_tag_not_found":
            made = [Problem((*path, "type"), kind="missing")]
        elif kind == "union_tag_invalid":
            rule = f"one of {', '.join(map(repr, inner.members if inner else ()))}"
            made = [Problem((*path, "type"), value=entry["input"]["type"], rule=rule)]
        else:
            value = plain(values.get(str(at[0]), entry["input"]))
            made = [Problem(path[:1], value=value, rule=shape.rule(value))]
        for problem in made:
            found.setdefault(problem.path, problem)
    return list(found.values())


def _of_member(problem: Problem, shape: Shape | None, at: Sequence[str | int]) -> Problem:
    """The problem, saying of an unknown name which other member of the union has it."""
    if shape is not None and problem.kind == "unknown" and len(problem.path) == 1:
        for tag, rival in shape.members.items():
            if tag != at[-1] and problem.path[0] in shapes(rival):
                rule = f"; it belongs to {{type}} {tag}, and {at[-1]} is chosen."
                return dataclasses.replace(problem, rule=rule, names={"type": ("type",)})
    return problem


def _dotted(path: Iterable[str | int]) -> str:
    return ".".join(map(str, path))


def short(text: str) -> str:
    """Return at most 60 characters of a text."""
    return text if len(text) <= 60 else text[:57] + "..."
