"""Diversity from embeddings and from entailment, without loops over pairs."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np

__all__ = ["Judge", "cosine_diversity", "nli_diversity", "unit", "vendi"]

#: (premises, hypotheses) -> (label, probability) of each pair, label in "contradiction", "neutral", "entailment".
Judge = Callable[[Sequence[str], Sequence[str]], Sequence[tuple[str, float]]]
WEIGHTS = {"contradiction": 1.0, "neutral": 0.0, "entailment": -1.0}


def unit(embeddings: np.ndarray) -> np.ndarray:
    """Return rows of length 1, float64 [n, d]; a row of length 0 becomes NaN, since it has no direction."""
    embeddings = np.asarray(embeddings, dtype=np.float64)
    norm = np.linalg.norm(embeddings, axis=-1, keepdims=True)
    return embeddings / np.where(norm > 0, norm, np.nan)


def cosine_diversity(embeddings: np.ndarray) -> np.ndarray:
    """Return 1 - the mean cosine over all pairs, float [...].

    sum_{i != j} <e_i, e_j> = |sum_i e_i|^2 - n for unit vectors, so a set costs O(n d) instead of O(n^2 d).

    Args:
        embeddings: float [..., n, d]; normalised here. NaN for fewer than two, or where one has length 0.
    """
    embeddings = np.asarray(embeddings)
    n = embeddings.shape[-2]
    if n < 2:
        return np.full(embeddings.shape[:-2], np.nan)
    norm = np.sqrt(np.einsum("...nd,...nd->...n", embeddings, embeddings))
    scale = 1 / np.where(norm > 0, norm, np.nan)
    total = (scale[..., None, :] @ embeddings)[..., 0, :]  # the sum of the unit vectors, without a copy of them
    squared = (total.astype(np.float64) ** 2).sum(axis=-1)
    return 1 - (squared - n) / (n * (n - 1))


def vendi(embeddings: np.ndarray, *, order: float = 1.0) -> float:
    """Return the Vendi score: the effective number of different outputs (Friedman & Dieng 2023).

    exp of the Rényi entropy of the eigenvalues of K / n with K the matrix of cosines. The nonzero eigenvalues are also
    those of the covariance E^T E / n, and the smaller of the two matrices is taken.

    Args:
        embeddings: float [n, d]; normalised here.
        order: of the entropy; 1 is Shannon's.
    """
    vectors = unit(embeddings)
    n, d = vectors.shape
    if n == 0 or np.isnan(vectors).any():
        return float("nan")
    values = np.linalg.eigvalsh((vectors @ vectors.T if n <= d else vectors.T @ vectors) / n)
    values = values[values > 1e-12]
    values = values / values.sum()
    if order == 1:
        return float(np.exp(-(values * np.log(values)).sum()))
    if np.isinf(order):
        return float(1 / values.max())
    return float((values**order).sum() ** (1 / (1 - order)))


def nli_diversity(outputs: Sequence[str], judge: Judge, *, cache: dict | None = None) -> tuple[float, float]:
    """Return (diversity, the value of the released code) from natural-language inference.

    A pair's value is the sum over both directions of probability times +1 for contradiction, 0 for neutral and -1 for
    entailment (Stasaski & Hearst 2022): more contradiction is more diversity. The released code of Kirk et al. takes
    that value for a similarity and reports 1 - mean, so its sign is reversed; it is given for comparison only.

    Args:
        outputs: two or more texts.
        judge: a natural-language inference model.
        cache: (premise, hypothesis) -> value, kept between calls; equal pairs are judged once.
    """
    if len(outputs) < 2:
        return float("nan"), float("nan")
    cache = {} if cache is None else cache
    pairs = list(itertools.permutations(outputs, 2))
    asked = [pair for pair in dict.fromkeys(pairs) if pair not in cache]
    if asked:
        verdicts = judge([premise for premise, _ in asked], [hypothesis for _, hypothesis in asked])
        for pair, (label, probability) in zip(asked, verdicts, strict=True):
            cache[pair] = WEIGHTS[label.lower()] * probability
    mean = sum(cache[pair] for pair in pairs) / (len(pairs) / 2)
    return mean, 1 - mean
