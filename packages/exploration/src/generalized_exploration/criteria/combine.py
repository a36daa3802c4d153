"""Criteria out of criteria: sums of ranks, products, filters.

Scores of different criteria have different units, so they are not added: ranks are.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from generalized_exploration.criteria.catalogue import Criterion
from generalized_exploration.criteria.evidence import Evidence, namespace
from paperloop.errors import UserError

__all__ = ["filtered", "product", "quantile_ranks", "weighted_ranks"]


def quantile_ranks(scores: Any) -> Any:
    """Share of the others that an item beats, ties counted half: [n] -> [n], in [0, 1].

    The same under any increasing map of the scores. A score that is not a number beats nothing.
    """
    xp = namespace(scores)
    scores = xp.where(xp.isnan(scores), -xp.inf, scores)
    ordered = xp.sort(scores)
    below = xp.searchsorted(ordered, scores, side="left")
    upto = xp.searchsorted(ordered, scores, side="right")
    return (below + upto - 1) / 2.0 / max(scores.shape[0] - 1, 1)


def weighted_ranks(parts: Mapping[Criterion, float]) -> Criterion:
    """Return the criterion sum_i w_i rank_i.

    Raises:
        UserError: no part, or a weight that is not above 0.
    """
    if not parts or min(parts.values()) <= 0:
        raise UserError("A sum of ranks needs at least one criterion, and weights above 0.")

    def total(evidence: Evidence) -> Any:
        return sum(weight * quantile_ranks(part(evidence)) for part, weight in parts.items())

    name = " + ".join(f"{weight:g} rank({part.name})" for part, weight in parts.items())
    return _made(name, total, tuple(parts), mastered=all(part.mastered for part in parts))


def product(*parts: Criterion) -> Criterion:
    """Return the criterion prod_i max(s_i, 0): an item needs all of them.

    Raises:
        UserError: no part.
    """
    if not parts:
        raise UserError("A product needs at least one criterion.")

    def multiplied(evidence: Evidence) -> Any:
        scores = [part(evidence) for part in parts]
        xp = namespace(*scores)
        return functools.reduce(xp.multiply, [xp.maximum(score, 0.0) for score in scores])

    return _made(" x ".join(part.name for part in parts), multiplied, parts, any(part.mastered for part in parts))


def filtered(potential: Criterion, gate: Criterion, *, quantile: float) -> Criterion:
    """Return `potential` among the items whose `gate` is at or above its quantile, and -inf for the others.

    For example what is learnable among what resembles the target: `filtered(reducible_loss, grounding, quantile=.5)`.

    Raises:
        UserError: `quantile` is not in [0, 1).
    """
    if not 0 <= quantile < 1:
        raise UserError(f"quantile is {quantile}; it must be from 0 to below 1.")

    def passed(evidence: Evidence) -> Any:
        scores, level = potential(evidence), gate(evidence)
        xp = namespace(scores, level)
        return xp.where(level >= xp.quantile(level, quantile), scores, -xp.inf)

    return _made(f"{potential.name} where {gate.name} is high", passed, (potential, gate), potential.mastered)


def _made(name: str, function: Any, parts: Sequence[Criterion], mastered: bool) -> Criterion:
    needs = tuple(dict.fromkeys(need for part in parts for need in part.needs))
    return Criterion(name, function, needs, mastered, "; ".join(f"{part.name}: {part.noise}" for part in parts))
