"""Log-likelihoods of answers under a causal model, with shared prefixes and without padding.

Prompts of any lengths stand one after the other in one row. A tree mask keeps them apart: a position sees its own
prompt's trunk and its own branch, and nothing else, and its position number counts from the start of its text. So both
answers are read from one pass over their prefix, no position is spent on padding, and only the positions that predict
an answer go through the output layer.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from llm_probes.models.encode import Tree
from llm_probes.models.loading import context_limit
from paperloop.errors import UserError

__all__ = ["SCORES", "AnswerScores", "score_trees"]

#: The three scores of the paper's model families, each named in every output.
SCORES = ("continuation", "last_token", "mean_all")
Layout = Literal["auto", "packed", "padded"]


@dataclass(frozen=True)
class AnswerScores:
    """Scores of the answers of each prompt, float64 [prompts, answers]; higher is better, NaN where not finite.

    Attributes:
        continuation: summed log-likelihood of the answer's tokens given the prefix.
        last_token: log-likelihood of the text's last token.
        mean_all: mean log-likelihood of all tokens of the text but the first; None where it was not asked for.
        tokens: number of tokens of each answer, int [prompts, answers].
        layout: how the prompts were laid out, "packed" or "padded".
    """

    continuation: np.ndarray
    last_token: np.ndarray
    mean_all: np.ndarray | None
    tokens: np.ndarray
    layout: str


def score_trees(
    model: Any,
    trees: Sequence[Tree],
    names: Sequence[str],
    *,
    mean_all: bool = False,
    layout: Layout = "auto",
    pack_tokens: int = 512,
    progress: Callable[[int], None] = lambda done: None,
) -> AnswerScores:
    """Score every answer of every tokenised prompt under a causal language model.

    Args:
        model: a Hugging Face causal model (or PEFT model) in evaluation mode.
        trees: the prompts.
        names: how messages name them.
        mean_all: also score the prefix, which costs the output layer at every position.
        layout: "packed", "padded" (length-sorted rows with padding at the right), or "auto": packed where the model
            takes a tree mask and agrees with padded rows on the first prompts.
        pack_tokens: tokens of one forward pass; a longer prompt gets a pass of its own.
        progress: called with the number of prompts done.

    Raises:
        UserError: a prompt is longer than the model's context (never truncated), or packing was asked for and the model
            does not support it.
    """
    limit = context_limit(model)
    for tree, name in zip(trees, names, strict=True):
        if limit is not None and tree.longest > limit:
            raise UserError(
                f"{name} has {tree.longest} tokens and the model's context {limit}: use fewer worked examples."
            )
    firsts = [1 if mean_all else tree.start for tree in trees]
    order = np.argsort([-tree.inputs for tree in trees], kind="stable")
    if layout == "auto":
        layout = _choose(model, [trees[i] for i in order[-4:]])
    elif layout == "packed" and not _takes_masks(model):
        raise UserError(f"{type(model).__name__} takes no tree mask and position numbers; use the padded layout.")
    run = _packed if layout == "packed" else _padded
    found: list[list[np.ndarray]] = [[] for _ in trees]
    done = 0
    for group in _groups(order, trees, pack_tokens):
        for index, values in zip(group, run(model, [trees[i] for i in group], [firsts[i] for i in group]), strict=True):
            found[index] = values
        done += len(group)
        progress(done)
    return _summary(trees, firsts, found, mean_all, layout)


def _groups(order: np.ndarray, trees: Sequence[Tree], budget: int) -> list[list[int]]:
    """Fill rows of `budget` tokens, longest prompts first; a prompt goes into the first row with room (first fit)."""
    groups: list[list[int]] = []
    room: list[int] = []
    for index in map(int, order):
        need = trees[index].inputs
        place = next((i for i in range(max(0, len(room) - 64), len(room)) if room[i] >= need), None)
        if place is None:
            groups.append([])
            room.append(budget)
            place = len(room) - 1
        groups[place].append(index)
        room[place] -= need
    return groups


def _choose(model: Any, sample: list[Tree]) -> Literal["packed", "padded"]:
    """Packed where that gives what padded rows give."""
    import torch

    if not _takes_masks(model):
        return "padded"
    firsts = [tree.start for tree in sample]
    try:
        one, two = (run(model, sample, firsts) for run in (_packed, _padded))
    except (TypeError, ValueError, RuntimeError):
        return "padded"
    tolerance = 1e-3 if next(model.parameters()).dtype == torch.float32 else 0.1
    pairs = zip((v for values in one for v in values), (v for values in two for v in values), strict=True)
    return "packed" if all(np.allclose(a, b, atol=tolerance, equal_nan=True) for a, b in pairs) else "padded"


def _takes_masks(model: Any) -> bool:
    core = model.get_base_model() if hasattr(model, "get_base_model") else model
    accepted = inspect.signature(core.forward).parameters
    flash = "flash" in str(getattr(core.config, "_attn_implementation", ""))
    return "position_ids" in accepted and "logits_to_keep" in accepted and not flash


def _packed(model: Any, trees: Sequence[Tree], firsts: Sequence[int]) -> list[list[np.ndarray]]:
    """Log-likelihoods of the tokens from position `firsts` on, by tree and branch, from one row with a tree mask."""
    import torch

    ids: list[int] = []
    positions: list[int] = []
    owner: list[int] = []
    branch_of: list[int] = []
    wanted: list[tuple[list[int], list[int]]] = []  # per tree and branch: rows that predict, tokens predicted
    for number, (tree, first) in enumerate(zip(trees, firsts, strict=True)):
        base, trunk = len(ids), len(tree.trunk)
        ids += tree.trunk
        positions += range(trunk)
        owner += [number] * trunk
        branch_of += [-1] * trunk
        for which, branch in enumerate(tree.branches):
            begin = len(ids)
            ids += branch[:-1]
            positions += range(trunk, trunk + len(branch) - 1)
            owner += [number] * (len(branch) - 1)
            branch_of += [which] * (len(branch) - 1)
            text = tree.trunk + branch
            rows = [base + p - 1 if p <= trunk else begin + p - 1 - trunk for p in range(first, len(text))]
            wanted.append((rows, list(text[first:])))
    device, dtype = model.device, next(model.parameters()).dtype
    owners, branches, place = (torch.tensor(values, device=device) for values in (owner, branch_of, positions))
    seen = (owners[:, None] == owners) & (place <= place[:, None])
    seen &= (branches == -1) | (branches == branches[:, None])
    mask = torch.zeros(seen.shape, dtype=dtype, device=device).masked_fill_(~seen, torch.finfo(dtype).min)
    keep = sorted({row for rows, _ in wanted for row in rows})
    where = {row: i for i, row in enumerate(keep)}
    with torch.no_grad():
        logits = model(
            input_ids=torch.tensor([ids], device=device),
            attention_mask=mask[None, None],
            position_ids=place[None],
            logits_to_keep=torch.tensor(keep, device=device),
            use_cache=False,
        ).logits[0]
    scores = torch.log_softmax(logits.float(), dim=-1)
    rows = torch.tensor([where[row] for some, _ in wanted for row in some], device=device)
    tokens = torch.tensor([token for _, some in wanted for token in some], device=device)
    values = scores[rows, tokens].double().cpu().numpy()
    cuts = np.cumsum([len(some) for some, _ in wanted])[:-1]
    return _by_tree(np.split(values, cuts), trees)


def _padded(model: Any, trees: Sequence[Tree], firsts: Sequence[int]) -> list[list[np.ndarray]]:
    """The same from one row a text, padded at the right, where a causal model cannot see it."""
    import torch

    texts = [
        (tree.trunk + branch, first) for tree, first in zip(trees, firsts, strict=True) for branch in tree.branches
    ]
    width = max(len(text) for text, _ in texts) - 1
    ids = torch.zeros((len(texts), width), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, (text, _) in enumerate(texts):
        ids[row, : len(text) - 1] = torch.tensor(text[:-1])
        mask[row, : len(text) - 1] = 1
    with torch.no_grad():
        logits = model(input_ids=ids.to(model.device), attention_mask=mask.to(model.device)).logits
    values = []
    for row, (text, first) in enumerate(texts):
        scores = torch.log_softmax(logits[row, first - 1 : len(text) - 1].float(), dim=-1)
        tokens = torch.tensor(text[first:], device=scores.device)
        values.append(scores.gather(1, tokens[:, None])[:, 0].double().cpu().numpy())
    return _by_tree(values, trees)


def _by_tree(values: Sequence[np.ndarray], trees: Sequence[Tree]) -> list[list[np.ndarray]]:
    left = iter(values)
    return [[next(left) for _ in tree.branches] for tree in trees]


def _summary(
    trees: Sequence[Tree], firsts: Sequence[int], found: list[list[np.ndarray]], mean_all: bool, layout: str
) -> AnswerScores:
    shape = (len(trees), max((len(tree.branches) for tree in trees), default=0))
    total, last, mean = np.full((3, *shape), np.nan)
    tokens = np.zeros(shape, dtype=np.int64)
    for i, (tree, first, values) in enumerate(zip(trees, firsts, found, strict=True)):
        for j, scores in enumerate(values):
            tokens[i, j] = len(tree.trunk) + len(tree.branches[j]) - tree.start
            if np.isfinite(scores).all():
                total[i, j], last[i, j], mean[i, j] = scores[tree.start - first :].sum(), scores[-1], scores.mean()
    return AnswerScores(total, last, mean if mean_all else None, tokens, layout)
