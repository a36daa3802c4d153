"""From scores or probabilities to indices. Randomness is an argument: a NumPy generator's or a JAX key's noise."""

from __future__ import annotations

from typing import Any

import numpy as np

from generalized_exploration.criteria.catalogue import Criterion
from generalized_exploration.criteria.evidence import Evidence, namespace
from generalized_exploration.samplers.weights import order
from paperloop.errors import UserError

__all__ = ["Selector", "top_k", "without_replacement"]


def top_k(scores: Any, k: int, valid: Any = None) -> Any:
    """Indices [k] of the k highest scores, best first. Among equals the lower index; what is not a number comes last.

    Where fewer than k are valid, the rest are the lowest invalid indices: check `valid` yourself in traced code.
    """
    xp = namespace(scores)
    valid = xp.ones(scores.shape, dtype=bool) if valid is None else valid
    return order(scores, valid)[:k]


def without_replacement(uniform: Any, weights: Any, k: int) -> Any:
    """Draw k different indices, each next one with probability proportional to its weight among those left.

    By Gumbel noise: the k largest of log w_i - log(-log u_i), one sort (Kool, van Hoof and Welling 2019).

    Args:
        uniform: [n], independent uniform numbers in (0, 1).
        weights: [n], at least 0; weight 0 is drawn only when nothing else is left.
        k: how many.
    """
    xp = namespace(uniform, weights)
    tiny = xp.finfo(xp.float32).tiny
    noise = -xp.log(-xp.log(xp.clip(uniform, tiny, 1.0 - 1e-7)))
    logits = xp.where(weights > 0, xp.log(xp.where(weights > 0, weights, 1.0)) + noise, -xp.inf)
    return xp.argsort(-logits, stable=True)[:k]


class Selector:
    """Batch selection for a training loop in any framework: score a large batch, train on the best of it.

        selector = Selector(criterion("reducible_loss"), keep=32)
        chosen = selector.select(Evidence(loss=losses, reference_loss=reference[batch]))

    Items are anything that NumPy can read: its arrays, JAX's, and tensors of torch that need no gradient.
    """

    def __init__(self, criterion: Criterion, keep: int) -> None:
        if isinstance(keep, bool) or not isinstance(keep, int) or keep < 1:
            raise UserError(f"keep is {keep}; it must be an integer from 1 on.")
        self.criterion, self.keep = criterion, keep

    def select(self, evidence: Evidence, valid: Any = None) -> np.ndarray:
        """Return the indices of the `keep` highest scores, best first.

        Args:
            evidence: about n items.
            valid: bool [n], what may be chosen; None means everything.

        Raises:
            UserError: evidence is missing or not finite, or fewer items than `keep` are valid.
        """
        self.criterion(evidence)  # names what is missing first
        host = Evidence(**{name: np.asarray(value) for name, value in evidence.given().items()})
        allowed = np.ones(host.n, bool) if valid is None else np.asarray(valid, bool)
        if allowed.shape != (host.n,):
            raise UserError(f"valid has shape {allowed.shape}, and the evidence is of {host.n} items.")
        if valid is None:
            host.check_finite()
        if allowed.sum() < self.keep:
            raise UserError(f"keep is {self.keep}, and only {int(allowed.sum())} items are valid.")
        return np.asarray(top_k(np.asarray(self.criterion(host), float), self.keep, allowed))
