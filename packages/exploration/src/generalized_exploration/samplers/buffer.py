"""A buffer of items that are replayed by score and staleness: prioritised level replay, for any pytree of items."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from generalized_exploration.samplers.draws import top_k, without_replacement
from generalized_exploration.samplers.weights import Prioritization, mix, score_weights, staleness
from paperloop.errors import UserError

__all__ = ["Buffer", "BufferState"]


class BufferState(NamedTuple):
    """What a buffer holds, in n slots.

    Attributes:
        items: a pytree, [n, ...].
        scores: [n].
        last_visit: i32[n], the clock when it was last drawn or scored.
        valid: bool[n], filled.
        clock: i32, batches drawn.
    """

    items: Any
    scores: Array
    last_visit: Array
    valid: Array
    clock: Array


@dataclass(frozen=True)
class Buffer:
    """Prioritised replay: P = (1 - rho) P_S + rho P_C.

    Attributes:
        capacity: n.
        prioritization: rank, proportional or greedy.
        temperature: beta.
        rho: share of staleness.
        replay_prob: chance that a batch is replayed rather than new, once the buffer is full enough.
        min_fill: share of slots that must be filled before.
    """

    capacity: int
    prioritization: Prioritization = "rank"
    temperature: float = 1.0
    rho: float = 0.5
    replay_prob: float = 0.95
    min_fill: float = 1.0

    def __post_init__(self) -> None:
        for name in ("rho", "replay_prob", "min_fill"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"{name} is {getattr(self, name)}; it must be from 0 to 1.")
        if self.capacity < 1 or self.temperature <= 0:
            raise UserError(f"capacity is {self.capacity} and temperature {self.temperature}; both must be above 0.")

    def init(self, example: Any) -> BufferState:
        """Return an empty buffer for items like `example`."""
        n = self.capacity
        items = jax.tree.map(lambda leaf: jnp.zeros((n, *jnp.shape(leaf)), jnp.asarray(leaf).dtype), example)
        return BufferState(
            items, jnp.full(n, -jnp.inf), jnp.zeros(n, jnp.int32), jnp.zeros(n, bool), jnp.zeros((), jnp.int32)
        )

    def weights(self, state: BufferState) -> Array:
        """Replay probabilities, [n]."""
        by_score = score_weights(
            state.scores, state.valid, prioritization=self.prioritization, temperature=self.temperature
        )
        return mix(by_score, staleness(state.clock, state.last_visit, state.valid), rho=self.rho)

    def replays(self, key: Array, state: BufferState) -> Array:
        """Whether the next batch is replayed: a coin of `replay_prob`, once the buffer is full enough."""
        filled = state.valid.sum() >= self.min_fill * self.capacity
        return filled & jax.random.bernoulli(key, self.replay_prob)

    def sample(self, key: Array, state: BufferState, k: int) -> tuple[BufferState, Array]:
        """Draw k different slots by weights that are computed once, and mark them as visited.

        Returns:
            the state, and slots [k].
        """
        if k > self.capacity:
            raise UserError(f"{k} items are asked for, and the buffer has {self.capacity} slots.")
        slots = without_replacement(jax.random.uniform(key, (self.capacity,)), self.weights(state), k)
        clock = state.clock + 1
        return state._replace(last_visit=state.last_visit.at[slots].set(clock), clock=clock), slots

    def sample_in_turn(self, key: Array, state: BufferState, k: int) -> tuple[BufferState, Array]:
        """Draw k slots one after another, with replacement: each draw moves the clock, so that staleness follows.

        That is how reference implementations draw; it sorts k times.
        """

        def one(state: BufferState, key: Array) -> tuple[BufferState, Array]:
            slot = jax.random.choice(key, self.capacity, p=self.weights(state))
            clock = state.clock + 1
            return state._replace(last_visit=state.last_visit.at[slot].set(clock), clock=clock), slot

        return jax.lax.scan(one, state, jax.random.split(key, k))

    def rescore(self, state: BufferState, slots: Array, scores: Array) -> BufferState:
        """Give the slots new scores."""
        return state._replace(scores=state.scores.at[slots].set(scores))

    def insert(self, state: BufferState, items: Any, scores: Array) -> BufferState:
        """Offer items one by one: into an empty slot, or in place of the slot that is replayed least.

        There they must score more. A score that is not a number is not inserted.
        """

        def offer(state: BufferState, offered: tuple[Any, Array]) -> tuple[BufferState, None]:
            item, score = offered
            slot = jnp.argmin(jnp.where(state.valid, self.weights(state), -1.0))
            accept = ~jnp.isnan(score) & (~state.valid[slot] | (score > state.scores[slot]))
            put = jax.tree.map(
                lambda old, new: old.at[slot].set(jnp.where(accept, new, old[slot])),
                (state.items, state.scores, state.last_visit, state.valid),
                (item, score, state.clock, jnp.asarray(True)),
            )
            return BufferState(*put, state.clock), None

        return jax.lax.scan(offer, state, (items, scores))[0]

    def insert_batch(self, state: BufferState, items: Any, scores: Array) -> BufferState:
        """Offer k items at once: the best in place of the slot that is replayed least, the next of the next.

        Weights are computed once, so that this costs one sort where `insert` costs k. For k = 1 the two are the same.
        """
        k = scores.shape[0]
        order = top_k(scores, k)
        items, scores = jax.tree.map(lambda leaf: leaf[order], items), scores[order]
        slots = jnp.argsort(jnp.where(state.valid, self.weights(state), -1.0), stable=True)[:k]
        accept = ~jnp.isnan(scores) & (~state.valid[slots] | (scores > state.scores[slots]))

        def put(old: Array, new: Array) -> Array:
            mask = accept.reshape(-1, *(1,) * (old.ndim - 1))
            return old.at[slots].set(jnp.where(mask, new, old[slots]))

        put_all = jax.tree.map(
            put,
            (state.items, state.scores, state.last_visit, state.valid),
            (items, scores, jnp.full(k, state.clock), jnp.ones(k, bool)),
        )
        return BufferState(*put_all, state.clock)
