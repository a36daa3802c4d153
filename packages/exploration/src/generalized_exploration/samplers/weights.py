"""Scores to probabilities over the n slots of a buffer (Jiang, Grefenstette and Rocktaeschel 2021, section 3).

NumPy or JAX, [n] in and [n] out. Empty slots (`valid` False) have probability 0. A score that is not a number ranks
below every number. All-zero weights fall back to the uniform distribution over the valid slots; with no valid slot
everything is 0.
"""

from __future__ import annotations

from typing import Any, Literal

from generalized_exploration.criteria.evidence import namespace

__all__ = ["Prioritization", "mix", "proportional", "rank", "score_weights", "staleness", "top_k_softmax"]

Prioritization = Literal["rank", "proportional", "greedy"]


def _ordered_key(scores: Any, valid: Any) -> Any:
    xp = namespace(scores, valid)
    lowest = xp.finfo(xp.asarray(scores).dtype).min
    clean = xp.where(xp.isnan(scores), lowest, xp.clip(scores, lowest, -lowest))
    return xp.where(valid, clean, -xp.inf)


def order(scores: Any, valid: Any) -> Any:
    """Return slots [n] from the highest score to the lowest; among equals the lower comes first, empty slots last."""
    xp = namespace(scores, valid)
    return xp.argsort(-_ordered_key(scores, valid), stable=True)


def ranks(scores: Any, valid: Any) -> Any:
    """1 for the highest score, 2 for the next ...; among equals the lower slot comes first, empty slots last."""
    xp = namespace(scores, valid)
    slots = order(scores, valid)
    places = xp.arange(1, slots.shape[0] + 1)
    if hasattr(slots, "at"):
        return places.at[slots].set(places)
    found = xp.empty_like(places)
    found[slots] = places
    return found


def _normalised(weights: Any, valid: Any) -> Any:
    xp = namespace(weights, valid)
    weights = xp.where(valid, weights, 0.0)
    total = xp.sum(weights)
    flat = xp.where(valid, 1.0, 0.0) / xp.maximum(xp.sum(valid), 1)
    return xp.where(total > 0, weights / xp.where(total > 0, total, 1.0), flat)


def rank(scores: Any, valid: Any, *, temperature: float) -> Any:
    """H = (1 / rank)^(1 / temperature), normalised (eq. 2). Unchanged by any increasing map of the scores.

    As the temperature falls to 0 it becomes greedy, as it grows uniform.
    """
    xp = namespace(scores, valid)
    # In logarithms: rank 1 has weight 1 at any temperature, so nothing overflows.
    return _normalised(xp.exp(-xp.log(1.0 * ranks(scores, valid)) / temperature), valid)


def proportional(scores: Any, valid: Any, *, temperature: float) -> Any:
    """H = max(score, 0)^(1 / temperature), normalised."""
    xp = namespace(scores, valid)
    positive = xp.where(valid & (scores > 0), scores, 0.0)
    # Relative to the largest, so that a small temperature does not overflow.
    return _normalised((positive / xp.maximum(xp.max(positive), 1e-30)) ** (1.0 / temperature), valid)


def greedy(scores: Any, valid: Any) -> Any:
    """All on the highest score, the lower slot among equals."""
    xp = namespace(scores, valid)
    return _normalised(xp.where(ranks(scores, valid) == 1, 1.0, 0.0), valid)


def top_k_softmax(scores: Any, valid: Any, *, k: int, temperature: float = 1.0) -> Any:
    """Softmax of score / temperature over the k highest."""
    xp = namespace(scores, valid)
    key, among = _ordered_key(scores, valid), valid & (ranks(scores, valid) <= k)
    top = xp.max(key)
    scaled = xp.where(among, (key - xp.where(xp.isfinite(top), top, 0.0)) / temperature, -xp.inf)
    return _normalised(xp.exp(scaled), valid)


def score_weights(scores: Any, valid: Any, *, prioritization: Prioritization = "rank", temperature: float = 1.0) -> Any:
    """P_S by the name of the prioritization."""
    if prioritization == "greedy":
        return greedy(scores, valid)
    return (rank if prioritization == "rank" else proportional)(scores, valid, temperature=temperature)


def staleness(clock: Any, last_visit: Any, valid: Any) -> Any:
    """P_C proportional to clock - last visit (eq. 3); uniform where nothing is stale."""
    xp = namespace(last_visit, valid)
    return _normalised(xp.asarray(clock - last_visit, dtype=xp.float32), valid)


def mix(p_score: Any, p_stale: Any, *, rho: float) -> Any:
    """(1 - rho) P_S + rho P_C (eq. 4)."""
    return (1.0 - rho) * p_score + rho * p_stale
