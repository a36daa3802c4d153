"""Greedy continuations of prompts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llm_probes.models.loading import context_limit
from paperloop.errors import UserError

__all__ = ["generate"]


def generate(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[str],
    *,
    max_new_tokens: int,
    batch: int = 16,
    chat: bool = False,
    progress: Callable[[int], None] = lambda done: None,
) -> list[str]:
    """Return the continuation of each prompt, decoded without special tokens.

    Args:
        model: a Hugging Face causal model or encoder-decoder in evaluation mode.
        tokenizer: its tokeniser.
        prompts: the texts to continue.
        max_new_tokens: length limit of a continuation.
        batch: prompts of one pass, sorted by length.
        chat: wrap every prompt as a user's turn in the tokeniser's chat template.
        progress: called with the number of prompts done.

    Raises:
        UserError: a prompt and its continuation exceed the context, or there is no chat template.
    """
    import torch

    if chat and not tokenizer.chat_template:
        raise UserError("the tokeniser has no chat template; ask in plain text.")
    if chat:
        turns = [[{"role": "user", "content": prompt}] for prompt in prompts]
        prompts = [tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True) for turn in turns]
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    rows = [list(tokenizer(prompt, add_special_tokens=not chat)["input_ids"]) for prompt in prompts]
    seq2seq = getattr(model.config, "is_encoder_decoder", False)
    limit = context_limit(model)
    for number, row in enumerate(rows):
        need = len(row) + (0 if seq2seq else max_new_tokens)
        if limit is not None and need > limit:
            raise UserError(
                f"prompt {number} and its completion may need {need} tokens and the model's context is {limit}: "
                "use fewer worked examples or shorter completions."
            )
    order = sorted(range(len(rows)), key=lambda i: -len(rows[i]))
    answers = [""] * len(rows)
    for begin in range(0, len(rows), batch):
        group = order[begin : begin + batch]
        width = max(len(rows[i]) for i in group)
        # Left padding, so that every row's continuation begins at the same column.
        ids = torch.tensor([[pad or 0] * (width - len(rows[i])) + rows[i] for i in group])
        mask = torch.tensor([[0] * (width - len(rows[i])) + [1] * len(rows[i]) for i in group])
        with torch.no_grad():
            out = model.generate(
                input_ids=ids.to(model.device),
                attention_mask=mask.to(model.device),
                max_new_tokens=max_new_tokens,
                pad_token_id=pad or 0,
                do_sample=False,
            )
        new = out if seq2seq else out[:, width:]
        for i, row in zip(group, new.tolist(), strict=True):
            answers[i] = tokenizer.decode(row, skip_special_tokens=True)
        progress(begin + len(group))
    return answers
