"""Distinct n-grams and their expectation-adjusted form, for many sets of outputs at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["NgramCounts", "count_ngrams", "distinct", "ead", "words_of"]

#: The vocabulary size of the original code, GPT-2's, whatever the words are.
VOCABULARY = 50257
ORDERS = 5


def words_of(text: str) -> list[str]:
    """Return the words by the original's rule: no full stops or newlines, split at single spaces, case kept."""
    return [word for word in text.replace(".", "").replace("\n", "").split(" ") if word]


@dataclass(frozen=True)
class NgramCounts:
    """Counts of n-grams for n = 1 ... N in every set, int64 [sets, N].

    Attributes:
        unique: different n-grams.
        total: all n-grams.
    """

    unique: np.ndarray
    total: np.ndarray


def count_ngrams(sets: Sequence[Sequence[str]], *, orders: int = ORDERS) -> NgramCounts:
    """Count the n-grams of sets of texts; n-grams lie within a text and are pooled over its set."""
    unique, total = np.zeros((2, len(sets), orders), dtype=np.int64)
    for number, texts in enumerate(sets):
        words = [words_of(text) for text in texts]
        for n in range(1, orders + 1):
            found: set[tuple[str, ...]] = set()
            for text in words:
                found.update(zip(*(text[i:] for i in range(n)), strict=False))  # as long as the shortest, the last
                total[number, n - 1] += max(0, len(text) - n + 1)
            unique[number, n - 1] = len(found)
    return NgramCounts(unique, total)


def distinct(counts: NgramCounts, *, skip_undefined: bool = False) -> np.ndarray:
    """Return unique / total n-grams averaged over the orders, float [sets].

    Args:
        counts: from `count_ngrams`.
        skip_undefined: leave out orders for which no text is long enough; the original counts them as 0.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        return _averaged(counts.unique / counts.total, counts.total, skip_undefined)


def ead(counts: NgramCounts, *, vocabulary: int = VOCABULARY, skip_undefined: bool = False) -> np.ndarray:
    """Return expectation-adjusted distinct n-grams averaged over the orders, float [sets].

    EAD_n = N / (V (1 - ((V - 1) / V)^C)) with N unique among C n-grams and V words: the share of the number expected
    if all words were equally likely (Liu et al. 2022). It does not fall merely because outputs are longer.

    Args:
        counts: from `count_ngrams`.
        vocabulary: V; the original uses 50257 always.
        skip_undefined: as in `distinct`.
    """
    expected = -vocabulary * np.expm1(counts.total * np.log1p(-1 / vocabulary))
    with np.errstate(invalid="ignore", divide="ignore"):
        return _averaged(counts.unique / expected, counts.total, skip_undefined)


def _averaged(values: np.ndarray, total: np.ndarray, skip_undefined: bool) -> np.ndarray:
    values = np.where(total > 0, values, 0.0)
    orders = (total > 0).sum(axis=1) if skip_undefined else np.full(len(total), total.shape[1])
    with np.errstate(invalid="ignore"):
        return values.sum(axis=1) / orders
