"""Demonstrations, preferences and prompts, tokenised."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from llm_probes.rlhf.sampling import Responses, pad_left
from paperloop.errors import UserError

__all__ = ["encode_prompts", "encode_responses"]


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
