"""What explorers are paid: disagreement, and in a cascade the diversity of where they end."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from cascade_explore.config import Cascade, InfoGain, LogDet, NearestNeighbours, Variance
from cascade_explore.explore import diversity as measures
from cascade_explore.explore.imagination import Imagined
from cascade_explore.world.losses import disagreement
from cascade_explore.world.model import World

__all__ = ["Scales", "combine", "diversity_of", "make_reward", "start_scales", "track"]


class Scales(NamedTuple):
    """Running means of both terms' sizes, with their total weight (1 after infinitely many updates).

    Attributes:
        disagreement: sum of weighted means.
        diversity: likewise, over the agents after the first.
        weight: of the sums.
    """

    disagreement: Array
    diversity: Array
    weight: Array


def start_scales() -> Scales:
    """Return scales that have seen nothing."""
    return Scales(jnp.zeros(()), jnp.zeros(()), jnp.zeros(()))


def track(scales: Scales, curious: Array, diverse: Array, *, decay: float = 0.99) -> Scales:
    """Return the scales after one more batch. The first agent's diversity is 0 by definition and not counted."""
    later = diverse[1:] if len(diverse) > 1 else diverse
    sizes = Scales(jnp.abs(curious).mean(), jnp.abs(later).mean(), jnp.ones(()))
    return jax.tree.map(lambda old, new: decay * old + (1.0 - decay) * jax.lax.stop_gradient(new), scales, sizes)


def combine(curious: Array, diverse: Array, *, share: float, scales: Scales | None) -> Array:
    """Return the reward of every transition, `[H, B, S]`.

    `(1 - λ) disagreement_t`, and λ times the diversity on the transition into the last state, which returns count
    (`lambda_returns`). With scales both terms are divided by their running means, and diversity is multiplied by H, so
    that λ is the share of an imagined sequence's reward that diversity makes up. Without: the raw terms.

    Args:
        curious: disagreement, `[H, B, S]`.
        diverse: diversity of final states, `[B, S]`.
        share: λ.
        scales: the running means, or None.
    """
    if scales is not None:
        curious = curious / jnp.maximum(scales.disagreement / scales.weight, 1e-8)
        diverse = len(curious) * diverse / jnp.maximum(scales.diversity / scales.weight, 1e-8)
    return ((1.0 - share) * curious).at[-1].add(share * diverse)


def diversity_of(seen: Imagined, predicted: Array, kind: Variance | NearestNeighbours | LogDet | InfoGain) -> Array:
    """Return the diversity of final states by the estimator that settings name, `[B, S]`.

    Args:
        seen: imagined sequences.
        predicted: the ensemble's predictions along them, `[K, H, B, S, D]`.
        kind: the estimator.
    """
    if isinstance(kind, NearestNeighbours):
        return measures.nearest(seen.h[-1], k=kind.k, pool=kind.pool)
    if isinstance(kind, Variance):
        spread = measures.variance(seen.h[-1])
        return measures.marginal_gains(spread) if kind.marginal else spread
    if isinstance(kind, LogDet):
        kernel = measures.gram(seen.h[-1] - jax.lax.stop_gradient(seen.h[0]))
    else:
        kernel = measures.ensemble_kernel(predicted[:, -1])
    gains = measures.conditional_gains(*kernel, sigma=kind.sigma)
    if kind.marginal:
        return gains
    before = jnp.cumsum(jax.lax.stop_gradient(gains), 0) - jax.lax.stop_gradient(gains)
    return before + gains


def make_reward(world: World, ensemble: Any, scales: Scales, explorer: Any) -> Any:
    """Return what the explorers of some settings are paid: imagined sequences -> reward, metrics with new scales.

    A cascade is normalised by its own running means; plain disagreement is divided by its running mean as well, so that
    the weight of the entropy means the same in all methods (not where a cascade is raw).
    """

    def reward(seen: Imagined) -> tuple[Array, dict[str, Any]]:
        predicted = world.predict(ensemble, seen.feat[:-1], seen.action)
        curious = disagreement(predicted)
        cascade = isinstance(explorer, Cascade)
        diverse = diversity_of(seen, predicted, explorer.diversity) if cascade else jnp.zeros(curious.shape[1:])
        after = track(scales, curious, diverse)
        raw = cascade and explorer.scale == "raw"
        share = explorer.share if cascade else 0.0
        paid = combine(curious, diverse, share=share, scales=None if raw else after)
        shown = {"disagreement": curious.mean(), "diversity": diverse.mean(), "scales": after}
        return paid, shown

    return reward
