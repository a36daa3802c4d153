"""What the annotations of settings allow: kinds of value, ranges in words, and all fields of settings in one walk."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import re
import sys
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined, to_jsonable_python

__all__ = ["MISSING", "Field", "Note", "Shape", "defaults", "jsonable", "plain", "shapes", "tag_of", "walk"]

MISSING = PydanticUndefined
_REFUSED = object()  # which no annotation allows
_NUMBERS = {int: "an integer", float: "a number"}


@dataclasses.dataclass(frozen=True)
class Note:
    """Why a range is what it is, for the message: `Annotated[int, Ge(2), Note("one says nothing")]`."""

    text: str


@dataclasses.dataclass(frozen=True, eq=False)
class Shape:
    """What an annotation allows.

    Attributes:
        parts: the members of a union, or the type alone, each with what `Annotated` adds to it; None is NoneType.
    """

    parts: tuple[tuple[Any, tuple[Any, ...]], ...]

    @staticmethod
    def of(annotation: Any, extra: Sequence[Any] = ()) -> Shape:
        """Return the shape of an annotation, with what is known to be added to it."""
        return Shape(tuple(_parts(annotation, tuple(extra))))

    @functools.cached_property
    def kinds(self) -> tuple[Any, ...]:
        """The types alone."""
        return tuple(kind for kind, _ in self.parts)

    @functools.cached_property
    def members(self) -> dict[str, Any]:
        """Tag -> class, of the settings among the types."""
        return {tag_of(kind): kind for kind in self.kinds if dataclasses.is_dataclass(kind)}

    @functools.cached_property
    def choices(self) -> tuple[Any, ...]:
        """The values of all `Literal`."""
        return tuple(choice for kind in self.kinds if get_origin(kind) is Literal for choice in get_args(kind))

    @property
    def optional(self) -> bool:
        """Whether None is allowed."""
        return types.NoneType in self.kinds

    @property
    def several(self) -> bool:
        """Whether a tuple is allowed."""
        return any(get_origin(kind) is tuple for kind in self.kinds)

    @property
    def flag(self) -> bool:
        """Whether it is switched on and off: a bool, or settings that may be absent."""
        return set(self.kinds) <= {bool, types.NoneType} or (self.optional and len(self.members) == 1)

    def member(self, tree: Any) -> Any:
        """Return the class of the settings that JSON describes; None where no class fits."""
        if len(self.members) == 1:
            return next(iter(self.members.values()))
        return self.members.get(str(tree.get("type"))) if isinstance(tree, Mapping) else None

    def items(self, count: int) -> list[Shape] | None:
        """Return what so many items of the tuple may be; None where there cannot be so many."""
        for kind in self.kinds:
            if get_origin(kind) is tuple:
                args = get_args(kind)
                args = args[:1] * count if args[1:] == (...,) else args
                return [Shape.of(arg) for arg in args] if len(args) == count else None
        return None

    def check(self, value: Any) -> Any:
        """Return a value for pydantic. Text and bools do not become numbers, nor numbers bools: these are refused."""
        value = plain(value)
        number, flag = bool({int, float} & set(self.kinds)), bool in self.kinds
        if isinstance(value, list | tuple) and (items := self.items(len(value))):
            return tuple(item.check(v) for item, v in zip(items, value, strict=True))
        if (
            (isinstance(value, bool) and number and not flag)
            or (isinstance(value, int | float) and not isinstance(value, bool) and flag and not number)
            or (isinstance(value, str) and (number or flag) and str not in self.kinds and value not in self.choices)
        ):
            return _REFUSED
        return value + 0.0 if isinstance(value, float) else value  # -0.0 equals 0.0, so they are written alike

    def read(self, words: Sequence[str]) -> Any:
        """Return what the words of an option stand for; words that stand for nothing allowed are returned as text."""
        if self.several and [*words] not in (["None"], ["none"]):
            items = self.items(len(words))
            return [*words] if items is None else [i.read([word]) for i, word in zip(items, words, strict=True)]
        word = words[0] if words else ""
        if word in ("None", "none") and self.optional:
            return None
        for choice in self.choices:
            if str(choice) == word:
                return choice
        if bool in self.kinds and word.lower() in ("true", "false"):
            return word.lower() == "true"
        for convert in (int, float) if {int, float} & set(self.kinds) else ():
            with contextlib.suppress(ValueError):
                return convert(word)
        return word

    def rule(self, value: Any = None) -> str:
        """Return what is allowed, to come after "it must be": "an integer of at least 1, or None".

        Args:
            value: what was given: of a number out of range only the range is said.
        """
        words = [_rule(k, extra, value) for k, extra in self.parts if k is not int or float not in self.kinds]
        return ", or ".join(dict.fromkeys(sorted(words, key=lambda word: word == "None")))


def _parts(annotation: Any, extra: tuple[Any, ...]) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    while get_origin(annotation) is typing.Annotated or hasattr(annotation, "__value__"):
        if hasattr(annotation, "__value__"):  # `type Alias = ...` of Python 3.12
            annotation = annotation.__value__
        else:
            annotation, *more = get_args(annotation)
            extra = (*more, *extra)
    if get_origin(annotation) in (typing.Union, types.UnionType):
        for part in get_args(annotation):
            yield from _parts(part, extra)
    else:
        yield (types.NoneType if annotation is None else annotation), extra


def _rule(kind: Any, extra: tuple[Any, ...], value: Any) -> str:
    note = "".join(f" ({e.text})" for e in extra if isinstance(e, Note))
    filled = any(getattr(e, "min_length", 0) for e in extra)
    if kind in _NUMBERS:
        bounds = _bounds(extra)
        right = isinstance(value, int if kind is int else int | float) and not isinstance(value, bool)
        if right and bounds and abs(value) <= sys.float_info.max:
            return bounds.removeprefix("of ") + note
        return (f"{_NUMBERS[kind]} {bounds}" if bounds or kind is int else "a finite number").rstrip() + note
    if get_origin(kind) is Literal:
        choices = get_args(kind)
        return ("one of " if len(choices) > 1 else "") + ", ".join(map(repr, choices)) + note
    if get_origin(kind) is tuple:
        first, *rest = get_args(kind)
        if rest == [...]:
            plural = re.sub(r"^an? ((?:finite )?\w+)", r"\1s", Shape.of(first).rule())
            return f"{'one or more' if filled else 'a list of'} {plural}{note}"
        return f"a list of {1 + len(rest)}: {'; '.join(Shape.of(arg).rule() for arg in (first, *rest))}{note}"
    if kind is str:
        return ("text that is not empty" if filled else "text") + note
    words = {types.NoneType: "None", bool: "True or False", Path: "a path"}
    return words.get(kind, f"a {getattr(kind, '__name__', kind)}") + note


def _bounds(extra: tuple[Any, ...]) -> str:
    """The words "above 0 and below 1" for what annotated-types and pydantic's Field say."""
    names = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most", "multiple_of": "a multiple of"}
    found = {name: getattr(e, name) for e in extra for name in names if getattr(e, name, None) is not None}
    shown = {name: f"{bound:g}" if isinstance(bound, float) else str(bound) for name, bound in found.items()}
    if "ge" in shown and "le" in shown:
        return f"from {shown['ge']} to {shown['le']}"
    text = " and ".join(f"{word} {shown[name]}" for name, word in names.items() if name in shown)
    return f"of {text}" if text.startswith("at") else text


# The fields of settings


class Field(NamedTuple):
    """A field among settings.

    Attributes:
        path: dotted, from the outermost settings.
        owner: the class that has it.
        shape: what it may be.
        value: in JSON; `MISSING` where there is none.
        text: its description in the section "Attributes:" of the owner's docstring.
    """

    path: str
    owner: Any
    shape: Shape
    value: Any
    text: str


def walk(cls: Any, tree: Mapping[str, Any], prefix: str = "") -> Iterator[Field]:
    """Yield the fields of settings, given as JSON, each followed by the fields inside it.

    Of a union those of the member that is chosen; of settings that are absent those that they would have.
    """
    texts = _texts(cls)
    for name, shape in shapes(cls).items():
        value = tree.get(name, MISSING)
        yield Field(f"{prefix}{name}", cls, shape, value, texts.get(name, ""))
        member = shape.member(value)
        if member is not None:
            yield from walk(member, value if isinstance(value, Mapping) else defaults(member), f"{prefix}{name}.")


@functools.cache
def shapes(cls: Any) -> dict[str, Shape]:
    """Return field name -> its shape, for the fields that `__init__` takes."""
    return {name: Shape.of(info.annotation, info.metadata) for name, info in _fields(cls).items()}


@functools.cache
def _fields(cls: Any) -> dict[str, FieldInfo]:
    known = getattr(cls, "__pydantic_fields__", None)
    if known is None:  # an ordinary dataclass
        hints = typing.get_type_hints(cls, include_extras=True)
        fields = [field for field in dataclasses.fields(cls) if field.init]
        known = {field.name: FieldInfo.from_annotated_attribute(hints[field.name], field) for field in fields}
    return {name: info for name, info in known.items() if info.init is not False}


def defaults(cls: Any) -> dict[str, Any]:
    """Return the JSON object of a class's defaults, without the fields that have none."""
    tree = {}
    for name, info in _fields(cls).items():
        value = info.get_default(call_default_factory=True)
        shape = shapes(cls)[name]
        if value is MISSING and len(shape.members) == 1 and not shape.optional:
            value = defaults(shape.member(None))
        if value is not MISSING:
            tree[name] = jsonable(value)
    return tree


@functools.cache
def tag_of(cls: Any) -> str:
    """Return the name by which a union knows a class: its literal `type`, else the name of the class."""
    shape = shapes(cls).get("type")
    return shape.choices[0] if shape is not None and shape.choices else cls.__name__


@functools.cache
def _texts(cls: Any) -> dict[str, str]:
    _, _, section = inspect.cleandoc(cls.__doc__ or "").partition("\nAttributes:\n")
    section = re.split(r"\n(?=\S)", section)[0]
    found = re.findall(r"^    (\w+): (.*(?:\n(?:     .*)?(?!    \w+: ).*)*)", section, flags=re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in found}


def plain(value: Any) -> Any:
    """Return a scalar of an array library as Python's."""
    return value.item() if getattr(value, "shape", None) == () and hasattr(value, "item") else value


def jsonable(value: Any) -> Any:
    """Return a value, settings among them, in JSON's types."""
    return to_jsonable_python(value, fallback=plain)
