"""The level buffer of prioritised level replay (Jiang et al. 2021, arXiv 2010.03934 and 2110.02439).

A `LevelBuffer` is the rules, a `BufferState` is the content. One cycle of robust replay in its barest form:

    state = buffer.init(example_level)
    if buffer.replay_decision(key, state):
        state, indices, levels = buffer.sample(key, state, 32)
    else:
        state, indices, levels = buffer.age(state, 32), jnp.full(32, -1), fresh_levels
    scores, max_returns = score(rollout on levels)
    state = buffer.insert(state, levels, scores, max_returns, indices, n_mutations)

N is the capacity, B the size of a batch. Every method is a pure function of its arguments and works under `jit`, `vmap`
(a leading seed axis on the state) and `scan`. `LevelBuffer` is hashable, so it can be a static argument.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from minimax_ued.config import BufferConfig
from minimax_ued.replay.dedup import find_copies
from minimax_ued.replay.insertion import BufferState, Offer, insert_new, update_known
from minimax_ued.replay.select import add_ages, draw_batch, rank_distribution, staleness_distribution
from paperloop.errors import UserError, setting

__all__ = ["BufferState", "LevelBuffer"]

Level = Any


@dataclass(frozen=True)
class LevelBuffer:
    """The rules of a level buffer.

    Attributes:
        config: capacity, probabilities and so on.
        level_hash: level -> u32[2]; equal levels have equal hashes.
        same_level: (level, level) -> bool[]; the exact comparison behind an equal hash.
    """

    config: BufferConfig
    level_hash: Callable[[Level], jax.Array]
    same_level: Callable[[Level, Level], jax.Array]

    # --- content ---

    def init(self, example_level: Level) -> BufferState:
        """Return an empty buffer for levels shaped like `example_level`, which itself is not stored as a level."""
        n = self.config.capacity
        return BufferState(
            levels=jax.tree.map(lambda x: jnp.zeros((n, *jnp.shape(x)), jnp.asarray(x).dtype), example_level),
            hashes=jnp.zeros((n, 2), jnp.uint32),
            scores=jnp.full(n, -jnp.inf, jnp.float32),
            ages=jnp.zeros(n, jnp.int32),
            max_returns=jnp.full(n, -jnp.inf, jnp.float32),
            filled=jnp.zeros(n, bool),
            n_mutations=jnp.zeros(n, jnp.int32),
            invalid_scores=jnp.zeros((), jnp.int32),
        )

    # --- replay ---

    def score_weights(self, state: BufferState) -> jax.Array:
        """P_S, f32[N]: by rank of the score, with temperature beta. Zero in empty slots."""
        config = self.config
        return rank_distribution(state.scores, state.filled, temperature=config.temperature, ties=config.ties)

    def weights(self, state: BufferState) -> jax.Array:
        """The replay distribution P = (1 - rho) P_S + rho P_C, f32[N].

        P_C is proportional to age, or P_S where all ages are 0. It sums to 1; in an empty buffer it is all zeros.
        """
        p_s, rho = self.score_weights(state), self.config.staleness_coef
        return (1 - rho) * p_s + rho * staleness_distribution(state.ages, state.filled, p_s)

    def ready(self, state: BufferState) -> jax.Array:
        """Return bool[], whether `min_fill` of the slots are filled, and at least one."""
        return state.filled.sum() >= self.config.first_replay

    def replay_decision(self, key: jax.Array, state: BufferState) -> jax.Array:
        """Decide, bool[], whether to replay: with probability `replay_prob` once the buffer is `ready`.

        Never on an empty buffer, even with `min_fill` 0.
        """
        return self.ready(state) & jax.random.bernoulli(key, self.config.lot)

    def sample(self, key: jax.Array, state: BufferState, batch: int) -> tuple[BufferState, jax.Array, Level]:
        """Draw B levels to replay, all at once (`draw_batch`). A level can occur more than once in a batch.

        The reference draws one from P; all ages + 1, the drawn one's := 0; computes P again; and so on. The ages
        afterwards are those of that rule for the same draws.

        The buffer must hold a level, which `replay_decision` sees to. On an empty one the result means nothing.

        Args:
            key: random key.
            state: the buffer.
            batch: B.

        Returns:
            The buffer with new ages; slots i32[B]; their levels, leading axis B.

        Raises:
            UserError: B exceeds the capacity.
        """
        self._check_batch(batch)
        rho = self.config.staleness_coef
        indices = draw_batch(key, self.score_weights(state), state.ages, state.filled, batch, staleness_coef=rho)
        last = jnp.full(state.ages.shape, -1).at[indices].max(jnp.arange(batch))
        ages = jnp.where(last >= 0, batch - 1 - last, add_ages(state.ages, batch))
        ages = jnp.where(state.filled, ages, 0).astype(jnp.int32)
        return state.replace(ages=ages), indices, jax.tree.map(lambda x: x[indices], state.levels)

    def age(self, state: BufferState, by: int) -> BufferState:
        """Return the buffer after a step that played `by` levels, none of them from the buffer."""
        return state.replace(ages=jnp.where(state.filled, add_ages(state.ages, by), 0))

    # --- insertion ---

    def find(self, state: BufferState, levels: Level) -> jax.Array:
        """Return the slot, i32[B], where each level (leading axis B) lies in the buffer, or -1."""
        hashes = jax.vmap(self.level_hash)(levels)
        usable = jnp.ones(hashes.shape[0], bool)
        return find_copies(self.same_level, state.levels, state.hashes, state.filled, levels, hashes, usable).slot

    def seen(self, state: BufferState, levels: Level) -> jax.Array:
        """Return the highest return ever seen on each fresh level, f32[B]: -inf for those not in the buffer.

        A fresh level can equal a buffered one and will update it, so its score must know what the buffer knows.
        """
        slot = self.find(state, levels)
        return jnp.where(slot >= 0, state.max_returns[slot], -jnp.inf)

    def insert(
        self,
        state: BufferState,
        levels: Level,
        scores: jax.Array,
        max_returns: jax.Array,
        indices: jax.Array,
        n_mutations: jax.Array,
    ) -> BufferState:
        """Offer a batch of scored levels.

        A level whose score is -inf (no finished episode), NaN or +inf is left aside; the last two are counted in
        `invalid_scores`. Only the first copy in the batch counts, with the highest return of all copies, and a level
        that lies in the buffer already updates it.

        *Updates* (a slot given in `indices`, or found): the score is overwritten, even by a lower one; the stored
        maximal return becomes the larger of the two. An index whose slot no longer holds that level counts as -1. A
        level that was found, not replayed, gets age 0.

        *New levels* take free slots; when there are none, they go for the slot with the smallest P, and are inserted
        if their score is at least that slot's. They start with age 0, as in jaxued. In minimax a new level keeps the
        age of the level whose slot it takes, so that it can be stale from the start.

        P is computed once: the best new levels take the free slots, and the others, best first, are held against the
        slots in ascending order of P, until the first that is refused. The reference goes level by level and computes P
        again each time; a level that it inserts can push out one that the same batch inserted, and an update loses to a
        level that took its slot before. Both agree where there is room for all, where all are updates, and for rho = 0
        on a batch in descending order of (distinct) scores. On a full buffer the batch at once replaces more slots.

        Args:
            state: the buffer.
            levels: leading axis B.
            scores: f32[B].
            max_returns: f32[B], highest return seen on each level.
            indices: i32[B], the slot a level was replayed from, or -1.
            n_mutations: i32[B]; kept for new levels only.

        Raises:
            UserError: B exceeds the capacity, or the arrays do not agree in B.
        """
        batch = scores.shape[0]
        self._check_batch(batch)
        named = {"max_returns": max_returns, "indices": indices, "n_mutations": n_mutations}
        named |= {f"levels{jax.tree_util.keystr(p)}": x for p, x in jax.tree_util.tree_leaves_with_path(levels)}
        for name, array in named.items():
            if array.shape[:1] != (batch,):
                raise UserError(
                    f"LevelBuffer.insert got {name} of shape {array.shape}, but scores have shape ({batch},): give one "
                    "entry for each level."
                )
        offer = self._resolve(state, levels, scores, max_returns, indices, n_mutations)
        invalid = (jnp.isnan(scores) | (scores == jnp.inf)).sum()
        state = update_known(state.replace(invalid_scores=add_ages(state.invalid_scores, invalid)), offer)
        return insert_new(state, offer, self.weights(state))

    # --- logging ---

    def metrics(self, state: BufferState) -> dict[str, jax.Array]:
        """Return scalars f32[] for the log, all finite, 0 where the buffer is empty.

        `fill` (part of the slots filled), `score_mean`, `score_max`, `age_mean` over filled slots; `weighted_score`,
        `weighted_age`, `weighted_n_mutations` are expectations under P; `effective_levels` is exp of P's entropy, the
        number of equally likely levels that would be as varied; `invalid_scores` counts refused NaN and +inf scores.
        """
        p = self.weights(state)
        count = state.filled.sum()
        scores = jnp.where(state.filled, state.scores, 0.0)

        def mean(x: jax.Array) -> jax.Array:
            return jnp.where(state.filled, x, 0).sum(dtype=jnp.float32) / jnp.maximum(count, 1)

        entropy = -jnp.where(p > 0, p * jnp.log(jnp.where(p > 0, p, 1.0)), 0.0).sum()
        return {
            "fill": count / jnp.float32(self.config.capacity),
            "score_mean": mean(scores),
            "score_max": jnp.where(count > 0, jnp.max(scores, where=state.filled, initial=-jnp.inf), 0.0),
            "age_mean": mean(state.ages),
            "weighted_score": (p * scores).sum(),
            "weighted_age": (p * state.ages).sum(),
            "weighted_n_mutations": (p * state.n_mutations).sum(),
            "effective_levels": jnp.where(count > 0, jnp.exp(entropy), 0.0),
            "invalid_scores": state.invalid_scores.astype(jnp.float32),
        }

    # --- inside ---

    def _check_batch(self, batch: int) -> None:
        if not 1 <= batch <= self.config.capacity:
            raise UserError(
                f"A batch has {batch} levels, but the level buffer takes 1 to {setting('buffer.capacity')} = "
                f"{self.config.capacity}: raise the capacity or lower the number of environments."
            )

    def _resolve(
        self,
        state: BufferState,
        levels: Level,
        scores: jax.Array,
        max_returns: jax.Array,
        indices: jax.Array,
        n_mutations: jax.Array,
    ) -> Offer:
        """Find out where each level lies, and which copy of it counts."""
        batch = scores.shape[0]
        hashes = jax.vmap(self.level_hash)(levels)
        slot = jnp.clip(indices, 0, self.config.capacity - 1).astype(jnp.int32)
        still = jax.vmap(self.same_level)(levels, jax.tree.map(lambda x: x[slot], state.levels))
        replayed = (indices >= 0) & (indices < self.config.capacity) & state.filled[slot] & still
        slot = jnp.where(replayed, slot, -1)
        usable = jnp.isfinite(scores)
        copies = find_copies(self.same_level, state.levels, state.hashes, state.filled, levels, hashes, usable)
        best = jnp.full(batch, -jnp.inf, max_returns.dtype)
        max_returns = best.at[copies.first].max(jnp.where(usable, max_returns, -jnp.inf))
        usable &= copies.first == jnp.arange(batch)
        slot = jnp.where(replayed, slot, copies.slot)
        return Offer(
            levels=levels,
            hashes=hashes,
            scores=scores.astype(jnp.float32),
            max_returns=max_returns.astype(jnp.float32),
            n_mutations=n_mutations.astype(jnp.int32),
            slot=slot,
            replayed=replayed,
            usable=usable,
        )
