"""A user's own task for any causal language model: prompts and one-token answers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from llm_probes.models.lines import read_lines
from llm_probes.wrapped.instruments import CausalView, Draw, Examples
from paperloop.errors import UserError

__all__ = ["Task", "draw_from", "read_task"]


@dataclass(frozen=True)
class Task:
    """A task read from a file.

    Attributes:
        view: reads a model on it.
        examples: all of them, in the file's order.
        answers: the text of each class.
    """

    view: CausalView
    examples: Examples
    answers: tuple[str, ...]

    def split(self, test: float, *, seed: int) -> tuple[Examples, Examples]:
        """Return (train, test) examples, divided at random with the share `test` for the second.

        Raises:
            UserError: a part would have fewer than two examples.
        """
        order = torch.randperm(len(self.examples), generator=torch.Generator().manual_seed(seed))
        cut = round(len(order) * test)
        if min(cut, len(order) - cut) < 2:
            raise UserError(f"{len(order)} examples are too few to test on the share {test} of them.")
        return self.examples.take(order[cut:]), self.examples.take(order[:cut])


def read_task(path: str | Path, tokenizer: Any) -> Task:
    """Read a JSON lines file with a `prompt` and an `answer` on every line.

    The answer is what comes right after the prompt; a space belongs to the answer (`"answer": " yes"`). Every answer
    must be one token in its place. Prompts are padded at the left.

    Raises:
        UserError: a line is not such an object, an answer has several tokens, or there is only one answer.
    """
    rows, targets, tokens = [], [], {}
    for where, row in read_lines(path):
        prompt, answer = row.get("prompt"), row.get("answer")
        if not isinstance(prompt, str) or not isinstance(answer, str):
            raise UserError(f'{where} needs a "prompt" and an "answer", both texts.')
        before = tokenizer(prompt, add_special_tokens=False)["input_ids"]
        whole = tokenizer(prompt + answer, add_special_tokens=False)["input_ids"]
        if not before or list(whole[: len(before)]) != list(before) or len(whole) != len(before) + 1:
            raise UserError(
                f"{where}: the answer {answer!r} is {len(whole) - len(before)} tokens after its prompt and must "
                "be one. A space between them belongs to the answer."
            )
        tokens.setdefault(answer, whole[-1])
        rows.append(list(before))
        targets.append(list(tokens).index(answer))
    if len(tokens) < 2:
        raise UserError(f"{path}: every answer is {next(iter(tokens))!r}; a task needs two or more different ones.")
    width = max(map(len, rows))
    pad = tokenizer.pad_token_id or 0
    padded = torch.tensor([[pad] * (width - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    return Task(CausalView(list(tokens.values())), Examples(padded, torch.tensor(targets), mask), tuple(tokens))


def draw_from(examples: Examples) -> Draw:
    """Return a function that draws batches from given examples, with replacement."""

    def draw(batch: int, generator: torch.Generator) -> Examples:
        return examples.take(torch.randint(len(examples), (batch,), generator=generator))

    return draw
