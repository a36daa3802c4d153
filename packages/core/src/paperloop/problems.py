"""What is wrong with settings: errors of path, value and rule, which say themselves in the words of the reader."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import functools
import json
import re
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from paperloop.annotations import alternatives, describe, field_types, members, tag_of
from paperloop.errors import UserError, running_command

__all__ = [
    "Problem",
    "SettingsError",
    "did_you_mean",
    "fault",
    "item_settings",
    "nearest",
    "problems_of",
    "short",
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Problem:
    """What is wrong with one setting.

    Attributes:
        path: names from the outermost settings inwards; empty for these themselves.
        value: what was given.
        rule: what it must be, or the whole sentence (kind "other"), or what to do (kind "unknown").
        kind: "value", "missing", "unknown" (there is no such setting) or "other".
        holder: how many names of `path` lead to the settings that found it.
        names: fields of these settings that stand in `rule` in braces.
        where: the file it comes from; empty for Python and the command line.
        typed: the words that were typed for it.
    """

    path: tuple[str | int, ...] = dataclasses.field(kw_only=False)
    value: Any = None
    rule: str = ""
    kind: str = "value"
    holder: int = 0
    names: tuple[str, ...] = ()
    where: str = ""
    typed: str | None = None

    def say(self, owner: str) -> str:
        """Return it as a sentence, for settings of the class `owner`, in the words of who runs this."""
        rule = self.rule
        for other in self.names:
            rule = rule.replace(f"{{{other}}}", self._name((*self.path[: self.holder], other), owner))
        name = self._name(self.path, owner) if self.path else ""
        at = f"{self.where}: " if self.where else ""
        if self.kind == "value":
            return f"{at}{name} is {self._shown()}; it must be {rule}."
        if self.kind == "missing":
            return f'{at}the key "{name}" is missing.' if self.where else f"{name} is required."
        if self.kind == "unknown":
            return f'{at}unknown key "{name}"{rule}' if self.where else f'there is no setting "{name}"{rule}'
        holder = _dotted(self.path[: self.holder])
        return f"{at}{holder}: {rule}" if holder and not self.names else f"{at}{rule}"

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
    known = field_types(type(config))
    names = tuple(name for name in re.findall(r"\{([a-z_][\w.]*)\}", text or rule) if name.split(".")[0] in known)
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
    """What pydantic found, by field: the rule is what the field's annotation says, whichever part of it was broken."""
    found: dict[tuple, Problem] = {}
    for entry in error.errors(include_url=False):
        kind, context = entry["type"], entry.get("ctx", {})
        path, annotation, holder = _locate(cls, entry["loc"])
        cause = context.get("error")
        if isinstance(cause, SettingsError):
            for problem in cause.problems:
                deeper = dataclasses.replace(
                    problem, path=path + problem.path, holder=len(path) + problem.holder, where=where
                )
                found.setdefault(deeper.path, deeper)
            continue
        if kind == "value_error":
            problem = Problem(path, rule=str(cause), kind="other", holder=len(path))
        elif kind == "union_tag_not_found" or (kind == "missing" and entry["loc"][-1] == path[-1]):
            path = (*path, "type") if kind == "union_tag_not_found" else path
            problem = Problem(path, kind="missing")
        elif kind == "union_tag_invalid":
            tags = members(annotation)
            rule = "one of " + ", ".join(map(repr, tags))
            problem = Problem((*path, "type"), value=context.get("tag"), rule=rule)
        elif kind == "unexpected_keyword_argument":
            problem = Problem(path, rule=_unknown(cls, path, holder), kind="unknown")
        else:
            value = _value_at(tree, path, entry["input"])
            problem = Problem(path, value=value, rule=describe(annotation, value, as_json=bool(where)))
        found.setdefault(problem.path, dataclasses.replace(problem, where=where))
    return list(found.values())


def _locate(cls: Any, location: Sequence[str | int]) -> tuple[tuple[str | int, ...], Any, Any]:
    """The path of a location, which also names members of unions; the annotation there, and the class that holds it."""
    path: list[str | int] = []
    annotation, holder = cls, cls
    for item in location:
        classes = members(annotation)
        if len(classes) > 1 and item in classes:
            annotation = classes[str(item)]
        elif len(classes) == 1:
            (holder,) = classes.values()
            path.append(item)
            annotation = field_types(holder).get(str(item))
        elif isinstance(item, int) and (inner := item_settings(annotation)) is not None:
            path.append(item)
            annotation = inner
        else:
            break
    return tuple(path), annotation, holder


def item_settings(annotation: Any) -> Any:
    """The type of the items of a tuple of settings; None for others."""
    for part, _ in alternatives(annotation):
        args = typing.get_args(part)
        if typing.get_origin(part) is tuple and args and members(args[0]):
            return args[0]
    return None


def _value_at(tree: Any, path: Sequence[str | int], default: Any) -> Any:
    try:
        for name in path:
            tree = tree[name]
    except (KeyError, IndexError, TypeError):
        return default
    return tuple(tree) if isinstance(tree, list) else tree


def _unknown(cls: Any, path: Sequence[str | int], holder: Any) -> str:
    """What to say of an unknown key: the member of the union that has it, or the nearest name."""
    *parents, name = path
    if parents:
        _, annotation, _ = _locate(cls, parents)
        for tag, member in members(annotation).items():
            if name in field_types(member) and member is not holder:
                return f"; it belongs to {_dotted([*parents, 'type'])} {tag}, and {tag_of(holder)} is chosen."
    prefix = _dotted(parents)
    return did_you_mean(_dotted(path), [f"{prefix}.{known}" if prefix else known for known in field_types(holder)])


def _dotted(path: Iterable[str | int]) -> str:
    return ".".join(map(str, path))


def short(text: str) -> str:
    """Return at most 60 characters of a text."""
    return text if len(text) <= 60 else text[:57] + "..."
