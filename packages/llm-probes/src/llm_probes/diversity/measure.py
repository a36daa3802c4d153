"""All metrics of one policy's generations, per input and across inputs, with intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from llm_probes.diversity.embedders import Embedder
from llm_probes.diversity.ngrams import VOCABULARY, count_ngrams, distinct, ead, words_of
from llm_probes.diversity.similarity import Judge, cosine_diversity, nli_diversity, vendi

__all__ = ["at_length", "bootstrap_mean", "measure"]


def bootstrap_mean(values: np.ndarray, *, seed: int = 0, draws: int = 2000) -> tuple[float, float]:
    """Return the 95 % percentile interval of the mean of `values` over inputs; NaN are left out."""
    values = values[np.isfinite(values)]
    if not len(values):
        return float("nan"), float("nan")
    counts = np.random.default_rng(seed).multinomial(len(values), np.full(len(values), 1 / len(values)), size=draws)
    low, high = np.percentile(counts @ values / len(values), [2.5, 97.5])
    return float(low), float(high)


def at_length(values: np.ndarray, lengths: np.ndarray, length: float) -> float:
    """Return the mean that a metric would have at outputs of `length` words, by least squares over inputs.

    Policies differ in length and every metric depends on it, so that their plain means are not compared fairly. Without
    two different lengths there is no slope: the plain mean is returned.
    """
    chosen = np.isfinite(values)
    values, lengths = values[chosen], lengths[chosen]
    if not len(values):
        return float("nan")
    spread = lengths - lengths.mean()
    if not (spread**2).sum():
        return float(values.mean())
    slope = (spread * values).sum() / (spread**2).sum()
    return float(values.mean() + slope * (length - lengths.mean()))


def measure(
    sets: Sequence[Sequence[str]],
    *,
    embed: Embedder | None = None,
    judge: Judge | None = None,
    vocabulary: int = VOCABULARY,
    skip_undefined: bool = False,
    length: float | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Return every metric of K outputs for each of N inputs.

    Per input: the metric of the K outputs of each input; mean, standard deviation and bootstrap interval over inputs.
    Across inputs: the metric of the N first outputs (the paper's value), and mean and standard deviation over the K
    sets that take the k-th output of every input.

    Args:
        sets: N lists of K texts.
        embed: texts to vectors; without it there is neither cosine nor Vendi diversity.
        judge: natural-language inference; without it there is no NLI diversity.
        vocabulary: of EAD.
        skip_undefined: see `ngrams.distinct`.
        length: words at which the length-controlled means are taken; None takes this policy's own mean length, where
            they equal the plain means.
        seed: of the bootstrap.

    Returns:
        A dictionary that JSON can hold: NaN becomes None. `warnings` lists what is undefined or odd.
    """
    inputs, outputs = len(sets), len(sets[0])
    lengths = np.array([np.mean([len(words_of(text)) for text in texts]) for texts in sets])
    across = [[texts[k] for texts in sets] for k in range(outputs)]
    found: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    own, other = count_ngrams(sets), count_ngrams(across)
    options = {"skip_undefined": skip_undefined}
    found["distinct"] = distinct(own, **options), distinct(other, **options)
    found["ead"] = ead(own, vocabulary=vocabulary, **options), ead(other, vocabulary=vocabulary, **options)
    warnings = _warnings(sets)
    if embed is not None:
        vectors = np.asarray(embed([text for texts in sets for text in texts]), dtype=np.float64)
        vectors = vectors.reshape(inputs, outputs, -1)
        turned = vectors.transpose(1, 0, 2)
        found["cosine"] = cosine_diversity(vectors), cosine_diversity(turned)
        found["vendi"] = np.array([vendi(v) for v in vectors]), np.array([vendi(v) for v in turned])
        if zero := int((np.linalg.norm(vectors, axis=-1) == 0).sum()):
            warnings.append(f"{zero} embeddings have length 0: their sets have no cosine or Vendi diversity")
    if judge is not None:
        both = [_nli(judge, texts) for texts in (sets, across[:1])]  # N^2 pairs across inputs: the first set only
        found["nli"] = both[0][0], both[1][0]
        found["nli_reference"] = both[0][1], both[1][1]
    if outputs == 1:
        warnings.append("one output per input: per-input diversity is undefined")
        found = {name: (np.full(inputs, np.nan), values) for name, (_, values) in found.items()}
    result = {
        name: {
            "per_input": _per_input(own_values, lengths, length, seed),
            "across_input": {
                "first": _plain(across_values[0] if inputs > 1 else np.nan),
                "mean": _plain(across_values.mean() if inputs > 1 else np.nan),
                "std": _plain(across_values.std() if inputs > 1 else np.nan),
            },
        }
        for name, (own_values, across_values) in found.items()
    }
    if inputs == 1:
        warnings.append("one input: across-input diversity is undefined")
    return {
        "inputs": inputs,
        "outputs": outputs,
        "words": float(lengths.mean()),
        "metrics": result,
        "warnings": warnings,
    }


def _per_input(values: np.ndarray, lengths: np.ndarray, length: float | None, seed: int) -> dict[str, Any]:
    some = values[np.isfinite(values)]
    low, high = bootstrap_mean(values, seed=seed)
    return {
        "mean": _plain(some.mean() if len(some) else np.nan),
        "std": _plain(some.std() if len(some) else np.nan),
        "interval_95": [_plain(low), _plain(high)],
        "at_length": _plain(at_length(values, lengths, lengths.mean() if length is None else length)),
        "inputs": len(some),
    }


def _nli(judge: Judge, sets: Sequence[Sequence[str]]) -> np.ndarray:
    cache: dict = {}
    return np.array([nli_diversity(texts, judge, cache=cache) for texts in sets]).T


def _warnings(sets: Sequence[Sequence[str]]) -> list[str]:
    texts = [text for outputs in sets for text in outputs]
    checks: list[tuple[str, Callable[[str], bool]]] = [
        ("are empty", lambda text: not words_of(text)),
        ("have fewer than 5 words, so that some of their n-grams do not exist", lambda t: 0 < len(words_of(t)) < 5),
    ]
    counts = [(sum(map(test, texts)), words) for words, test in checks]
    return [f"{count} of {len(texts)} outputs {words}" for count, words in counts if count]


def _plain(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None
