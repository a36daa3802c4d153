"""Prompts as trees of tokens: one trunk and a branch for each answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from paperloop.errors import UserError

__all__ = ["Tree", "encode"]


@dataclass(frozen=True)
class Tree:
    """A tokenised prompt: `trunk + branch` is the text with that answer.

    Attributes:
        trunk: the tokens that all answers share from the start.
        branches: the tokens after the trunk, for every answer.
        start: the position of the first token of the answers.
    """

    trunk: tuple[int, ...]
    branches: tuple[tuple[int, ...], ...]
    start: int

    @property
    def inputs(self) -> int:
        """How many positions a forward pass over the tree needs: no last token predicts anything."""
        return len(self.trunk) + sum(max(0, len(branch) - 1) for branch in self.branches)

    @property
    def longest(self) -> int:
        """Tokens that the longest text feeds to the model."""
        return len(self.trunk) + max(max(0, len(branch) - 1) for branch in self.branches)


def encode(tokenizer: Any, prefix: str, answers: Sequence[str], *, name: str, add_special_tokens: bool = False) -> Tree:
    """Tokenise a prefix together with each of its answers.

    Prefix and answer are one string to the tokeniser, so that a leading space joins the answer's first token; the
    answer begins after as many tokens as the prefix has alone (as in lm-evaluation-harness).

    Args:
        tokenizer: a Hugging Face tokeniser.
        prefix: the text before the answers, without a space at its end.
        answers: what may follow, each with its leading space.
        name: how a message names this prompt.
        add_special_tokens: let the tokeniser add its beginning-of-sequence token.

    Raises:
        UserError: the prefix has no token, or an answer adds none to it.
    """
    alone = list(tokenizer(prefix, add_special_tokens=add_special_tokens)["input_ids"])
    texts = [list(tokenizer(prefix + a, add_special_tokens=add_special_tokens)["input_ids"]) for a in answers]
    end = tokenizer.eos_token_id  # some tokenisers close a text; the end is not part of the answer
    if add_special_tokens and end is not None and alone and alone[-1] == end:
        alone, texts = alone[:-1], [text[:-1] if text[-1] == end else text for text in texts]
    if not alone:
        raise UserError(f"{name}: the prompt has no token before the answer, so nothing predicts it.")
    for answer, text in zip(answers, texts, strict=True):
        if len(text) <= len(alone):
            raise UserError(f"{name}: the tokeniser makes no token of its own out of the answer {answer!r}.")
    shared = min(len(text) for text in texts) - 1
    for position in range(shared):
        if len({text[position] for text in texts}) > 1:
            shared = position
            break
    trunk = tuple(texts[0][:shared])
    if not trunk:
        raise UserError(f"{name}: the answers share no first token; let the tokeniser add its special tokens.")
    return Tree(trunk, tuple(tuple(text[shared:]) for text in texts), len(alone))
