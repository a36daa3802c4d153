"""Distinct n-grams and their expectation-adjusted form, for many sets of outputs at once."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

__all__ = ["NgramCounts", "count_ngrams", "distinct", "ead", "word_counts", "words_of"]

#: The vocabulary size of the original code, GPT-2's, whatever the words are.
VOCABULARY = 50257
ORDERS = 5
#: An odd multiplier of the words' hashes (2^64 over the golden ratio); characters and words that are handled at once.
MULTIPLIER = 0x9E3779B97F4A7C15
CHARACTERS, WORDS = 2**22, 2**17


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
    """Count the n-grams of sets of texts; n-grams lie within a text and are pooled over its set.

    Words become 64-bit numbers by array operations over all texts at once, and then their ranks within the set; an
    n-gram is the number of its ranks' digits, so that what differs in a sorted row is what differs in the set. Sets of
    similar size share a pass.
    """
    numbers, lengths = _hashes([text for texts in sets for text in texts])
    owner = np.repeat(np.arange(len(sets)), [len(texts) for texts in sets])
    words = np.bincount(owner, weights=lengths, minlength=len(sets)).astype(np.int64)
    total = [np.bincount(owner, weights=np.maximum(lengths - n, 0), minlength=len(sets)) for n in range(orders)]
    ends = np.repeat(lengths.cumsum(), lengths)
    following = ends - np.arange(len(numbers))  # words of the text from here on
    first = words.cumsum() - words
    unique = np.zeros((len(sets), orders), dtype=np.int64)
    pending = np.argsort(words, kind="stable")
    pending = pending[words[pending] > 0]
    while len(pending):
        widths = words[pending]
        number = max(1, int((widths * np.arange(1, len(widths) + 1) <= WORDS).sum()))
        chosen, pending = pending[:number], pending[number:]
        columns = np.arange(words[chosen[-1]])
        filled = columns < words[chosen, None]
        place = np.where(filled, first[chosen, None] + columns, 0)
        unique[chosen] = _unique(numbers[place], np.where(filled, following[place], 0), orders)
    return NgramCounts(unique, np.stack(total, axis=1).astype(np.int64))


def word_counts(texts: Sequence[str]) -> np.ndarray:
    """Return the number of words of every text, int64 [texts]."""
    return _hashes(texts)[1]


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


def _hashes(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return (64-bit hash of every word of all texts, words of every text), by the rule of `words_of`.

    Two of a million different words share a hash with probability below 1e-7.
    """
    texts = [text.replace("\n", "").replace(".", "") for text in texts]
    sizes = np.cumsum([len(text) for text in texts])
    cuts = [0, *np.unique(np.searchsorted(sizes, np.arange(CHARACTERS, sum(sizes[-1:]), CHARACTERS)) + 1), len(texts)]
    parts = [_hashes_of_part(texts[low:high]) for low, high in itertools.pairwise(cuts) if high > low]
    empty = np.zeros(0, dtype=np.uint64), np.zeros(0, dtype=np.int64)
    return np.concatenate([empty[0], *(p[0] for p in parts)]), np.concatenate([empty[1], *(p[1] for p in parts)])


def _hashes_of_part(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return the same of one or more texts without newlines: polynomials in the bytes, read off prefix sums."""
    data = np.frombuffer("\n".join(texts).encode("utf-8", "surrogatepass"), dtype=np.uint8)
    newline = data == ord("\n")
    edges = np.flatnonzero(np.diff((data == ord(" ")) | newline, prepend=True, append=True))
    starts, ends = edges[::2], edges[1::2]
    powers, inverses = _powers(1 << len(data).bit_length())
    sums = np.zeros(len(data) + 1, dtype=np.uint64)
    np.cumsum(data * powers[: len(data)], out=sums[1:])
    lengths = np.diff(np.searchsorted(starts, np.flatnonzero(newline)), prepend=0, append=len(starts))
    return (sums[ends] - sums[starts]) * inverses[starts], lengths


@cache
def _powers(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the first powers of the multiplier and of its inverse modulo 2^64, uint64."""
    factors = (MULTIPLIER, pow(MULTIPLIER, -1, 2**64))
    return tuple(np.cumprod(np.array([1, *[f] * (number - 1)], dtype=np.uint64)) for f in factors)  # ty: ignore


def _unique(words: np.ndarray, following: np.ndarray, orders: int) -> np.ndarray:
    """Return the number of different n-grams of every row for n = 1 ... orders, int64 [rows, orders].

    Args:
        words: uint64 [rows, places].
        following: how many words the text at this place still has, 0 in what pads the row.
        orders: the largest n.
    """
    digits = _ranks(words)
    base = key_base = int(digits.max()) + 1
    keys, found = digits, []
    for n in range(1, orders + 1):
        if n > 1:
            if key_base * base >= 2**62:  # too many digits: the ranks of the keys do as well
                keys = _ranks(keys)
                key_base = int(keys.max()) + 1
            keys, key_base = keys[:, :-1] * base + digits[:, n - 1 :], key_base * base
        if not keys.shape[1]:
            found.append(np.zeros(len(words), dtype=np.int64))
            continue
        row = np.sort(np.where(following[:, : keys.shape[1]] >= n, keys, -1), axis=1)
        found.append((row[:, 1:] != row[:, :-1]).sum(1) + (row[:, 0] >= 0))  # the step from -1 counts the smallest key
    return np.stack(found, axis=1)


def _ranks(values: np.ndarray) -> np.ndarray:
    """Return every value's place among the different values of its row, int64 from 0."""
    order = np.argsort(values, axis=1)
    row = np.take_along_axis(values, order, axis=1)
    place = np.zeros(values.shape, dtype=np.int64)
    np.cumsum(row[:, 1:] != row[:, :-1], axis=1, out=place[:, 1:])
    found = np.empty_like(place)
    np.put_along_axis(found, order, place, axis=1)
    return found
