"""What the annotations of settings say: kinds of value, ranges in words; and values brought into their form."""

from __future__ import annotations

import dataclasses
import enum
import functools
import inspect
import json
import math
import re
import sys
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

__all__ = ["Note", "adapt", "alternatives", "describe", "field_help", "field_types", "from_words", "members", "tag_of"]


@dataclasses.dataclass(frozen=True)
class Note:
    """Why a range is what it is, for the message: `Annotated[int, Ge(2), Note("one says nothing")]`."""

    text: str


@functools.cache
def field_types(cls: Any) -> dict[str, Any]:
    """Return field name -> annotation for the fields that `__init__` takes, resolved, with what `Annotated` adds."""
    known = getattr(cls, "__pydantic_fields__", None)
    if known is None:
        hints = typing.get_type_hints(cls, include_extras=True)
        return {f.name: hints[f.name] for f in dataclasses.fields(cls) if f.init}
    return {
        name: typing.Annotated[(info.annotation, *info.metadata)] if info.metadata else info.annotation
        for name, info in known.items()
        if info.init is not False
    }


def alternatives(annotation: Any, extra: tuple[Any, ...] = ()) -> list[tuple[Any, tuple[Any, ...]]]:
    """Return the members of a union, or the type alone, each with what `Annotated` adds to it; None is NoneType."""
    while True:
        if typing.get_origin(annotation) is typing.Annotated:
            annotation, *more = typing.get_args(annotation)
            extra = (*more, *extra)
        elif hasattr(annotation, "__value__"):  # `type Alias = ...` of Python 3.12
            annotation = annotation.__value__
        else:
            break
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return [found for part in typing.get_args(annotation) for found in alternatives(part, extra)]
    return [(types.NoneType if annotation is None else annotation, extra)]


def members(annotation: Any) -> dict[str, Any]:
    """Return tag -> class for the settings among the alternatives of an annotation."""
    return {tag_of(part): part for part, _ in alternatives(annotation) if dataclasses.is_dataclass(part)}


@functools.cache
def tag_of(cls: Any) -> str:
    """The name by which a union knows a class: its literal `type`, else the name of the class."""
    part, _ = alternatives(field_types(cls).get("type"))[0]
    return typing.get_args(part)[0] if typing.get_origin(part) is Literal else cls.__name__


@functools.cache
def field_help(cls: Any) -> dict[str, str]:
    """Return field name -> its text in the section "Attributes:" of the docstring."""
    _, _, section = inspect.cleandoc(cls.__doc__ or "").partition("\nAttributes:\n")
    section = re.split(r"\n(?=\S)", section)[0]
    found = re.findall(r"^    (\w+): (.*(?:\n(?:     .*)?(?!    \w+: ).*)*)", section, flags=re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in found}


# Values


def adapt(annotation: Any, value: Any, *, as_json: bool) -> Any:
    """Return a value given in Python, or read from JSON, in the form that strict validation takes.

    NumPy's numbers become Python's, a float of whole value becomes an int where only an int is allowed, lists become
    tuples, and text becomes the path or enum member it stands for. Nothing that does not fit is changed.
    """
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        value = value.item()
    kinds = [part for part, _ in alternatives(annotation)]
    if isinstance(value, float) and value.is_integer() and int in kinds and float not in kinds:
        return int(value)
    if isinstance(value, tuple | list):
        holders = [kind for kind in kinds if typing.get_origin(kind) is tuple]
        types_ = _items(holders[0], len(value)) if holders else None
        if types_ is not None:
            value = tuple(adapt(kind, item, as_json=as_json) for kind, item in zip(types_, value, strict=True))
        return list(value) if as_json else value
    if isinstance(value, str):
        for kind in kinds:
            if isinstance(kind, type) and issubclass(kind, enum.Enum) and value in kind.__members__:
                return kind[value].value if as_json else kind[value]
        return Path(value) if Path in kinds and str not in kinds and not as_json else value
    if isinstance(value, Mapping):
        found = members(annotation)
        cls = found.get(value.get("type", "")) or (next(iter(found.values())) if len(found) == 1 else None)
        hints = field_types(cls) if cls is not None else {}
        return {k: adapt(hints[k], v, as_json=as_json) if k in hints else v for k, v in value.items()}
    return value


def from_words(annotation: Any, words: list[str]) -> Any:
    """Return what the words of an option stand for; words that stand for nothing allowed are returned as text."""
    for part, _ in alternatives(annotation):
        if typing.get_origin(part) is tuple and words not in (["None"], ["none"]):
            kinds = _items(part, len(words)) or [str] * len(words)
            return [from_words(kind, [word]) for kind, word in zip(kinds, words, strict=True)]
    (word,) = words or [""]
    kinds = [part for part, _ in alternatives(annotation)]
    if word in ("None", "none") and types.NoneType in kinds:
        return None
    for kind in kinds:
        for choice in typing.get_args(kind) if typing.get_origin(kind) is Literal else ():
            if str(choice) == word:
                return choice
    if bool in kinds and word.lower() in ("true", "false"):
        return word.lower() == "true"
    if int in kinds or float in kinds:
        for convert in (int, float):
            try:
                value = convert(word)
            except ValueError:
                continue
            return value if math.isfinite(value) else word
    return word


def _items(kind: Any, count: int) -> list[Any] | None:
    """The types of the items of a tuple of so many; None where it cannot have so many."""
    args = typing.get_args(kind)
    if len(args) == 2 and args[1] is Ellipsis:
        return [args[0]] * count
    return list(args) if len(args) == count else None


# Words


def describe(annotation: Any, value: Any = None, *, as_json: bool = False, several: bool = False) -> str:
    """Return what an annotation allows, to come after "it must be": "an integer of at least 1, or None".

    Args:
        annotation: of a field.
        value: what was given: of a number in the wrong range only the range is said.
        as_json: for the reader of a JSON file: null, true, false.
        several: in the plural, for the items of a list.
    """
    parts = alternatives(annotation)
    kinds = [part for part, _ in parts]
    words = [
        _describe(part, extra, value, as_json, several)
        for part, extra in parts
        if part is not int or float not in kinds
    ]
    return ", or ".join(dict.fromkeys(sorted(words, key=lambda word: word in ("None", "null"))))


def _describe(part: Any, extra: tuple[Any, ...], value: Any, as_json: bool, several: bool) -> str:
    note = "".join(f" ({e.text})" for e in extra if isinstance(e, Note))
    if part is types.NoneType:
        return "null" if as_json else "None"
    if part is bool:
        return "true or false" if as_json else "True or False"
    if part in (int, float):
        right = isinstance(value, int if part is int else int | float) and not isinstance(value, bool)
        bounds = _bounds(extra, whole=part is int)
        if right and bounds and abs(value) <= sys.float_info.max:
            return bounds.removeprefix("of ") + note
        noun = "integer" if part is int else "number" if bounds else "finite number"
        noun = f"{noun}s" if several else f"an {noun}" if part is int else f"a {noun}"
        return f"{noun} {bounds}".rstrip() + note
    if typing.get_origin(part) is Literal or (isinstance(part, type) and issubclass(part, enum.Enum)):
        choices = list(typing.get_args(part)) or [member for member in part.__members__]
        shown = [json.dumps(choice) if as_json else repr(choice) for choice in choices]
        return ("one of " if len(shown) > 1 else "") + ", ".join(shown) + note
    if typing.get_origin(part) is tuple:
        args = typing.get_args(part)
        if len(args) == 2 and args[1] is Ellipsis:
            some = "one or more" if any(getattr(e, "min_length", 0) for e in extra) else "a list of"
            return f"{some} {describe(args[0], as_json=as_json, several=True)}{note}"
        return f"a list of {len(args)}: {'; '.join(describe(arg, as_json=as_json) for arg in args)}{note}"
    if part is str:
        filled = " that is not empty" if any(getattr(e, "min_length", 0) for e in extra) else ""
        return ("texts" if several else "text") + filled + note
    if part is Path:
        return ("paths" if several else "a path") + note
    if dataclasses.is_dataclass(part):
        return f"an object ({part.__name__})" if as_json else f"a {part.__name__}"
    return getattr(part, "__name__", str(part)) + note


def _bounds(extra: tuple[Any, ...], *, whole: bool) -> str:
    """The words "above 0 and below 1" for what annotated-types and pydantic's Field say."""
    found = {
        name: getattr(e, name) for e in extra for name in ("gt", "ge", "lt", "le", "multiple_of") if hasattr(e, name)
    }
    found = {
        name: f"{bound:g}" if isinstance(bound, float) else str(bound)
        for name, bound in found.items()
        if bound is not None
    }
    if "ge" in found and "le" in found:
        text = f"from {found['ge']} to {found['le']}"
    else:
        low = f"above {found['gt']}" if "gt" in found else f"at least {found['ge']}" if "ge" in found else ""
        high = f"below {found['lt']}" if "lt" in found else f"at most {found['le']}" if "le" in found else ""
        text = " and ".join(filter(None, (low, high)))
        text = f"of {text}" if text.startswith("at") else text
    if "multiple_of" in found:
        text = f"{text}, a multiple of {found['multiple_of']}".removeprefix(", ")
    return text
