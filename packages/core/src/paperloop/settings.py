"""Settings: frozen, keyword-only dataclasses that check themselves and survive a round trip through JSON.

    @settings
    class PPO:
        '''Proximal policy optimisation.

Attributes:
            lr: Adam's step size.
        '''

        type: Literal["ppo"] = "ppo"
        lr: Positive = 3e-4
        clip: Positive | None = 0.2

    @settings
    class Train:
        learner: Annotated[PPO | SAC, Field(discriminator="type")] = PPO()
        sizes: tuple[Count, ...] = (64, 64)

    Train(learner=PPO(lr=-1))                         # SettingsError: PPO.lr is -1; it must be above 0.
    from_dict(Train, {"learner": {"lr": 1e-3}})       # missing keys take their defaults
    replace_in(Train(), {"learner.lr": 1e-3})         # the same by dotted path
    save_config(Train(), Path("config.json"))         # {"schema": 1, "type": "module.Train", "config": {...}}

A field holds a bool, int, float, str, None, `Path`, `Literal`, other settings, a tuple of these, or a union of these.
Of a union of settings each member has a literal `type`. Numbers are finite; a bool is not a number; 1.5 is not an
integer, and 6e5 is. Unknown names are refused. pydantic does the checking, once, from the outermost settings inwards,
so that every error knows its whole path.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar, dataclass_transform

from annotated_types import Ge, Gt, Le, Lt
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from pydantic.dataclasses import dataclass as pydantic_dataclass
from pydantic_core import ArgsKwargs

from paperloop.errors import UserError
from paperloop.files import write_json
from paperloop.problems import Problem, SettingsError, did_you_mean, fault, nearest, problems_of, short
from paperloop.shapes import Note, defaults, jsonable, shapes, walk
from paperloop.strict_json import parse_json, read_json

__all__ = [
    "Count", "CountOrZero", "Ge", "Gt", "Le", "Lt", "NotNegative", "Note", "Positive", "PositiveShare", "Problem",
    "Seed", "SettingsError", "Share", "config_document", "config_hash", "defaults", "did_you_mean", "fault",
    "field_paths", "from_dict", "json_hash", "load_config", "merge", "nearest", "nested", "parse_json",
    "read_document", "read_json", "replace_in", "save_config", "settings", "to_dict", "validate",
]  # fmt: skip

Config = TypeVar("Config")

#: Numbers above 0; from 0 on; in [0, 1]; in (0, 1].
Positive = Annotated[float, Gt(0)]
NotNegative = Annotated[float, Ge(0)]
Share = Annotated[float, Ge(0), Le(1)]
PositiveShare = Annotated[float, Gt(0), Le(1)]
#: Integers from 1 on; from 0 on; seeds.
Count = Annotated[int, Ge(1)]
CountOrZero = Annotated[int, Ge(0)]
Seed = Annotated[int, Ge(0), Le(2**63 - 1)]

_RULES = ConfigDict(extra="forbid", allow_inf_nan=False, validate_default=True)


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(dataclasses.field, Field))
def settings(cls: type[Config]) -> type[Config]:
    """Make a class settings: a frozen, keyword-only pydantic dataclass.

    Instances are hashable and compare by value; `dataclasses.replace` checks anew. NumPy's numbers are taken as
    numbers, lists as tuples. `__post_init__` checks what concerns several fields, and raises `fault(self, ...)`.
    """
    marked: Any = cls
    marked._check_kinds = model_validator(mode="before")(_check_kinds)
    made: Any = pydantic_dataclass(frozen=True, kw_only=True, config=_RULES)(cls)
    if not made.__pydantic_complete__:
        raise TypeError(f"an annotation of {cls.__name__} cannot be resolved: define what it names first")
    build = made.__init__

    @functools.wraps(build)
    def init(self: Any, **values: Any) -> None:
        try:
            build(self, **values)
        except ValidationError as error:
            raise SettingsError(problems_of(type(self), error, values, ""), type(self).__name__) from None

    made.__init__ = init
    return made


def _check_kinds(cls: Any, given: Any) -> Any:
    values = given.kwargs if isinstance(given, ArgsKwargs) else given
    if not isinstance(values, Mapping):
        return given
    known = shapes(cls)
    checked = {name: known[name].check(value) if name in known else value for name, value in values.items()}
    return ArgsKwargs(given.args, checked) if isinstance(given, ArgsKwargs) else checked


# To and from JSON


def to_dict(config: Any) -> dict[str, Any]:
    """Return settings as a JSON object. Equal settings give equal objects.

    Raises:
        TypeError: `config` is not an instance of a dataclass.
    """
    if not dataclasses.is_dataclass(config) or isinstance(config, type):
        raise TypeError(f"settings are an instance of a dataclass; got {config!r}")
    return _adapter(type(config)).dump_python(config, mode="json")


def from_dict(
    cls: type[Config], data: Mapping[str, Any], *, where: str = "config.json", base: Config | None = None
) -> Config:
    """Make settings from a JSON object.

    Args:
        cls: the class of the settings.
        data: what `to_dict` returned, or part of it.
        where: what to call the source in messages.
        base: missing keys take their values from here; None means from the defaults. Where `data` chooses another
            member of a union than `base`, nothing of the member in `base` is left.

    Raises:
        SettingsError: an unknown key, or a value that is not allowed; with the whole path.
    """
    if not isinstance(data, Mapping):
        at = f"{where}: " if where else ""
        raise UserError(f"{at}the settings of {cls.__name__} must be an object, not {short(json.dumps(data))}.")
    tree = to_dict(base) if base is not None else defaults(cls)
    return validate(cls, merge(cls, tree, data), where)


def validate(cls: type[Config], tree: Mapping[str, Any], where: str = "") -> Config:
    """Make settings from a JSON object of which nothing is merged with anything, but for the defaults of classes."""
    try:
        return _adapter(cls).validate_python(tree)
    except ValidationError as error:
        raise SettingsError(problems_of(cls, error, tree, where), cls.__name__) from None
    except UserError as error:  # of a `__post_init__`
        raise (UserError(f"{where}: {error}") if where else error) from None


@functools.cache
def _adapter(cls: Any) -> TypeAdapter:
    if not hasattr(cls, "__pydantic_fields__"):
        cls.__pydantic_config__ = _RULES  # where pydantic looks for the rules of an ordinary dataclass
    return TypeAdapter(cls)


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
        for name in parents:
            node[name] = node[name] if isinstance(node.get(name), dict) else {}
            node = node[name]
        node[last] = jsonable(values[path])
    return tree


def field_paths(config: Any) -> list[str]:
    """Return the dotted paths of all fields, holders as well: of settings, of a class by default, or of JSON."""
    if isinstance(config, Mapping):
        inner = {name: field_paths(value) if isinstance(value, Mapping) else [] for name, value in config.items()}
        return [path for name, paths in inner.items() for path in (name, *(f"{name}.{p}" for p in paths))]
    cls, tree = (config, defaults(config)) if isinstance(config, type) else (type(config), to_dict(config))
    return [field.path for field in walk(cls, tree)]


def config_document(config: Any, schema: int = 1) -> dict[str, Any]:
    """Return what `save_config` writes: the settings with their schema number and their type."""
    return {"schema": schema, "type": _type_name(type(config)), "config": to_dict(config)}


def save_config(config: Any, path: Path | str, schema: int = 1) -> None:
    """Write settings to `path`, atomically.

    Args:
        config: the settings.
        path: the file to make or replace.
        schema: raise it when a field changes its meaning, so that files of the old meaning are refused.
    """
    write_json(Path(path), config_document(config, schema))


def load_config(
    cls: type[Config], path: Path | str, schema: int = 1, *, base: Config | None = None, partial: bool = False
) -> Config:
    """Read settings that `save_config` wrote.

    Args:
        cls: the class expected.
        path: the file, or a run folder, whose config.json is read. A folder without one may hold settings of this
            type under another name, such as train.json.
        schema: the schema number expected.
        base: missing keys take their values from here; None means from the defaults.
        partial: also take a bare JSON object of fields, as one writes by hand.

    Raises:
        UserError: the file cannot be read, is of another schema or type, or does not fit (`from_dict`).
    """
    file, data = read_document(cls, path, schema, partial=partial)
    return from_dict(cls, data, where=str(file), base=base)


def read_document(cls: Any, path: Path | str, schema: int = 1, *, partial: bool = False) -> tuple[Path, Any]:
    """Return the file that `load_config` reads, and the JSON of the settings in it, not yet checked."""
    file = Path(path)
    file = _saved_in(file, cls) if file.is_dir() else file
    document = read_json(file)
    if not isinstance(document, dict):
        raise UserError(f"{file} does not hold a JSON object.")
    if "schema" not in document:
        if partial:
            return file, document
        raise UserError(f'{file} has no "schema": it is not a saved configuration.')
    if document["schema"] != schema:
        raise UserError(
            f"{file} has schema {short(json.dumps(document['schema']))}, and {cls.__name__} of this version has "
            f"schema {schema}: use the version that wrote it, or start from a preset."
        )
    name = document.get("type")
    if not isinstance(name, str) or _identity(name) != _identity(_type_name(cls)):
        raise UserError(f"{file} is a configuration of type {name}, and {_type_name(cls)} is expected: give its file.")
    return file, document.get("config")


def _saved_in(folder: Path, cls: type) -> Path:
    """The file in a folder that holds its settings: config.json, else the one of this type."""
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
        raise UserError(f"{folder} is not a run folder ({what}): give the file of a saved {cls.__name__}.")
    return found[0]


def config_hash(config: Any) -> str:
    """Return 12 hexadecimal digits that depend on the settings' values and on their class's name only."""
    return json_hash([_identity(_type_name(type(config))), to_dict(config)])


def json_hash(value: Any) -> str:
    """Return 12 hexadecimal digits of the SHA-256 of a JSON value's canonical form: sorted keys, no spaces."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _type_name(cls: type) -> str:
    """Module and class. A script's own module is called by its file, so that the name is that of an import too."""
    module = cls.__module__
    if module == "__main__":
        main = sys.modules["__main__"]
        spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
        module = spec.name.removesuffix(".__main__") if spec is not None else Path(file).stem if file else module
    return f"{module}.{cls.__name__}"


def _identity(name: str) -> list[str]:
    """Package and class: moving a class within its package keeps files and hashes valid."""
    return [name.split(".")[0], name.split(".")[-1]]
