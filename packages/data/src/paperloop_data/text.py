"""Text from files: JSON that may hold anything, and names that may hold control characters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from paperloop.errors import UserError, shown
from paperloop.files import parse_json

__all__ = ["checked_attributes", "names", "parsed", "shown"]

#: What is nested deeper would exhaust the stack further on.
DEEPEST = 500


def names(fields: Mapping[str, Any], most: int = 12) -> str:
    """Return the keys of `fields` for a message: the first `most` in order, and how many more there are."""
    found = [shown(name) for name in sorted(fields)]
    more = f" and {len(found) - most} more" if len(found) > most else ""
    return ", ".join(found[:most]) + more or "nothing"


def parsed(text: Any) -> Any:
    """Return what a JSON text holds.

    Raises:
        ValueError: it is not JSON, or nested too deeply.
    """
    try:
        return parse_json(text, strict=False, deepest=DEEPEST)
    except TypeError as error:
        raise ValueError(str(error)) from None


def checked_attributes(text: Any, where: str) -> dict[str, Any]:
    """Return the attributes that one of our writers stored as JSON."""
    try:
        attributes = parsed(text)
    except ValueError as error:
        raise UserError(f"{where}: its attributes are not JSON ({shown(error)}); fetch or write it again.") from None
    if not isinstance(attributes, dict):
        raise UserError(f"{where}: its attributes are not a JSON object; fetch or write it again.")
    for key, kind in (("provenance", Mapping), ("not_loaded", str), ("__arrays__", str), ("root_extras", str)):
        value = attributes.get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, kind) for item in value):
            wanted = "texts" if kind is str else "objects"
            raise UserError(f"{where}: its attribute {key!r} is not a list of {wanted}; fetch or write it again.")
    return attributes
