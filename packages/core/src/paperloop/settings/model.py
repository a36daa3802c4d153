"""The class decorator `settings`; settings from JSON and to JSON; changes by dotted path."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Mapping
from typing import Any, TypeVar, dataclass_transform

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from pydantic.dataclasses import dataclass as pydantic_dataclass
from pydantic_core import ArgsKwargs

from paperloop.errors import UserError
from paperloop.settings.problems import SettingsError, problems_of, short
from paperloop.settings.shapes import defaults, jsonable, shapes

__all__ = ["from_dict", "merge", "nested", "replace_in", "settings", "to_dict", "validate"]

Config = TypeVar("Config")

_RULES = ConfigDict(extra="forbid", allow_inf_nan=False, validate_default=True)


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(dataclasses.field, Field))
def settings(cls: type[Config]) -> type[Config]:
    """Make a class settings: a frozen, keyword-only pydantic dataclass.

    Instances are hashable and compare by value; `dataclasses.replace` checks anew. NumPy's numbers are taken as
    numbers, lists as tuples. `__post_init__` checks what concerns several fields, and raises `fault(self, ...)`.
    """
    marked: Any = cls
    marked._check = model_validator(mode="wrap")(_check)
    made: Any = pydantic_dataclass(frozen=True, kw_only=True, config=_RULES)(cls)
    if not made.__pydantic_complete__:
        raise TypeError(f"an annotation of {cls.__name__} cannot be resolved: define what it names first")
    build = made.__init__

    @functools.wraps(build)
    def init(self: Any, **values: Any) -> None:
        try:
            build(self, **values)
        except ValidationError as error:
            raise SettingsError(problems_of(type(self), values, error), type(self).__name__) from None

    made.__init__ = init
    return made


def _check(cls: Any, given: Any, check: Any) -> Any:
    """Validate one level of settings: what is wrong becomes a `SettingsError`, which the level above takes in."""
    direct = isinstance(given, ArgsKwargs)  # the class was called
    values = given.kwargs if direct else given
    if not isinstance(values, Mapping):
        return check(given)
    known = shapes(cls)
    fit = {name: known[name].check(value) if name in known else value for name, value in values.items()}
    try:
        return check(ArgsKwargs((), fit) if direct else fit)
    except ValidationError as error:
        raise SettingsError(problems_of(cls, values, error)) from None


def to_dict(config: Any) -> dict[str, Any]:
    """Return settings as a JSON object. Equal settings give equal objects."""
    if not dataclasses.is_dataclass(config) or isinstance(config, type):
        raise TypeError(f"settings are an instance of a dataclass; got {config!r}")
    return _adapter(type(config)).dump_python(config, mode="json")


def from_dict(cls: type[Config], data: Mapping[str, Any], *, where: str = "config.json") -> Config:
    """Make settings of what `to_dict` returned, or of part of it: missing keys take their defaults.

    Messages call the source `where`.

    Raises:
        SettingsError: an unknown key, or a value that is not allowed; with the whole path.
    """
    if not isinstance(data, Mapping):
        at = f"{where}: " if where else ""
        raise UserError(f"{at}the settings of {cls.__name__} must be an object, not {short(json.dumps(data))}.")
    return validate(cls, merge(cls, defaults(cls), data), where)


def validate(cls: type[Config], tree: Mapping[str, Any], where: str = "") -> Config:
    """Make settings from a JSON object of which nothing is merged with anything, but for the defaults of classes."""
    try:
        return _adapter(cls).validate_python(tree)
    except ValidationError as error:
        problems = [dataclasses.replace(problem, where=where) for problem in problems_of(cls, tree, error)]
        raise SettingsError(problems, cls.__name__) from None
    except UserError as error:  # of a `__post_init__`
        raise (UserError(f"{where}: {error}") if where else error) from None


@functools.cache
def _adapter(cls: Any) -> TypeAdapter:
    _follow_rules(cls)
    return TypeAdapter(cls)


def _follow_rules(cls: Any) -> None:
    """Let pydantic find our rules at ordinary dataclasses: this one, and those inside it."""
    if "_check" not in vars(cls):
        cls.__pydantic_config__, cls._check = _RULES, model_validator(mode="wrap")(_check)
    for shape in shapes(cls).values():
        for member in shape.members.values():
            _follow_rules(member)


def merge(cls: Any, base: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any]:
    """Return JSON in which the objects of `data` fill those of `base`; another member of a union replaces its rival."""
    merged = dict(base)
    for name, value in data.items():
        shape = shapes(cls).get(name)
        if shape is not None and isinstance(value, Mapping):
            inner = base.get(name)
            inner = inner if isinstance(inner, Mapping) else {}
            tag = value.get("type", inner.get("type"))
            if (member := shape.member({"type": tag})) is not None:
                value = merge(member, inner if inner and tag == inner.get("type") else defaults(member), value)
        merged[name] = value
    return merged


def replace_in(config: Config, changes: Mapping[str, Any]) -> Config:
    """Return a copy with some fields changed, by dotted path such as "ppo.lr".

    All changes are made before anything is checked, so that fields which depend on one another can change together.
    "learner.type" chooses another member of a union, with its defaults, before the other changes are made.

    Raises:
        SettingsError: there is no such path (with the nearest one), or a value is not allowed.
    """
    return validate(type(config), merge(type(config), to_dict(config), nested(changes)))


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return dotted path -> value as an object of objects."""
    tree: dict[str, Any] = {}
    for path in sorted(values, key=lambda path: path.count(".")):
        node = tree
        *parents, last = path.split(".")
        for depth, name in enumerate(parents, 1):
            node = node.setdefault(name, {})
            if not isinstance(node, dict):
                holder = ".".join(parents[:depth])
                raise UserError(f'"{path}" contradicts {json.dumps(node)} for "{holder}": leave one of them out.')
        node[last] = jsonable(values[path])
    return tree
