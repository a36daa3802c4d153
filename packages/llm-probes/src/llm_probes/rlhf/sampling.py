"""Responses from a policy, token by token, with randomness as an argument; and the best of N."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

__all__ = ["Responses", "best_of", "equal_groups", "pad_left", "response_log_probs", "sample"]


@dataclass(frozen=True)
class Responses:
    """Prompts with their responses: P prompt positions, padded at the left, then T response positions.

    Attributes:
        tokens: int64 [B, P + T]; the padding token after a response's end.
        attention: int64 [B, P + T], 0 at padding on either side.
        mask: float [B, T], 1 at the response's tokens, its end token included.
    """

    tokens: Tensor
    attention: Tensor
    mask: Tensor

    @property
    def prompt_length(self) -> int:
        """P."""
        return self.tokens.shape[1] - self.mask.shape[1]

    @property
    def responses(self) -> Tensor:
        """The response's tokens, [B, T]."""
        return self.tokens[:, self.prompt_length :]

    def take(self, rows: Tensor) -> Responses:
        """Return the chosen rows."""
        return Responses(self.tokens[rows], self.attention[rows], self.mask[rows])

    def to(self, device: Any) -> Responses:
        """Return them on a device."""
        return Responses(self.tokens.to(device), self.attention.to(device), self.mask.to(device))


def pad_left(rows: Sequence[Sequence[int]], pad: int) -> tuple[Tensor, Tensor]:
    """Return (tokens, attention), both int64 [B, longest], with padding at the left."""
    width = max(map(len, rows))
    tokens = torch.tensor([[pad] * (width - len(row)) + list(row) for row in rows])
    attention = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    return tokens, attention


@torch.no_grad()
def sample(
    model: Any,
    tokens: Tensor,
    attention: Tensor,
    *,
    length: int,
    end: int,
    pad: int,
    temperature: float = 1.0,
    generator: torch.Generator,
) -> Responses:
    """Sample a response for every prompt, up to the end token or `length` tokens.

    Args:
        model: a Hugging Face causal model.
        tokens: prompts int64 [B, P], padded at the left.
        attention: int64 [B, P].
        length: the most tokens of a response.
        end: the end token, which belongs to the response.
        pad: the token after it.
        temperature: of the softmax; 0 takes the most likely token.
        generator: all randomness; on the CPU whatever the model's device, so that runs agree between devices.
    """
    device, batch = tokens.device, len(tokens)
    going = torch.ones(batch, dtype=torch.bool, device=device)
    fed, cache, mask = tokens, DynamicCache(), []
    # The cache is filled in place; newer versions of transformers call it by a shorter name.
    name = "cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values"
    positions = (attention.cumsum(1) - 1).clamp(min=0)
    for _ in range(length):
        out = model(input_ids=fed, attention_mask=attention, position_ids=positions, use_cache=True, **{name: cache})
        logits = out.logits[:, -1].float()
        if temperature > 0:
            uniform = torch.rand((batch, logits.shape[1]), generator=generator).to(device)
            gumbel = -torch.log(-torch.log(uniform.clamp(1e-20, 1 - 1e-7)))
            chosen = (logits / temperature + gumbel).argmax(-1)  # a sample of the softmax
        else:
            chosen = logits.argmax(-1)
        mask.append(going)
        chosen = torch.where(going, chosen, pad)
        tokens = torch.cat([tokens, chosen[:, None]], dim=1)
        attention = torch.cat([attention, going[:, None].long()], dim=1)
        positions = (attention.sum(1, keepdim=True) - 1).clamp(min=0)
        going = going & (chosen != end)
        fed = chosen[:, None]
        if not going.any():
            break
    missing = length - len(mask)
    tokens = torch.nn.functional.pad(tokens, (0, missing), value=pad)
    attention = torch.nn.functional.pad(attention, (0, missing))
    return Responses(tokens, attention, torch.nn.functional.pad(torch.stack(mask, 1).float(), (0, missing)))


def response_log_probs(logits: Tensor, responses: Responses) -> Tensor:
    """Return log-probabilities of the response's tokens, float [B, T], from logits [B, T + 1 or more, vocabulary]."""
    scores = torch.log_softmax(logits[:, -responses.mask.shape[1] - 1 : -1].float(), dim=-1)
    return scores.gather(2, responses.responses[..., None])[..., 0] * responses.mask


def best_of(scores: Tensor, *, n: int, draws: int, generator: torch.Generator) -> Tensor:
    """Return indices of best-of-n winners from a pool of scored responses, int64 [inputs, draws].

    For every input, `draws` times: choose n of the pool without replacement and keep the best; the earliest of ties.
    So a pool of samples gives many best-of-n outputs, as their diversity needs.

    Args:
        scores: [inputs, pool].
        n: at most the pool's size.
        draws: winners of each input.
        generator: all randomness.
    """
    inputs, pool = scores.shape
    if n > pool:
        raise ValueError(f"the best of {n} needs a pool of at least {n} responses; it has {pool}")
    order = torch.rand((inputs, draws, pool), generator=generator).argsort(-1)[..., :n].sort(-1).values
    chosen = scores[:, None].expand(-1, draws, -1).gather(2, order)
    return order.gather(2, chosen.argmax(-1, keepdim=True))[..., 0]


def equal_groups(scores: Tensor) -> int:
    """Return in how many groups, the rows of [groups, responses], all scores are equal.

    Such a group has no best response, and no gradient where a score counts by its distance from the others'.
    """
    return int((scores == scores[:, :1]).all(1).sum())
