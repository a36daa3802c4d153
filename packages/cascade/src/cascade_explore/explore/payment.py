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
from cascade_explore.world.nets import block_by_block

__all__ = ["Scales", "combine", "diversity_of", "make_reward", "start_scales", "track"]


class Scales(NamedTuple):
    """Running means of both terms, with their total weight (1 after infinitely many updates).

    Attributes:
        disagreement: sum of weighted means, for each agent `[B]`.
        diversity: likewise; the size of a term is its mean over agents.
        weight: of the sums.
    """

    disagreement: Array
    diversity: Array
    weight: Array


def start_scales(agents: int) -> Scales:
    """Return scales that have seen nothing."""
    return Scales(jnp.zeros(agents), jnp.zeros(agents), jnp.zeros(()))


def track(scales: Scales, curious: Array, diverse: Array, *, decay: float = 0.99) -> Scales:
    """Return the scales after one more batch."""
    means = Scales(curious.mean((0, 2)), diverse.mean(1), jnp.ones(()))
    return jax.tree.map(lambda old, new: decay * old + (1.0 - decay) * jax.lax.stop_gradient(new), scales, means)


def combine(curious: Array, diverse: Array, *, share: float, scales: Scales | None) -> Array:
    """Return the reward of every transition, `[H, B, S]`.

    `(1 - λ) disagreement_t`, and λ times the diversity on the transition into the last state, which returns count
    (`lambda_returns`). With scales both terms are divided by their running sizes, and diversity is multiplied by H, so
    that λ is the share of an imagined sequence's reward that diversity makes up. Then each agent's running mean is
    subtracted from each of its terms: rewards around 0 have returns around 0, while the returns of rewards around 1 are
    1 / (1 - γ) at every state, and a critic spends thousands of updates on learning that constant (reward centring,
    Naik et al. 2024). The end of an episode is then worth what a state is worth on average. Without scales: the raw
    terms.

    Args:
        curious: disagreement, `[H, B, S]`.
        diverse: diversity of final states, `[B, S]`.
        share: λ.
        scales: the running means, or None.
    """
    if scales is not None:
        known, apart = scales.disagreement / scales.weight, scales.diversity / scales.weight  # [B]
        later = apart[1:] if len(apart) > 1 else apart  # the first agent's diversity is 0 by definition
        curious = (curious - known[:, None]) / jnp.maximum(known.mean(), 1e-8)
        diverse = len(curious) * (diverse - apart[:, None]) / jnp.maximum(jnp.abs(later).mean(), 1e-8)
    return ((1.0 - share) * curious).at[-1].add(share * diverse)


def diversity_of(seen: Imagined, predicted: Array, kind: Variance | NearestNeighbours | LogDet | InfoGain) -> Array:
    """Return the diversity of final states by the estimator that settings name, `[B, S]`.

    Args:
        seen: imagined sequences.
        predicted: the ensemble's predictions of the last transition, `[K, B, S, D]`.
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
        kernel = measures.ensemble_kernel(predicted)
    gains = measures.conditional_gains(*kernel, sigma=kind.sigma)
    if kind.marginal:
        return gains
    before = jnp.cumsum(jax.lax.stop_gradient(gains), 0) - jax.lax.stop_gradient(gains)
    return before + gains


def make_reward(world: World, ensemble: Any, scales: Scales, explorer: Any) -> Any:
    """Return what the explorers of some settings are paid: imagined sequences -> reward, metrics with new scales.

    Plain disagreement is normalised and centred as a cascade's terms are, so that the weight of the entropy means the
    same in all methods (not where a cascade is raw).
    """

    def reward(seen: Imagined) -> tuple[Array, dict[str, Any]]:
        curious = block_by_block(lambda *row: disagreement(world.predict(ensemble, *row)), seen.feat[:-1], seen.action)
        cascade, diverse = isinstance(explorer, Cascade), jnp.zeros(curious.shape[1:])
        if cascade:  # once more for the last step, so that no other prediction is kept
            predicted = world.predict(ensemble, seen.feat[-2], seen.action[-1])
            diverse = diversity_of(seen, predicted, explorer.diversity)
        after = track(scales, curious, diverse)
        raw = cascade and explorer.scale == "raw"
        share = explorer.share if cascade else 0.0
        paid = combine(curious, diverse, share=share, scales=None if raw else after)
        shown = {"imagined": curious.mean(), "diversity": diverse.mean(), "scales": after}
        return paid, shown

    return reward
