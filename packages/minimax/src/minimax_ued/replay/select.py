"""Distributions over the slots of a level buffer, and draws from them.

N is the number of slots, B the number of draws. Everything is pure and works under `jit` and `vmap`.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

__all__ = ["MAX_AGE", "add_ages", "draw", "draw_batch", "rank_distribution", "staleness_distribution"]

#: Ages stop here instead of wrapping round: the largest int32.
MAX_AGE = 2**31 - 1

_LOWEST = jnp.finfo(jnp.float32).min


def rank_distribution(scores: jax.Array, filled: jax.Array, *, temperature: float, ties: str = "slot") -> jax.Array:
    """P_S of prioritised level replay by rank: (1 / rank) ** (1 / temperature), normalised (Jiang et al. 2021, eq. 2).

    Rank 1 is the highest score. NaN and -inf rank below every number. Among equal scores `ties="slot"` gives the lower
    slot the better rank; `ties="share"` gives each the mean weight of the ranks they hold together, which is the
    expectation over random tie-breaking.

    Args:
        scores: f32[N].
        filled: bool[N]; empty slots get no mass.
        temperature: beta.
        ties: "slot" or "share".

    Returns:
        f32[N] that sums to 1, or all zeros where no slot is filled.
    """
    n = scores.shape[0]
    # NaN scores stay above empty slots, which must come last.
    key = jnp.where(filled, jnp.maximum(jnp.where(jnp.isnan(scores), _LOWEST, scores), _LOWEST), -jnp.inf)
    order = jnp.argsort(-key, stable=True)
    rank = jnp.arange(1, n + 1, dtype=jnp.float32)
    # log(1) = 0 is the maximum of the log weights: exp never overflows, and rank 1 never underflows.
    weight = jnp.where(filled[order], jnp.exp(-jnp.log(rank) / temperature), 0.0)
    if ties == "share":
        ordered = key[order]
        group = jnp.cumsum(jnp.concatenate([jnp.zeros(1, bool), ordered[1:] != ordered[:-1]]))
        total = jax.ops.segment_sum(weight, group, n, indices_are_sorted=True)
        count = jax.ops.segment_sum(jnp.ones(n), group, n, indices_are_sorted=True)
        weight = (total / jnp.maximum(count, 1.0))[group]
    return jnp.zeros(n, jnp.float32).at[order].set(weight / jnp.maximum(weight.sum(), 1.0))


def staleness_distribution(ages: jax.Array, filled: jax.Array, otherwise: jax.Array) -> jax.Array:
    """P_C: proportional to age, or `otherwise` (f32[N]) where every age is 0."""
    age = jnp.where(filled, ages, 0).astype(jnp.float32)
    total = age.sum()
    return jnp.where(total > 0, age / jnp.maximum(total, 1.0), otherwise)


def add_ages(ages: jax.Array, by: int | jax.Array) -> jax.Array:
    """Return ages + by (i32, by >= 0), held at `MAX_AGE` instead of overflowing."""
    by = jnp.asarray(by, jnp.int32)
    return jnp.where(ages > MAX_AGE - by, MAX_AGE, ages + by)


def draw(key: jax.Array, weights: jax.Array, shape: tuple[int, ...] = ()) -> jax.Array:
    """Draw slots (i32) with probabilities proportional to `weights` (f32[N]), with replacement.

    By inversion: one prefix sum, whatever the number of draws. A slot of weight zero is never drawn, unless all are.
    """
    upper = jnp.cumsum(weights)
    # `u * total` may round up to the total, which belongs to no slot; the largest number below it does.
    u = jnp.minimum(jax.random.uniform(key, shape) * upper[-1], jnp.nextafter(upper[-1], jnp.float32(0)))
    index = jnp.minimum(jnp.searchsorted(upper, u, side="right"), weights.shape[0] - 1)
    # A parallel prefix sum rounds differently from place to place, so that it may rise a little at a slot of weight
    # zero: what falls there belongs to the last slot before it that has a weight.
    last = jax.lax.cummax(jnp.where(weights > 0, jnp.arange(weights.shape[0]), 0))
    return last[index].astype(jnp.int32)


def draw_batch(
    key: jax.Array, score_p: jax.Array, ages: jax.Array, filled: jax.Array, batch: int, *, staleness_coef: float
) -> jax.Array:
    """Draw B slots at once, close in distribution to B draws with the ages updated between them.

    Draw by draw, the distribution is the mixture (1 - rho) P_S + rho P_C. P_S does not change between draws, so its
    share is drawn independently, with replacement. P_C changes: whatever has been drawn is stale no more. Its share is
    therefore drawn without replacement (Gumbel top-k), with each slot's age averaged over the B draws: undrawn slots
    age by one a draw, and a slot that the P_S share draws is stale only until then. With B = 1 the distribution is
    exactly P.

    Args:
        key: random key.
        score_p: P_S, f32[N].
        ages: i32[N].
        filled: bool[N].
        batch: B, at most N.
        staleness_coef: rho.

    Returns:
        i32[B] slots.
    """
    n = score_p.shape[0]
    key_kind, key_score, key_stale = jax.random.split(key, 3)
    position = jnp.arange(batch)
    by_score = draw(key_score, score_p, (batch,))
    stale = jax.random.bernoulli(key_kind, staleness_coef, (batch,))
    stale = stale.at[0].set(stale[0] & jnp.any(filled & (ages > 0)))  # all ages 0: P_C is P_S

    until = jnp.full(n, batch - 1).at[jnp.where(stale, n, by_score)].min(position, mode="drop").astype(jnp.float32)
    mean_age = jnp.where(filled, (until + 1) * (ages + until / 2) / batch, 0.0)
    noisy = jnp.where(mean_age > 0, jnp.log(mean_age) + jax.random.gumbel(key_stale, (n,)), -jnp.inf)
    stalest = jax.lax.top_k(noisy, batch)[1].astype(jnp.int32)

    # More stale draws than stale slots: go round again, as the ages of the first round would have grown back first.
    available = jnp.minimum((mean_age > 0).sum(), batch)
    turn = (jnp.cumsum(stale) - 1) % jnp.maximum(available, 1)
    return jnp.where(stale & (available > 0), stalest[turn], by_score)
