"""Strict JSON: no NaN or infinity, no key twice, no nesting without end."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from paperloop.errors import UserError
from paperloop.files import check_is_file

__all__ = ["parse_json", "read_json"]


def read_json(path: Path | str) -> Any:
    """Read a file of strict JSON.

    Raises:
        UserError: the file is missing, not a file, or does not hold such JSON.
    """
    path = check_is_file(path)
    try:
        return parse_json(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise UserError(f"{path} is not a JSON file: it does not hold text.") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path} cannot be read as JSON: {reason}.") from None


def parse_json(text: str) -> Any:
    """Parse strict JSON.

    Raises:
        ValueError: says what is wrong with it.
    """
    try:
        return json.loads(text, parse_constant=_no_constant, parse_float=_finite, object_pairs_hook=_unique)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number is too large")
    return value


def _unique(items: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, value in items:
        if name in result:
            raise ValueError(f'the key "{name}" is there twice')
        result[name] = value
    return result
