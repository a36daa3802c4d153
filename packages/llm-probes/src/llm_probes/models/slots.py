"""Scores of answers for models that fill a slot: masked models and encoder-decoders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from llm_probes.models.loading import context_limit
from llm_probes.models.score import AnswerScores
from paperloop.errors import UserError

__all__ = ["score_masked", "score_seq2seq"]


def score_seq2seq(
    model: Any,
    tokenizer: Any,
    prefixes: Sequence[str],
    answers: Sequence[Sequence[str]],
    names: Sequence[str],
    *,
    batch: int = 16,
    progress: Callable[[int], None] = lambda done: None,
) -> AnswerScores:
    """Score answers as the decoder's text after the prefix as the encoder's, the end token not counted.

    Args:
        model: a Hugging Face encoder-decoder in evaluation mode.
        tokenizer: its tokeniser.
        prefixes: the texts before the answers.
        answers: the answers of each, with their leading space (which is not given to the decoder).
        names: how messages name the prompts.
        batch: prompts of one forward pass.
        progress: called with the number of prompts done.
    """
    import torch

    start = model.config.decoder_start_token_id
    ids = [list(tokenizer(prefix)["input_ids"]) for prefix in prefixes]
    targets = [
        [_answer_ids(tokenizer, a.strip(), name) for a in some] for some, name in zip(answers, names, strict=True)
    ]
    _check_lengths(model, [len(row) for row in ids], names)
    found: list[list[np.ndarray]] = [[] for _ in ids]
    order = np.argsort([-len(row) for row in ids], kind="stable")
    for begin in range(0, len(ids), batch):
        group = order[begin : begin + batch]
        inputs, mask = _pad([ids[i] for i in group], tokenizer.pad_token_id or 0, model.device)
        with torch.no_grad():
            encoded = model.get_encoder()(input_ids=inputs, attention_mask=mask)
        for column in range(len(targets[0])):
            goal, _ = _pad([targets[i][column] for i in group], 0, model.device)
            fed = torch.cat([torch.full_like(goal[:, :1], start), goal[:, :-1]], dim=1)
            with torch.no_grad():
                logits = model(encoder_outputs=encoded, attention_mask=mask, decoder_input_ids=fed).logits
            scores = torch.log_softmax(logits.float(), -1).gather(2, goal[..., None])[..., 0].double().cpu().numpy()
            for row, i in enumerate(group):
                found[i].append(scores[row, : len(targets[i][column])])
        progress(min(begin + batch, len(ids)))
    return _scores(found)


def score_masked(
    model: Any,
    tokenizer: Any,
    prefixes: Sequence[str],
    answers: Sequence[Sequence[str]],
    names: Sequence[str],
    *,
    batch: int = 16,
    progress: Callable[[int], None] = lambda done: None,
) -> AnswerScores:
    """Score answers as the tokens of a masked slot at the end of the prefix, all of the slot masked at once.

    Args:
        model: a Hugging Face masked model in evaluation mode.
        tokenizer: its tokeniser, with a mask token.
        prefixes: the texts before the answers.
        answers: the answers of each, with their leading space.
        names: how messages name the prompts.
        batch: texts of one forward pass.
        progress: called with the number of prompts done.

    Raises:
        UserError: the tokeniser has no mask token, or a text is too long.
    """
    import torch

    if tokenizer.mask_token_id is None:
        raise UserError("the tokeniser has no mask token, so the model cannot be asked to fill a slot.")
    texts, goals, owners = [], [], []
    for number, (prefix, some, name) in enumerate(zip(prefixes, answers, names, strict=True)):
        for answer in some:
            goal = _answer_ids(tokenizer, answer.strip(), name)
            texts.append(list(tokenizer(prefix + " " + tokenizer.mask_token * len(goal))["input_ids"]))
            goals.append(goal)
            owners.append(number)
    _check_lengths(model, [len(row) for row in texts], [names[i] for i in owners])
    values: list[np.ndarray] = [np.empty(0)] * len(texts)
    order = np.argsort([-len(row) for row in texts], kind="stable")
    for begin in range(0, len(texts), batch):
        group = order[begin : begin + batch]
        inputs, mask = _pad([texts[i] for i in group], tokenizer.pad_token_id or 0, model.device)
        with torch.no_grad():
            scores = torch.log_softmax(model(input_ids=inputs, attention_mask=mask).logits.float(), -1)
        for row, i in enumerate(group):
            slots = [p for p, token in enumerate(texts[i]) if token == tokenizer.mask_token_id][-len(goals[i]) :]
            values[i] = scores[row, slots, goals[i]].double().cpu().numpy()
        progress(owners[group[-1]] + 1)
    found: list[list[np.ndarray]] = [[] for _ in prefixes]
    for owner, scores in zip(owners, values, strict=True):
        found[owner].append(scores)
    return _scores(found)


def _answer_ids(tokenizer: Any, answer: str, name: str) -> list[int]:
    ids = list(tokenizer(answer, add_special_tokens=False)["input_ids"])
    if not ids:
        raise UserError(f"{name}: the tokeniser makes no token out of the answer {answer!r}.")
    return ids


def _check_lengths(model: Any, lengths: Sequence[int], names: Sequence[str]) -> None:
    limit = context_limit(model)
    for length, name in zip(lengths, names, strict=True):
        if limit is not None and length > limit:
            raise UserError(f"{name} has {length} tokens and the model's context {limit}: use fewer worked examples.")


def _pad(rows: Sequence[Sequence[int]], value: int, device: Any) -> tuple[Any, Any]:
    """Return (ids, mask), both int64 [rows, longest], padded at the right."""
    import torch

    width = max(len(row) for row in rows)
    ids = torch.full((len(rows), width), value, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
        mask[i, : len(row)] = 1
    return ids.to(device), mask.to(device)


def _scores(found: Sequence[Sequence[np.ndarray]]) -> AnswerScores:
    total = np.array([[values.sum() for values in row] for row in found])
    last = np.array([[values[-1] for values in row] for row in found])
    tokens = np.array([[len(values) for values in row] for row in found])
    bad = ~np.isfinite(total)
    return AnswerScores(np.where(bad, np.nan, total), np.where(bad, np.nan, last), None, tokens, "padded")
