"""Balanced replay (Lee, Seo, Lee, Abbeel & Shin 2021, arXiv 2107.00591): offline data by its likeness to online data.

A network w(s, a) > 0 learns the ratio of online to offline density by an f-divergence bound,

    L = E_offline[-log(2 / (w + 1))] - E_online[log(2 w / (w + 1))],

and a transition's priority is w^(1/T), divided by its mean over the uniform offline batch that the ratio learns from,
clipped to [1e-3, 1e3]. New online transitions enter with the largest priority so far. Batches are drawn in proportion
to priority, from all data.

The published code keeps a sum tree and refreshes the priorities of what it draws. Here the priorities of what is drawn
are refreshed likewise; the cumulative sum that draws are made from is rebuilt once a block instead of at every draw.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from policy_finetune.config import BalancedReplay
from policy_finetune.learners.base import Optimiser
from policy_finetune.learners.networks import init_layers, layers_forward
from policy_finetune.replay.packing import Layout, draw

__all__ = ["Balanced", "BalancedState", "draw_by_priority", "priority_sums", "ratio_loss"]

PRIORITY_RANGE = (1e-3, 1e3)


#: Rows in a chunk of the sums that draws are made from.
CHUNK = 1024


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["network", "opt", "priority", "within", "across", "top"],
    meta_fields=[],
)
@dataclasses.dataclass(frozen=True)
class BalancedState:
    """What balanced replay carries.

    Attributes:
        network: the density-ratio network.
        opt: its optimiser's moments.
        priority: (offline + capacity,) f32, offline rows first.
        within: (C, 1024) f32, cumulative sums of the priorities within chunks of rows ...
        across: (C,) f32, ... and of the chunks' sums: what draws are made from.
        top: the largest priority so far.
    """

    network: Any
    opt: Any
    priority: Array
    within: Array
    across: Array
    top: Array


def ratio_loss(offline: Array, online: Array) -> Array:
    """Return the loss of the ratio network from its outputs w on both batches (any shapes)."""
    loss_offline = -jnp.log(2.0 / (offline + 1.0) + 1e-10).mean()
    return loss_offline - jnp.log(2.0 * online / (online + 1.0) + 1e-10).mean()


def priority_sums(priority: Array) -> tuple[Array, Array]:
    """Return the sums that `draw_by_priority` needs: within chunks of rows (C, 1024), and across chunks (C,).

    Two levels, because one sum over a million float32 priorities would round away the small ones.
    """
    chunks = jnp.pad(priority, (0, -len(priority) % CHUNK)).reshape(-1, CHUNK)
    within = jnp.cumsum(chunks, axis=1)
    return within, jnp.cumsum(within[:, -1])


def draw_by_priority(within: Array, across: Array, key: Array, shape: tuple[int, ...]) -> Array:
    """Return indices drawn in proportion to the priorities whose sums are given: a chunk first, then a row of it."""
    chunk_key, row_key = jax.random.split(key)
    count = math.prod(shape)
    at = jax.random.uniform(chunk_key, (count,)) * across[-1]
    chunk = jnp.minimum(jnp.searchsorted(across, at, side="right"), len(across) - 1)
    at = jax.random.uniform(row_key, (count,)) * within[chunk, -1]
    row = jnp.zeros((count,), jnp.int32)
    for bit in (1 << np.arange(CHUNK.bit_length() - 1))[::-1]:  # the number of sums that are at most `at`, by bisection
        row = jnp.where(within[chunk, row + bit - 1] <= at, row + bit, row)
    return (chunk * CHUNK + row).reshape(shape)


class Balanced:
    """Balanced replay of one program; offline rows of all its agents fit in `offline_size`.

    Args:
        replay: its settings.
        layout: what a row holds.
        batch: B, rows from either side that the ratio network learns from at a time.
        offline_size: rows of the largest offline dataset.
        capacity: rows of the online ring.
    """

    def __init__(self, replay: BalancedReplay, layout: Layout, batch: int, offline_size: int, capacity: int) -> None:
        self.replay, self.layout, self.batch = replay, layout, batch
        self.offline_size, self.capacity = offline_size, capacity
        self.optimiser = Optimiser()

    def init(self, key: Array, capacity: int | None = None) -> BalancedState:
        """Return the state before the first transition."""
        network = init_layers(key, [self.layout.obs_dim + self.layout.act_dim, 256, 256, 1])
        network[-1] = network[-1] | {"b": jnp.ones((1,))}
        priority = jnp.zeros(self.offline_size + (capacity or self.capacity))
        return BalancedState(network, self.optimiser.init(network), priority, *priority_sums(priority), jnp.ones(()))

    def with_priority(self, state: BalancedState, priority: Array) -> BalancedState:
        """Return states [A] with other priorities [A, offline + capacity], their sums included."""
        within, across = jax.vmap(priority_sums)(priority)
        return dataclasses.replace(state, priority=priority, within=within, across=across)

    def enter(self, state: BalancedState, at: Array, count: int) -> BalancedState:
        """Give `count` new online rows, from ring position `at`, the largest priority so far."""
        new = jnp.full((count,), state.top)
        priority = jax.lax.dynamic_update_slice_in_dim(state.priority, new, self.offline_size + at, 0)
        return dataclasses.replace(state, priority=priority)

    def prepare(self, state: BalancedState, size: Array, filled: Array) -> BalancedState:
        """Rebuild the sums; at the very first time, set the offline priorities so that they weigh `rho` in all."""
        rows = jnp.arange(len(state.priority))
        offline = rows < size
        online = (rows >= self.offline_size) & (rows < self.offline_size + filled)
        first = jnp.where(offline, state.priority, 0.0).sum() == 0
        rho = self.replay.rho
        start = rho / max(1.0 - rho, 1e-6) * state.top * filled / jnp.maximum(size, 1)
        priority = jnp.where(first & offline, start, state.priority)
        within, across = priority_sums(jnp.where(offline | online, priority, 0.0))
        return dataclasses.replace(state, priority=priority, within=within, across=across)

    def sample(
        self, state: BalancedState, offline: Array, online: Callable[[Array], Array], key: Array,
        shape: tuple[int, int], offset: Array, size: Array, filled: Array,
    ) -> tuple[Array, BalancedState, Array]:  # fmt: skip
        """Return rows [*shape, width] by priority, the state, and the share of offline ones.

        Learns the ratio from uniform batches and refreshes the priorities of what was drawn.
        """
        key, offline_key, online_key = jax.random.split(key, 3)
        at = draw_by_priority(state.within, state.across, key, shape)
        is_offline = at < self.offline_size
        there = offline[offset + jnp.minimum(at, jnp.maximum(size - 1, 0))]
        here = online(jnp.clip(at - self.offline_size, 0, self.capacity - 1))
        rows = jnp.where(is_offline[..., None], there, here)
        uniform = offline[offset + draw(offline_key, (self.batch,), size)]
        state = self._learn(state, uniform, online(draw(online_key, (self.batch,), filled)))
        # What was drawn by priority would raise its own normaliser: the mean is taken over uniform offline rows.
        mean = self._raised(state.network, uniform).mean()
        fresh = jnp.clip(self._raised(state.network, rows) / (mean + 1e-10), *PRIORITY_RANGE)
        priority = state.priority.at[at.reshape(-1)].set(fresh.reshape(-1))
        state = dataclasses.replace(state, priority=priority, top=jnp.maximum(state.top, fresh.max()))
        return rows, state, is_offline.mean(dtype=jnp.float32)

    def _raised(self, network: Any, rows: Array) -> Array:
        """Return w^(1/T)."""
        return self._ratio(network, rows) ** (1.0 / self.replay.temperature)

    def _ratio(self, network: Any, rows: Array) -> Array:
        batch = self.layout.split(rows)
        x = jnp.concatenate([batch.obs, batch.action], -1).reshape(-1, self.layout.obs_dim + self.layout.act_dim)
        # Softplus keeps w positive; a small floor keeps its logarithm finite.
        return (jax.nn.softplus(layers_forward(network, x)[:, 0]) + 1e-8).reshape(rows.shape[:-1])

    def _learn(self, state: BalancedState, offline: Array, online: Array) -> BalancedState:
        def loss(network: Any) -> Array:
            return ratio_loss(self._ratio(network, offline), self._ratio(network, online))

        gradient = jax.grad(loss)(state.network)
        network, opt = self.optimiser.step(state.network, gradient, state.opt, self.replay.ratio_lr)
        return dataclasses.replace(state, network=network, opt=opt)
