"""Files of demonstrations, preferences and prompts, tokenised."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from llm_probes.rlhf.sampling import Responses, pad_left
from paperloop.errors import UserError

__all__ = ["encode_prompts", "encode_responses", "read_rows", "write_rows"]


def read_rows(path: str | Path, fields: Sequence[str]) -> list[dict[str, str]]:
    """Read JSON lines whose objects have the given fields, all texts; others are ignored.

    `prompt`, `completion` are demonstrations; `prompt`, `chosen`, `rejected` preferences; `prompt` alone prompts.

    Raises:
        UserError: the file cannot be read, is empty, or a line lacks a field.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read ({error}).") from None
    rows = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            texts = {field: row[field] for field in fields}
        except (json.JSONDecodeError, TypeError, KeyError) as error:
            raise UserError(f"{path}, line {number} is not an object with {', '.join(fields)} ({error!r}).") from None
        if odd := [field for field, text in texts.items() if not isinstance(text, str)]:
            raise UserError(f"{path}, line {number}: {odd[0]} is not a text.")
        rows.append(texts)
    if not rows:
        raise UserError(f"{path} is empty.")
    return rows


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write JSON lines, the whole file or nothing; returns the path."""
    partial = path.with_name(f".{path.name}.part")
    partial.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    partial.replace(path)
    return path


def encode_prompts(tokenizer: Any, prompts: Sequence[str], *, length: int, where: str) -> list[list[int]]:
    """Return the tokens of prompts.

    Raises:
        UserError: a prompt has no token or more than `length`; prompts are never cut.
    """
    rows = [list(tokenizer(prompt, add_special_tokens=False)["input_ids"]) for prompt in prompts]
    for number, row in enumerate(rows, start=1):
        if not 1 <= len(row) <= length:
            raise UserError(f"{where}: prompt {number} has {len(row)} tokens; it must have between 1 and {length}.")
    return rows


def encode_responses(
    tokenizer: Any, prompts: Sequence[list[int]], texts: Sequence[str], *, length: int, end: int, pad: int
) -> Responses:
    """Return prompts with given responses, each with an end token unless it is cut at `length` tokens."""
    tokens, attention = pad_left(prompts, pad)
    rows = [[*tokenizer(text, add_special_tokens=False)["input_ids"], end][:length] for text in texts]
    mask = torch.tensor([[1.0] * len(row) + [0.0] * (length - len(row)) for row in rows])
    responses = torch.tensor([row + [pad] * (length - len(row)) for row in rows])
    return Responses(torch.cat([tokens, responses], 1), torch.cat([attention, mask.long()], 1), mask)
