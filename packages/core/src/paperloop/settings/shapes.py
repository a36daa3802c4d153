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

__all__ = ["MISSING", "Field", "Note", "Shape", "defaults", "flatten", "jsonable", "plain", "shapes", "tag_of", "walk"]

MISSING = PydanticUndefined
_REFUSED = object()  # which no annotation allows


@dataclasses.dataclass(frozen=True)
class Note:
    """Why a range is what it is, for the message: `Annotated[int, Ge(2), Note("one says nothing")]`."""

    text: str


class Shape:
    """What an annotation allows; of a field also its default in JSON (`MISSING` for none), and what its class says."""

    def __init__(self, annotation: Any, extra: Sequence[Any] = (), default: Any = MISSING, text: str = ""):
        #: The members of a union, or the type alone, each with what `Annotated` adds to it; None is NoneType.
        self.parts = tuple(_parts(annotation, tuple(extra)))
        self.kinds = kinds = [kind for kind, _ in self.parts]
        #: Tag -> class, of the settings among them.
        self.members = {tag_of(kind): kind for kind in kinds if dataclasses.is_dataclass(kind)}
        self.choices = [choice for kind in kinds if get_origin(kind) is Literal for choice in get_args(kind)]
        self.optional = types.NoneType in kinds
        self.several = any(get_origin(kind) is tuple for kind in kinds)
        #: Whether it is switched on and off: a bool, or settings that may be absent.
        self.flag = {*kinds} <= {bool, types.NoneType} or (self.optional and len(self.members) == 1)
        whole = default is MISSING and len(self.members) == 1 and not self.optional
        self.default = (
            defaults(self.member(None)) if whole else jsonable(default) if default is not MISSING else default
        )
        self.text = text

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
                return [Shape(arg) for arg in args] if len(args) == count else None
        return None

    def check(self, value: Any) -> Any:
        """Return a value for pydantic. Text and bools do not become numbers, nor numbers bools: these are refused."""
        value = plain(value)
        number, flag = bool({int, float} & {*self.kinds}), bool in self.kinds
        if isinstance(value, list | tuple) and (items := self.items(len(value))):
            return tuple(item.check(v) for item, v in zip(items, value, strict=True))
        refused = False
        if isinstance(value, bool):
            refused = number and not flag
        elif isinstance(value, int | float):
            refused = flag and not number
        elif isinstance(value, str | Path):
            other = number or flag or (Path in self.kinds and value == "")  # not the current folder
            refused = _not_utf8(value) or (other and str not in self.kinds and value not in self.choices)
        if refused:
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
        known = {str(choice): choice for choice in self.choices}
        if word in known:
            return known[word]
        if bool in self.kinds and word.lower() in ("true", "false"):
            return word.lower() == "true"
        for convert in (int, float) if {int, float} & {*self.kinds} else ():
            with contextlib.suppress(ValueError):
                return convert(word)
        return word

    def rule(self, value: Any = None) -> str:
        """Return what is allowed, to come after "it must be": "an integer of at least 1, or None".

        Where the value given is a number out of range, only the range is said.
        """
        if isinstance(value, str | Path) and _not_utf8(value):
            return "text in UTF-8"
        words = [_rule(k, extra, value) for k, extra in self.parts if k is not int or float not in self.kinds]
        return ", or ".join(dict.fromkeys(sorted(words, key=lambda word: word == "None")))


def _parts(annotation: Any, extra: tuple[Any, ...]) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    while get_origin(annotation) is typing.Annotated or hasattr(annotation, "__value__"):
        if hasattr(annotation, "__value__"):  # `type Alias = ...` of Python 3.12
            annotation = annotation.__value__
        else:
            annotation, *more = get_args(annotation)
            extra = (*(e for one in more for e in getattr(one, "metadata", [one])), *extra)  # pydantic's Field has some
    if get_origin(annotation) in (typing.Union, types.UnionType):
        for part in get_args(annotation):
            yield from _parts(part, extra)
    else:
        yield (types.NoneType if annotation is None else annotation), extra


def _not_utf8(value: str | Path) -> bool:
    return bool(re.search("[\ud800-\udfff]", str(value)))


def _rule(kind: Any, extra: tuple[Any, ...], value: Any) -> str:
    args, filled = get_args(kind), any(getattr(e, "min_length", 0) for e in extra)
    if kind in (int, float):
        text = _number(kind, _bounds(extra), value)
    elif get_origin(kind) is Literal:
        text = ("one of " if len(args) > 1 else "") + ", ".join(map(repr, args))
    elif get_origin(kind) is tuple and args[1:] == (...,):
        text = f"{'one or more' if filled else 'a list of'} {_plural(args[0])}"
    elif get_origin(kind) is tuple and len(args) > 1 and len(set(args)) == 1:
        text = f"a list of {len(args)} {_plural(args[0])}"
    elif get_origin(kind) is tuple:
        text = f"a list of {len(args)}: {'; '.join(Shape(arg).rule() for arg in args)}"
    else:
        words = {
            types.NoneType: "None",
            bool: "True or False",
            Path: "a path",
            str: "text" + " that is not empty" * filled,
        }
        text = words.get(kind, f"a {getattr(kind, '__name__', kind)}")
    return text + "".join(f" ({e.text})" for e in extra if isinstance(e, Note))


def _plural(annotation: Any) -> str:
    return re.sub(r"^an? ((?:finite )?\w+)", r"\1s", Shape(annotation).rule())


def _number(kind: type, bounds: str, value: Any) -> str:
    """What a number must be; of one that is a number, but out of range, only the range."""
    right = isinstance(value, int if kind is int else int | float) and not isinstance(value, bool)
    if right and bounds and abs(value) <= sys.float_info.max:
        return bounds.removeprefix("of ")
    return f"{'an integer' if kind is int else 'a number' if bounds else 'a finite number'} {bounds}".rstrip()


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
    """A field among settings: its dotted path from the outermost, the class that has it, and its value in JSON."""

    path: str
    owner: Any
    shape: Shape
    value: Any


def walk(cls: Any, tree: Mapping[str, Any], prefix: str = "") -> Iterator[Field]:
    """Yield the fields of settings, given as JSON, each followed by the fields inside it.

    Of a union those of the member that is chosen; of settings that are absent those that they would have.
    """
    for name, shape in shapes(cls).items():
        value = tree.get(name, MISSING)
        yield Field(f"{prefix}{name}", cls, shape, value)
        member = shape.member(value)
        if member is not None:
            yield from walk(member, value if isinstance(value, Mapping) else defaults(member), f"{prefix}{name}.")


def flatten(tree: Any, path: str = "") -> dict[str, Any]:
    """Return dotted path -> leaf of a JSON object."""
    if not isinstance(tree, Mapping):
        return {path: tree}
    return {k: v for name, sub in tree.items() for k, v in flatten(sub, f"{path}.{name}" if path else name).items()}


@functools.cache
def shapes(cls: Any) -> dict[str, Shape]:
    """Return field name -> its shape, for the fields that `__init__` takes."""
    known = getattr(cls, "__pydantic_fields__", None)
    if known is None:  # an ordinary dataclass
        hints = typing.get_type_hints(cls, include_extras=True)
        fields = [field for field in dataclasses.fields(cls) if field.init]
        known = {field.name: FieldInfo.from_annotated_attribute(hints[field.name], field) for field in fields}
    texts = {name: text for base in reversed(cls.__mro__) for name, text in _texts(base).items()}
    return {
        name: Shape(info.annotation, info.metadata, info.get_default(call_default_factory=True), texts.get(name, ""))
        for name, info in known.items()
        if info.init is not False
    }


def defaults(cls: Any) -> dict[str, Any]:
    """Return the JSON object of a class's defaults, without the fields that have none."""
    return {name: shape.default for name, shape in shapes(cls).items() if shape.default is not MISSING}


@functools.cache
def tag_of(cls: Any) -> str:
    """Return the name by which a union knows a class: its literal `type`, else the name of the class."""
    shape = shapes(cls).get("type")
    return shape.choices[0] if shape is not None and shape.choices else cls.__name__


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
