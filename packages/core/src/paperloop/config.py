"""Configurations: frozen, keyword-only dataclasses that survive a round trip through JSON.

    @dataclass(frozen=True, kw_only=True)
    class PPO:
        lr: float = 1e-4

    @dataclass(frozen=True, kw_only=True)
    class Train:
        ppo: PPO = PPO()
        sizes: tuple[int, ...] = (64, 64)

    from_dict(Train, {"ppo": {"lr": 1e-3}})       # missing keys take their defaults
    replace_in(Train(), {"ppo.lr": 1e-3})         # the same by dotted path
    save_config(Train(), Path("config.json"))     # {"schema": 1, "type": "module.Train", "config": {...}}

A field holds a bool, int, float, str, None, `Path`, enum member or `Literal`, a nested configuration, a tuple of these,
or a union of these. Where a union offers several dataclasses, JSON names the one meant under the key "type". Floats
are finite: JSON has neither NaN nor infinity. `__post_init__` checks ranges, here as anywhere.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import enum
import functools
import hashlib
import json
import math
import numbers
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

from paperloop.errors import UserError
from paperloop.files import write_json
from paperloop.strict_json import parse_json, read_json

__all__ = [
    "config_document",
    "config_hash",
    "did_you_mean",
    "field_paths",
    "field_types",
    "from_dict",
    "json_hash",
    "load_config",
    "parse_json",
    "read_json",
    "replace_in",
    "save_config",
    "to_dict",
    "union_choices",
]

Config = TypeVar("Config")

_ABSENT = object()


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `; did you mean "x"?` for the nearest of `known`, or `; known are ...` where none is near."""
    choices = [str(k) for k in known]
    near = difflib.get_close_matches(name, choices, n=1)
    if near:
        return f'; did you mean "{near[0]}"?'
    return f"; known are {', '.join(choices)}." if choices else "; nothing is known here."


def to_dict(config: Any) -> dict[str, Any]:
    """Return a configuration as a JSON object.

    Values are written by the field's type, so that equal configurations give equal objects: an int in a float field
    becomes a float, and NumPy numbers become Python's.

    Raises:
        UserError: a value does not have its field's type, or is NaN or infinite; the message gives the path.
        TypeError: `config` is no dataclass instance, or a field's type cannot be written as JSON.
    """
    if not dataclasses.is_dataclass(config) or isinstance(config, type):
        raise TypeError(f"a configuration is an instance of a dataclass; got {config!r}")
    return _encode_fields(config, "")


def from_dict(
    cls: type[Config], data: Mapping[str, Any], *, where: str = "config.json", base: Config | None = None
) -> Config:
    """Build a configuration from a JSON object.

    Args:
        cls: the dataclass.
        data: what `to_dict` returned, or part of it.
        where: what to call the source in messages.
        base: missing keys take their values from here; None means from the defaults.

    Raises:
        UserError: an unknown key (with the nearest known one), a value of the wrong type, or one out of range; the
            message gives the path, such as `ppo.lr`. Nothing is rounded or truncated: an int is taken for a float and
            1e6 for an int, 1.5 for an int is refused, and a bool is no number.
    """
    return _decode_fields(cls, data, "", where, _ABSENT if base is None else base)


def config_document(config: Any, schema: int = 1) -> dict[str, Any]:
    """Return what `save_config` writes: the configuration with its schema number and its type."""
    return {"schema": schema, "type": _type_name(type(config)), "config": to_dict(config)}


def save_config(config: Any, path: Path | str, schema: int = 1) -> None:
    """Write a configuration to `path`, atomically.

    Args:
        config: the dataclass instance.
        path: the file to make or replace.
        schema: raise it when a field changes its meaning, so that files of the old meaning are refused.
    """
    write_json(Path(path), config_document(config, schema))


def load_config(
    cls: type[Config], path: Path | str, schema: int = 1, *, base: Config | None = None, partial: bool = False
) -> Config:
    """Read a configuration that `save_config` wrote.

    Args:
        cls: the dataclass expected.
        path: the file, or a run folder, whose config.json is read. A folder without one may hold a configuration of
            this type under another name, such as train.json.
        schema: the schema number expected.
        base: missing keys take their values from here; None means from the defaults.
        partial: also take a bare JSON object of fields, as one writes by hand.

    Raises:
        UserError: the file cannot be read, is of another schema or type, or does not fit (`from_dict`).
    """
    file = Path(path)
    file = _saved_in(file, cls) if file.is_dir() else file
    document = read_json(file)
    if not isinstance(document, dict):
        raise UserError(f"{file} holds {_kind(document)} instead of a JSON object.")
    if "schema" not in document:
        if partial:
            return from_dict(cls, document, where=str(file), base=base)
        raise UserError(f'{file} has no "schema": it is no saved configuration.')
    if document["schema"] != schema:
        raise UserError(
            f"{file} has schema {json.dumps(document['schema'])}, and {cls.__name__} of this version has schema "
            f"{schema}: use the version that wrote it, or start from a preset."
        )
    name = document.get("type")
    if not isinstance(name, str) or _identity(name) != _identity(_type_name(cls)):
        raise UserError(f"{file} is a configuration of type {name}, and {_type_name(cls)} is expected: give its file.")
    return from_dict(cls, document.get("config"), where=str(file), base=base)


def _saved_in(folder: Path, cls: type) -> Path:
    """The file in a folder that holds its configuration: config.json, else the one of this type."""
    usual = folder / "config.json"
    if usual.exists():
        return usual
    found = []
    for path in sorted(folder.glob("*.json")):
        with contextlib.suppress(UserError):
            document = read_json(path)
            name = document.get("type") if isinstance(document, dict) and "schema" in document else None
            if isinstance(name, str) and _identity(name) == _identity(_type_name(cls)):
                found.append(path)
    if len(found) != 1:
        what = f"it holds several: {', '.join(path.name for path in found)}" if found else "no config.json"
        raise UserError(f"{folder} is no run folder ({what}): give the file of a saved {cls.__name__}.")
    return found[0]


def config_hash(config: Any) -> str:
    """Return 12 hexadecimal digits that depend on the configuration's values and on its class's name only."""
    return json_hash([_identity(_type_name(type(config))), to_dict(config)])


def json_hash(value: Any) -> str:
    """Return 12 hexadecimal digits of the SHA-256 of a JSON value's canonical form: sorted keys, no spaces."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def replace_in(config: Config, changes: Mapping[str, Any]) -> Config:
    """Return a copy with some fields changed, by dotted path such as "ppo.lr" or "layers.0.width".

    All changes are made before anything is checked, so that fields which depend on one another can change together.

    Raises:
        UserError: no such path (with the nearest one), or a value that does not fit.
    """
    document = to_dict(config)
    for path, value in changes.items():
        *parents, last = path.split(".")
        node: Any = document
        try:
            for name in parents:
                node = node[_key(node, name)]
            key = _key(node, last)
            node[key] = _plain(value)
        except (KeyError, IndexError, TypeError, ValueError):
            nearest = did_you_mean(path, field_paths(config))
            raise UserError(f'{type(config).__name__} has no field "{path}"{nearest}') from None
    return from_dict(type(config), document, where=type(config).__name__)


def field_paths(config: Any) -> list[str]:
    """Return the dotted paths of all fields of a configuration (or class), nested ones after what holds them."""

    def walk(value: Any, path: str) -> Iterator[str]:
        if path:
            yield path
        prefix = f"{path}." if path else ""
        if dataclasses.is_dataclass(value):
            for name in field_types(value if isinstance(value, type) else type(value)):
                yield from walk(getattr(value, name, None), prefix + name)
        elif isinstance(value, tuple) and any(dataclasses.is_dataclass(v) for v in value):
            for index, item in enumerate(value):
                yield from walk(item, f"{prefix}{index}")

    return list(walk(config, ""))


@functools.cache
def field_types(cls: Any) -> dict[str, Any]:
    """Return field name -> type for the fields that `__init__` takes, with the annotations resolved."""
    hints = typing.get_type_hints(cls)
    return {f.name: hints[f.name] for f in dataclasses.fields(cls) if f.init}


def union_choices(annotation: Any) -> dict[str, Any]:
    """Return name -> class for a union's dataclasses ("none" -> None too); empty where there is nothing to choose."""
    parts = _alternatives(annotation)
    choices: dict[str, Any] = {a.__name__: a for a in parts if dataclasses.is_dataclass(a)}
    if choices and types.NoneType in parts:
        choices["none"] = None
    return choices if len(choices) > 1 else {}


# Python -> JSON


def _encode_fields(config: Any, path: str, tagged: bool = False) -> dict[str, Any]:
    hints = field_types(type(config))
    tag = {"type": type(config).__name__} if tagged else {}
    if tagged and "type" in hints:
        raise TypeError(f'{type(config).__name__} has a field "type", which a union needs for the name of the class')
    return tag | {name: _encode(hint, getattr(config, name), _join(path, name)) for name, hint in hints.items()}


def _encode(annotation: Any, value: Any, path: str) -> Any:
    parts = _alternatives(annotation)
    if dataclasses.is_dataclass(value):
        classes = [a for a in parts if dataclasses.is_dataclass(a)]
        if type(value) not in classes:
            raise _wrong(path, annotation, value)
        return _encode_fields(value, path, tagged=len(classes) > 1)
    if isinstance(value, enum.Enum) and type(value) in parts:
        return value.name
    if isinstance(value, Path) and Path in parts:
        return str(value)
    if isinstance(value, tuple):
        for part in parts:
            if typing.get_origin(part) is tuple or part is tuple:
                with contextlib.suppress(_LengthError):
                    return [_encode(a, v, _join(path, i)) for i, (a, v) in enumerate(_items(part, value))]
        raise _wrong(path, annotation, value)
    # Scalars go the way back in, which checks them and turns them into what the field's type says.
    return _decode(annotation, _scalar(value), path, "", _ABSENT)


def _scalar(value: Any) -> Any:
    """Python's own number for anybody's number."""
    if isinstance(value, bool | int | str | None):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value)
    return value


def _plain(value: Any) -> Any:
    """A value given in Python, as JSON would give it."""
    if dataclasses.is_dataclass(value):
        return {"type": type(value).__name__, **to_dict(value)}
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    if isinstance(value, enum.Enum):
        return value.name
    return str(value) if isinstance(value, Path) else _scalar(value)


# JSON -> Python


def _decode_fields(cls: Any, data: Any, path: str, where: str, base: Any) -> Any:
    if not isinstance(data, Mapping):
        raise _wrong(path, cls, data, where)
    hints = field_types(cls)
    for key in data:
        if key not in hints:
            near = did_you_mean(_join(path, str(key)), [_join(path, name) for name in hints])
            raise UserError(f'{_at(where)}unknown key "{_join(path, str(key))}"{near}')
    base = base if type(base) is cls else _ABSENT
    values = {
        name: _decode(hint, data[name], _join(path, name), where, getattr(base, name, _ABSENT))
        if name in data
        else getattr(base, name, _ABSENT)
        for name, hint in hints.items()
    }
    values = {name: value for name, value in values.items() if value is not _ABSENT}
    for field in dataclasses.fields(cls):
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if field.init and required and field.name not in values:
            raise UserError(f'{_at(where)}the key "{_join(path, field.name)}" is missing.')
    try:
        return cls(**values)
    except (UserError, ValueError) as error:
        raise UserError(f"{_at(where)}{error}") from error


def _decode(annotation: Any, value: Any, path: str, where: str, base: Any) -> Any:
    parts = _alternatives(annotation)
    if value is None and types.NoneType in parts:
        return None
    if isinstance(value, Mapping):
        cls, fields = _choose_class(annotation, value, path, where)
        return _decode_fields(cls, fields, path, where, base)
    if isinstance(value, list | tuple):
        for part in parts:
            if typing.get_origin(part) is tuple or part is tuple:
                with contextlib.suppress(_LengthError):
                    return tuple(
                        _decode(a, v, _join(path, i), where, _at_index(base, i))
                        for i, (a, v) in enumerate(_items(part, value))
                    )
        raise _wrong(path, annotation, value, where)
    # Of a union the exact type wins: 1 for `int | float` stays an int, and "a" for `Path | str` a str.
    for exact in (True, False):
        for part in parts:
            result = _decode_scalar(part, value, exact)
            if result is not _ABSENT:
                return result
    if isinstance(value, float) and not math.isfinite(value) and float in parts:
        raise UserError(f"{_at(where)}{path or 'the value'} is {value}, and a configuration holds finite numbers only.")
    raise _wrong(path, annotation, value, where)


def _decode_scalar(part: Any, value: Any, exact: bool) -> Any:
    """`value` as a `part`, or _ABSENT where it is none."""
    if typing.get_origin(part) is Literal:
        return next((v for v in typing.get_args(part) if type(v) is type(value) and v == value), _ABSENT)
    if isinstance(part, type) and issubclass(part, enum.Enum):
        return part.__members__.get(value, _ABSENT) if isinstance(value, str) else _ABSENT
    if isinstance(value, float) and not math.isfinite(value):
        return _ABSENT
    if part in (bool, int, float, str) and type(value) is part:
        return value + 0.0 if part is float else value  # -0.0 and 0.0 are equal, so they are written alike
    if exact:
        return _ABSENT
    if part is float and type(value) is int:
        with contextlib.suppress(OverflowError):
            return float(value) if float(value) == value else _ABSENT
    if part is int and type(value) is float and value.is_integer():
        return int(value)
    if part is str and isinstance(value, str):
        return str(value)
    if part is Path and isinstance(value, str | Path):
        return Path(value)
    if part not in (bool, int, float, str, Path, types.NoneType) and not dataclasses.is_dataclass(part):
        origin = typing.get_origin(part) or part
        if origin is not tuple:
            raise TypeError(f"a configuration cannot hold values of type {_spell(part)}")
    return _ABSENT


def _choose_class(annotation: Any, value: Mapping[str, Any], path: str, where: str) -> tuple[Any, Mapping[str, Any]]:
    classes = {a.__name__: a for a in _alternatives(annotation) if dataclasses.is_dataclass(a)}
    if not classes:
        raise _wrong(path, annotation, value, where)
    if len(classes) == 1:
        ((name, cls),) = classes.items()
        if value.get("type") == name and "type" not in field_types(cls):
            value = {k: v for k, v in value.items() if k != "type"}
        return cls, value
    name = value.get("type")
    if name is None:
        raise UserError(f'{_at(where)}{path} needs a "type": one of {", ".join(classes)}.')
    if name not in classes:
        raise UserError(f'{_at(where)}{path} has the unknown type "{name}"{did_you_mean(str(name), classes)}')
    return classes[name], {k: v for k, v in value.items() if k != "type"}


# Types and messages


class _LengthError(Exception):
    """A sequence whose length does not fit this tuple type."""


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    """The members of a union, or the type alone; None is NoneType."""
    while True:
        if typing.get_origin(annotation) is typing.Annotated:
            annotation = typing.get_args(annotation)[0]
        elif hasattr(annotation, "__value__"):  # `type Alias = ...` of Python 3.12
            annotation = annotation.__value__
        else:
            break
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return tuple(a for part in typing.get_args(annotation) for a in _alternatives(part))
    return (types.NoneType,) if annotation is None else (annotation,)


def _items(part: Any, value: Any) -> list[tuple[Any, Any]]:
    """Pairs of type and value for the items of a tuple."""
    args = typing.get_args(part)
    if not args and part is tuple:
        raise TypeError("a configuration's tuples say what they hold: tuple[int, ...]")
    if len(args) == 2 and args[1] is Ellipsis:
        return [(args[0], v) for v in value]
    if len(args) != len(value):
        raise _LengthError
    return list(zip(args, value, strict=True))


def _at_index(base: Any, index: int) -> Any:
    return base[index] if isinstance(base, tuple) and index < len(base) else _ABSENT


def _key(node: Any, name: str) -> Any:
    """The key or index of an existing child; KeyError, IndexError or ValueError where there is none."""
    key: Any = int(name) if isinstance(node, list) else name
    if isinstance(node, list) and key < 0:
        raise IndexError
    node[key]
    return key


def _type_name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__name__}"


def _identity(name: str) -> list[str]:
    """Package and class: moving a class within its package keeps files and hashes valid."""
    return [name.split(".")[0], name.split(".")[-1]]


def _join(path: str, name: str | int) -> str:
    return f"{path}.{name}" if path else str(name)


def _at(where: str) -> str:
    return f"{where}: " if where else ""


def _wrong(path: str, annotation: Any, value: Any, where: str = "") -> UserError:
    expected = " or ".join(dict.fromkeys(_spell(a) for a in _alternatives(annotation)))
    return UserError(f"{_at(where)}{path or 'the configuration'} must be {expected}, not {_kind(value)}.")


def _spell(annotation: Any) -> str:
    """A type in plain words."""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Literal:
        return " or ".join(json.dumps(a) for a in args)
    if origin is tuple:
        if len(args) == 2 and args[1] is Ellipsis:
            return f"a list of {_spell_union(args[0])}"
        return f"a list of {len(args)} ({', '.join(_spell_union(a) for a in args)})"
    if annotation is types.NoneType:
        return "null"
    if dataclasses.is_dataclass(annotation):
        return f"an object ({cast(type, annotation).__name__})"
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return " or ".join(json.dumps(name) for name in annotation.__members__)
    return getattr(annotation, "__name__", str(annotation))


def _spell_union(annotation: Any) -> str:
    return " or ".join(_spell(a) for a in _alternatives(annotation))


def _kind(value: Any) -> str:
    """A value and what it is, for messages."""
    if value is None:
        return "null"
    names = {dict: "an object", list: "a list", tuple: "a list", bool: "the bool", int: "the int", float: "the float"}
    name = names.get(type(value), "the string" if isinstance(value, str) else f"the {type(value).__name__}")
    text = repr(value)
    return f"{name} {text if len(text) <= 60 else text[:57] + '...'}"
