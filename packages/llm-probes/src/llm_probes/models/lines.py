"""Files of JSON lines, one object on each."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from paperloop.errors import UserError
from paperloop.files import check_is_file, write_atomically

__all__ = ["read_lines", "read_rows", "write_rows"]


def read_lines(path: str | Path) -> list[tuple[str, dict[str, Any]]]:
    """Return (how a message names the line, object) of every line that is not blank.

    Raises:
        UserError: the file cannot be read, is not UTF-8, has no object, or a line is not one.
    """
    try:
        text = check_is_file(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text ({error.reason} at byte {error.start}).") from None
    rows = []
    for number, line in enumerate(text.split("\n"), start=1):  # a text may hold other marks of a new line
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            row = json.loads(line)
        except ValueError as error:
            raise UserError(f"{where}: this is not JSON ({error}).") from None
        if not isinstance(row, dict):
            raise UserError(f"{where}: this is not a JSON object.")
        rows.append((where, row))
    if not rows:
        raise UserError(f"{path} is empty.")
    return rows


def read_rows(path: str | Path, fields: Sequence[str]) -> list[dict[str, str]]:
    """Return the given fields of every line, all texts; others are ignored.

    `prompt`, `completion` are demonstrations; `prompt`, `chosen`, `rejected` preferences; `prompt` alone prompts.

    Raises:
        UserError: the file is not of JSON lines, or a line lacks a field or has something else than a text there.
    """
    rows = []
    for where, row in read_lines(path):
        if missing := [field for field in fields if field not in row]:
            raise UserError(f"{where} has no {missing[0]}; it needs {', '.join(fields)}.")
        if odd := [field for field in fields if not isinstance(row[field], str)]:
            raise UserError(f"{where}: {odd[0]} is not a text.")
        rows.append({field: row[field] for field in fields})
    return rows


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write JSON lines, the whole file or nothing; returns the path."""
    write_atomically(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode())
    return path
