"""What is wrong with settings: errors of path, value and rule, which say themselves in the words of the reader."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import functools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from paperloop.errors import UserError, running_command
from paperloop.shapes import Shape, plain, shapes, tag_of

__all__ = ["Problem", "SettingsError", "did_you_mean", "fault", "nearest", "problems_of", "short"]

Path = tuple[str | int, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Problem:
    """What is wrong with one setting.

    Attributes:
        path: names from the outermost settings inwards; empty for these themselves.
        value: what was given.
        rule: what it must be, or the whole sentence (kind "other"), or what to do (kind "unknown").
        kind: "value", "missing", "unknown" (there is no such setting) or "other".
        names: what stands in `rule` in braces -> the path of the setting meant.
        where: the file it comes from; empty for Python and the command line.
        typed: the words that were typed for it.
    """

    path: Path = dataclasses.field(kw_only=False)
    value: Any = None
    rule: str = ""
    kind: str = "value"
    names: Mapping[str, Path] = dataclasses.field(default_factory=dict)
    where: str = ""
    typed: str | None = None

    def say(self, owner: str) -> str:
        """Return it as a sentence, for settings of the class `owner`, in the words of who runs this."""
        rule = self.rule
        for name, path in self.names.items():
            rule = rule.replace(f"{{{name}}}", self._name(path, owner))
        at = f"{self.where}: " if self.where else ""
        name = self._name(self.path, owner)
        if self.kind == "value":
            return f"{at}{name} is {self._shown()}; it must be {rule}."
        if self.kind == "missing":
            return f'{at}the key "{name}" is missing.' if self.where else f"{name} is required."
        if self.kind == "unknown":
            return f'{at}unknown key "{name}"{rule}' if self.where else f'there is no setting "{name}"{rule}'
        return f"{at}{rule}"

    def _name(self, path: Sequence[str | int], owner: str) -> str:
        dotted = _dotted(path)
        words = running_command.get()
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
    """Settings that are not allowed.

    Attributes:
        problems: what is wrong, one for each setting.
        owner: the name of the outermost settings' class.
    """

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

    Args:
        config: the settings.
        path: the field, or a dotted path into nested settings.
        rule: what the value must be. A field's name in braces becomes the name that the reader knows it by.
        text: instead, a whole sentence, likewise with names in braces.
    """
    value = functools.reduce(lambda holder, name: getattr(holder, name, None), path.split("."), config)
    found = {name: tuple(name.split(".")) for name in re.findall(r"\{([a-z_][\w.]*)\}", text or rule)}
    names = {name: parts for name, parts in found.items() if parts[0] in shapes(type(config))}
    kind = "other" if text else "value"
    problem = Problem(tuple(path.split(".")), value=value, rule=text or rule, kind=kind, names=names)
    return SettingsError([problem], type(config).__name__)


def did_you_mean(name: str, known: Iterable[str], separators: str = "._-") -> str:
    """Return `; did you mean "x"?` for what is near of `known`, or `; known are ...` where nothing is (`nearest`)."""
    choices = [str(k) for k in known]
    if near := nearest(name, choices, separators):
        return "; did you mean " + " or ".join(f'"{k}"' for k in near) + "?"
    return f"; known are {', '.join(choices)}." if choices else "; nothing is known here."


def nearest(name: str, known: Iterable[str], separators: str = "._-", cutoff: float = 0.6) -> list[str]:
    """Return at most three of the names that are near to one.

    A name that begins or ends with the one given, as whole words, is nearer than one of similar letters.

    Args:
        name: what was given.
        known: the names there are.
        separators: what words of a name are separated by.
        cutoff: how similar letters must be, in (0, 1].
    """
    choices = [str(k) for k in known]
    low = name.lower()
    near = [k for k in choices if k.lower().replace("-", "_") == low.replace("-", "_")]
    near = near or [k for k in choices if any(k.lower().startswith(low + s) for s in separators)]
    near = near or [k for k in choices if any(k.lower().endswith(s + low) for s in separators)]
    return (near or difflib.get_close_matches(name, choices, n=1, cutoff=cutoff))[:3]


def problems_of(cls: Any, error: ValidationError, tree: Mapping[str, Any], where: str) -> list[Problem]:
    """Return what pydantic found, by field: the rule is what the annotation says, whichever part of it was broken."""
    found: dict[Path, Problem] = {}
    for entry in error.errors(include_url=False):
        kind, context = entry["type"], entry.get("ctx", {})
        path, shape, holder, rivals = _locate(cls, entry["loc"])
        cause = context.get("error")
        if isinstance(cause, SettingsError):
            made = [
                dataclasses.replace(p, path=path + p.path, names={n: path + inner for n, inner in p.names.items()})
                for p in cause.problems
            ]
        elif cause is not None:
            made = [Problem(path, rule=str(cause), kind="other")]
        elif kind == "union_tag_not_found" or (kind == "missing" and entry["loc"][-1] == path[-1]):
            made = [Problem(path if kind == "missing" else (*path, "type"), kind="missing")]
        elif kind == "union_tag_invalid":
            rule = f"one of {', '.join(map(repr, shape.members))}"
            made = [Problem((*path, "type"), value=context["tag"], rule=rule)]
        elif kind == "unexpected_keyword_argument":
            made = [Problem(path, rule=_unknown(path, holder, rivals), kind="unknown")]
        else:
            value = _value_at(tree, path, entry["input"])
            made = [Problem(path, value=value, rule=shape.rule(value))]
        for problem in made:
            found.setdefault(problem.path, dataclasses.replace(problem, where=where))
    return list(found.values())


def _locate(cls: Any, location: Sequence[str | int]) -> tuple[Path, Shape, Any, Mapping[str, Any]]:
    """The path of a location, which also names members of unions; the shape there; the class that holds it.

    Last the members of the union that this class was chosen from, by tag.
    """
    path: list[str | int] = []
    shape, holder, rivals, family = Shape.of(cls), cls, {}, {}
    for item in location:
        if len(shape.members) > 1 and item in shape.members:
            family, shape = shape.members, Shape.of(shape.members[str(item)])
        elif len(shape.members) == 1:
            holder, rivals, family = shape.member(None), family, {}
            path.append(item)
            shape = shapes(holder).get(str(item), Shape(()))
        elif isinstance(item, int) and any(inner.members for inner in shape.items(item + 1) or ()):
            path.append(item)
            shape = (shape.items(item + 1) or [])[item]
        else:
            break
    return tuple(path), shape, holder, rivals


def _value_at(tree: Any, path: Path, default: Any) -> Any:
    try:
        value = plain(functools.reduce(lambda holder, name: holder[name], path, tree))
    except (KeyError, IndexError, TypeError):
        return default
    return tuple(value) if isinstance(value, list) else value


def _unknown(path: Path, holder: Any, rivals: Mapping[str, Any]) -> str:
    """What to say of an unknown key: the member of the union that has it, or the nearest name."""
    *parents, name = path
    for tag, member in rivals.items():
        if name in shapes(member):
            return f"; it belongs to {_dotted([*parents, 'type'])} {tag}, and {tag_of(holder)} is chosen."
    return did_you_mean(_dotted(path), [_dotted([*parents, known]) for known in shapes(holder)])


def _dotted(path: Iterable[str | int]) -> str:
    return ".".join(map(str, path))


def short(text: str) -> str:
    """Return at most 60 characters of a text."""
    return text if len(text) <= 60 else text[:57] + "..."
