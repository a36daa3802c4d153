"""Strings for the counter, with a controlled spurious relation between two letters' counts."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from paperloop.errors import UserError

__all__ = ["Strings", "draw_strings", "majority"]


@dataclass(frozen=True)
class Strings:
    """A batch of inputs and what each letter's count is.

    Attributes:
        tokens: int64 [batch, 1 + length], BOS in front.
        counts: int64 [batch, symbols].
    """

    tokens: Tensor
    counts: Tensor


def draw_strings(
    batch: int,
    *,
    symbols: int,
    length: int,
    correlated: float | None,
    pretrained: int = 0,
    tuned: int = 1,
    shift: int = 1,
    generator: torch.Generator,
) -> Strings:
    """Draw strings of independent uniform letters, of which a share satisfies the spurious relation.

    The relation is count(tuned) = count(pretrained) + shift: a model that still counts `pretrained` and adds `shift`
    is right on strings with it and wrong on all others. Strings without it are drawn anew until they lack it, because
    natural ones satisfy it now and then by accident.

    Args:
        batch: number of strings.
        symbols: number of letters.
        length: letters of each string.
        correlated: probability that a string has the relation; None draws natural strings.
        pretrained: the letter that was counted before fine-tuning.
        tuned: the letter that is counted after it.
        shift: q of the paper.
        generator: all randomness.

    Raises:
        UserError: the probability is outside [0, 1].
    """
    if correlated is None:
        return _strings(torch.randint(symbols, (batch, length), generator=generator), symbols)
    if not 0 <= correlated <= 1:
        raise UserError(f"the share of correlated strings is {correlated}, which is outside [0, 1].")
    wanted = torch.rand(batch, generator=generator) < correlated
    letters = torch.empty((batch, length), dtype=torch.long)
    open_ = torch.ones(batch, dtype=torch.bool)
    while open_.any():
        # Several candidates for every open place; the first that fits is taken.
        places = open_.nonzero()[:, 0]
        drawn = torch.randint(symbols, (len(places), 8, length), generator=generator)
        has = (drawn == tuned).sum(-1) == (drawn == pretrained).sum(-1) + shift
        fits = has == wanted[places, None]
        found = fits.any(1)
        letters[places[found]] = drawn[found, fits[found].int().argmax(1)]
        open_[places[found]] = False
    return _strings(letters, symbols)


def majority(targets: Tensor) -> float:
    """Return the share of the commonest class in percent: what a constant answer earns."""
    return 100 * float(targets.bincount().max()) / len(targets)


def _strings(letters: Tensor, symbols: int) -> Strings:
    counts = torch.stack([(letters == letter).sum(1) for letter in range(symbols)], dim=1)
    return Strings(torch.cat([torch.zeros_like(letters[:, :1]), letters + 1], dim=1), counts)
