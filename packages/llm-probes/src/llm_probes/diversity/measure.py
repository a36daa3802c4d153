"""All metrics of one policy's generations, per input and across inputs, with intervals."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from llm_probes.diversity.embedders import Embedder, TextEncoder
from llm_probes.diversity.ngrams import ORDERS, VOCABULARY, count_ngrams, distinct, ead, word_counts
from llm_probes.diversity.similarity import Judge, cosine_diversity, nli_diversity, vendi
from paperloop.errors import UserError

#: White space that does not separate words.
OTHER_SPACE = re.compile(r"[^\S \n]")

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

    Raises:
        UserError: there is no output, or inputs have different numbers of them.
    """
    numbers = {len(texts) for texts in sets}
    if len(numbers) != 1 or 0 in numbers:
        raise UserError(f"every input needs the same number of outputs, one or more; here are {sorted(numbers)}.")
    inputs, outputs = len(sets), len(sets[0])
    texts = [text for outputs in sets for text in outputs]
    words = word_counts(texts)
    lengths = words.reshape(inputs, outputs).mean(axis=1)
    across = [texts[k::outputs] for k in range(outputs)]
    found: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    own, other = count_ngrams(sets), count_ngrams(across)
    options = {"skip_undefined": skip_undefined}
    found["distinct"] = distinct(own, **options), distinct(other, **options)
    found["ead"] = ead(own, vocabulary=vocabulary, **options), ead(other, vocabulary=vocabulary, **options)
    warnings = _warnings(texts, words)
    if (most := int(max(own.unique[:, 0].max(), other.unique[:, 0].max()))) > vocabulary:
        warnings.append(
            f"a set has {most} different words, more than EAD's vocabulary of {vocabulary}: EAD is too large"
        )
    if embed is not None:
        vectors = np.asarray(embed(texts), dtype=np.float64)
        vectors = vectors.reshape(inputs, outputs, -1)
        turned = vectors.transpose(1, 0, 2)
        found["cosine"] = cosine_diversity(vectors), cosine_diversity(turned)
        found["vendi"] = np.array([vendi(v) for v in vectors]), np.array([vendi(v) for v in turned])
        if zero := int((np.linalg.norm(vectors, axis=-1) == 0).sum()):
            warnings.append(f"{zero} embeddings have length 0: their sets have no cosine or Vendi diversity")
        if isinstance(embed, TextEncoder) and (cut := embed.cut(texts)):
            share = f"{cut} of {len(texts)} outputs ({100 * cut / len(texts):.1f} %)"
            warnings.append(f"{share} have more than the embedder's {embed.limit} tokens: their ends do not count")
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


def _warnings(texts: Sequence[str], words: np.ndarray) -> list[str]:
    joined = sum(OTHER_SPACE.search(text) is not None for text in texts)
    counts = [
        (int((words == 0).sum()), "are empty"),
        (int(((words > 0) & (words < ORDERS)).sum()), f"have fewer than {ORDERS} words, so some n-grams do not exist"),
        (joined, "have tabs or other white space that does not separate words by the original's rule"),
    ]
    return [f"{count} of {len(words)} outputs {what}" for count, what in counts if count]


def _plain(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None
