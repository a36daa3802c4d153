"""Policies next to one another: their responses, scores, KL, and win rates by any judge."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from llm_probes.models.loading import context_limit
from llm_probes.rlhf.data import encode_prompts
from llm_probes.rlhf.model import ScoreHead, policy_and_values, reward_scores
from llm_probes.rlhf.sampling import pad_left, response_log_probs, sample
from paperloop.errors import UserError

__all__ = ["Drawn", "Judge", "WinRate", "respond", "win_rate"]

#: (prompt, first response, second response) -> probability that the first is better; 0.5 is a tie.
Judge = Callable[[str, str, str], float]


@dataclass(frozen=True)
class WinRate:
    """How often a judge prefers a policy's responses.

    Attributes:
        rate: share of prompts won, ties half.
        error: standard error over prompts.
        first: mean probability that the judge gave to whatever came first; far from 0.5 it is biased by position.
        prompts: number of prompts.
    """

    rate: float
    error: float
    first: float
    prompts: int


def win_rate(judge: Judge, prompts: Sequence[str], ours: Sequence[str], theirs: Sequence[str], *, seed: int) -> WinRate:
    """Return how often `ours` is preferred to `theirs`, each pair in a random order that the judge cannot know.

    Raises:
        UserError: the judge gives something outside [0, 1].
    """
    swapped = np.random.default_rng(seed).random(len(prompts)) < 0.5
    first = np.array(
        [judge(p, *((b, a) if swap else (a, b))) for p, a, b, swap in zip(prompts, ours, theirs, swapped, strict=True)]
    )
    if odd := [(p, v) for p, v in zip(prompts, first, strict=True) if not 0 <= v <= 1]:
        raise UserError(f"the judge gave {odd[0][1]} for {odd[0][0][:40]!r}; a probability lies between 0 and 1.")
    won = np.where(swapped, 1 - first, first)
    error = float(won.std(ddof=1)) / math.sqrt(len(won)) if len(won) > 1 else math.nan
    return WinRate(float(won.mean()), error, float(first.mean()), len(won))


@dataclass(frozen=True)
class Drawn:
    """Responses of a policy.

    Attributes:
        texts: as many for each prompt, decoded without the end token.
        kl: log pi(y | x) - log pi_ref(y | x) of every response, whose mean is the KL (k1), float [prompts, outputs];
            0 without a reference.
        scores: a reward model's, float [prompts, outputs]; 0 without one.
    """

    texts: list[list[str]]
    kl: np.ndarray
    scores: np.ndarray


@torch.no_grad()
def respond(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[str],
    *,
    outputs: int = 1,
    length: int,
    temperature: float = 1.0,
    reference: Any = None,
    judge: tuple[Any, ScoreHead] | None = None,
    seed: int = 0,
    batch: int = 256,
    where: str = "the prompts",
    progress: Callable[[int], None] = lambda done: None,
) -> Drawn:
    """Sample `outputs` responses to each prompt; KL and scores are of the sampled tokens themselves.

    Prompts are sorted by length, so that little is padded.

    Args:
        model: the policy.
        tokenizer: its tokeniser.
        prompts: the inputs.
        outputs: responses to each.
        length: the most tokens of a response.
        temperature: of the samples; the KL is that of temperature 1.
        reference: a policy with the same tokeniser, for the KL.
        judge: a reward model with the same tokeniser, as `load_reward_model` gives it.
        seed: all randomness.
        batch: responses of one pass.
        where: how a message names the prompts.
        progress: called with the number of responses done.
    """
    limit = context_limit(model)
    encoded = encode_prompts(tokenizer, prompts, length=10**9 if limit is None else limit - length, where=where)
    end = tokenizer.eos_token_id
    pad = end if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    generator = torch.Generator().manual_seed(seed)
    head = ScoreHead(model.get_input_embeddings().weight.shape[1]).to(model.device)
    texts: list[list[str]] = [[] for _ in prompts]
    numbers = np.zeros((2, len(prompts), outputs))
    order = [i for i in sorted(range(len(prompts)), key=lambda i: len(encoded[i])) for _ in range(outputs)]
    for start in range(0, len(order), batch):
        rows = order[start : start + batch]
        tokens, attention = (x.to(model.device) for x in pad_left([encoded[i] for i in rows], pad))
        drawn = sample(
            model, tokens, attention, length=length, end=end, pad=pad, temperature=temperature, generator=generator
        )
        kl = scores = torch.zeros(len(rows))
        if reference is not None:
            own, base = (response_log_probs(policy_and_values(m, head, drawn)[0], drawn) for m in (model, reference))
            kl = (own - base).sum(1)
        if judge is not None:
            scores = reward_scores(*judge, drawn)
        columns = zip(rows, drawn.responses.tolist(), drawn.mask.tolist(), kl.tolist(), scores.tolist(), strict=True)
        for i, row, mask, *values in columns:
            numbers[:, i, len(texts[i])] = values
            texts[i].append(tokenizer.decode([t for t, real in zip(row, mask, strict=True) if real and t != end]))
        progress(start + len(rows))
    return Drawn(texts, *numbers)
