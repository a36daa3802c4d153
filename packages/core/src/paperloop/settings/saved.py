"""Settings in files, and their hash."""

from __future__ import annotations

import contextlib
import hashlib
import json
import sys
from pathlib import Path
from typing import Any, TypeVar

from paperloop.errors import UserError
from paperloop.files import read_json, write_json
from paperloop.settings.model import from_dict, to_dict
from paperloop.settings.problems import short

__all__ = ["config_document", "config_hash", "json_hash", "load_config", "read_document", "save_config"]

Config = TypeVar("Config")


def config_document(config: Any, schema: int = 1) -> dict[str, Any]:
    """Return what `save_config` writes: the settings with their schema number and their type."""
    return {"schema": schema, "type": _type_name(type(config)), "config": to_dict(config)}


def save_config(config: Any, path: Path | str, schema: int = 1) -> None:
    """Write settings to `path`, atomically.

    A package raises its `schema` when a field changes its meaning, so that files of the old meaning are refused.
    """
    write_json(Path(path), config_document(config, schema))


def load_config(cls: type[Config], path: Path | str, schema: int = 1) -> Config:
    """Read settings of a class that `save_config` wrote.

    Of a run folder config.json is read, or without one the file that holds settings of this type, such as train.json.

    Raises:
        UserError: the file cannot be read, is of another schema or type, or does not fit (`from_dict`).
    """
    file, data = read_document(cls, path, schema)
    return from_dict(cls, data, where=str(file))


def read_document(cls: Any, path: Path | str, schema: int = 1, *, partial: bool = False) -> tuple[Path, Any]:
    """Return the file that `load_config` reads, and the JSON of the settings in it, not yet checked.

    With `partial` also that of a bare JSON object of fields, as one writes by hand.
    """
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
    if not _is_of(document, cls):
        found = document.get("type")
        raise UserError(f"{file} is a configuration of type {found}, and {_type_name(cls)} is expected: give its file.")
    return file, document.get("config")


def _saved_in(folder: Path, cls: type) -> Path:
    """The file in a folder that holds its settings: config.json, else the one of this type."""
    usual = folder / "config.json"
    if usual.exists():
        return usual
    found = []
    for path in sorted(folder.glob("*.json")):
        with contextlib.suppress(UserError):
            found += [path] if _is_of(read_json(path), cls) else []
    if len(found) != 1:
        what = f"it holds several: {', '.join(path.name for path in found)}" if found else "no config.json"
        raise UserError(f"{folder} is not a run folder ({what}): give the file of a saved {cls.__name__}.")
    return found[0]


def _is_of(document: Any, cls: type) -> bool:
    name = document.get("type") if isinstance(document, dict) and "schema" in document else None
    return isinstance(name, str) and _identity(name) == _identity(_type_name(cls))


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
