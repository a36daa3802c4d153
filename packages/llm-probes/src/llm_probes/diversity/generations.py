"""Files of generations: anybody's JSON lines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llm_probes.models.lines import read_lines
from paperloop.errors import UserError

__all__ = ["Generations", "read_generations"]

INPUTS = ("input", "prompt", "instruction", "question")
LISTS = ("outputs", "completions", "responses", "generations", "samples")
SINGLES = ("output", "completion", "response", "generation", "text")


@dataclass(frozen=True)
class Generations:
    """Several outputs for each input of one policy.

    Attributes:
        inputs: the inputs.
        outputs: as many texts for each input.
        policy: the policy's name, "" where the file has none.
    """

    inputs: tuple[str, ...]
    outputs: tuple[tuple[str, ...], ...]
    policy: str = ""


def read_generations(path: str | Path, *, outputs: int | None = None) -> list[Generations]:
    """Read a JSON lines file of generations and return one `Generations` for each policy in it.

    A line is an object with an input (`input`, `prompt`, `instruction` or `question`) and either a list of texts
    (`outputs`, `completions`, `responses`, `generations` or `samples`) or one text (`output`, `completion`, `response`,
    `generation` or `text`); lines with the same input are put together. `policy` or `model` names the policy.

    Args:
        path: the file.
        outputs: take the first so many outputs of every input; None asks that all have the same number.

    Raises:
        UserError: a line is not such an object, or inputs have unequal or too few outputs.
    """
    policies: dict[str, dict[str, list[str]]] = {}
    for where, row in read_lines(path):
        name, source, texts = _fields(row, where)
        policies.setdefault(name, {}).setdefault(source, []).extend(texts)
    return [_even(path, name, rows, outputs) for name, rows in policies.items()]


def _fields(row: dict[str, Any], where: str) -> tuple[str, str, list[str]]:
    source = _first(row, INPUTS)
    texts = _first(row, LISTS)
    texts = [_first(row, SINGLES)] if texts is None else texts
    if source is None or texts == [None]:
        need = f"input ({', '.join(INPUTS)})" if source is None else f"outputs ({', '.join(LISTS + SINGLES)})"
        raise UserError(f"{where} has no {need}; its keys are {sorted(row)}.")
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise UserError(f"{where}: the outputs are not a list of texts.")
    return (
        str(row.get("policy", row.get("model", ""))),
        source if isinstance(source, str) else json.dumps(source),
        texts,
    )


def _first(row: dict[str, Any], names: Sequence[str]) -> Any:
    return next((row[name] for name in names if name in row), None)


def _even(path: str | Path, policy: str, rows: dict[str, list[str]], outputs: int | None) -> Generations:
    counts = {source: len(texts) for source, texts in rows.items()}
    fewest = min(counts, key=lambda source: counts[source])
    about = f"{path}{f', policy {policy}' if policy else ''}"
    if outputs is None and len(set(counts.values())) > 1:
        raise UserError(
            f"{about}: inputs have between {counts[fewest]} and {max(counts.values())} outputs; "
            f"give the number to use, at most {counts[fewest]}."
        )
    if outputs is not None and counts[fewest] < outputs:
        raise UserError(f"{about}: the input {fewest[:60]!r} has {counts[fewest]} outputs, fewer than {outputs}.")
    return Generations(tuple(rows), tuple(tuple(texts[:outputs]) for texts in rows.values()), policy)
