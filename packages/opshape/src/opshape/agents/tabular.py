"""PPO of a tabular learner with its gradient in closed form: the same updates as `Learner(Tabular)`, many times faster.

A table's loss depends on a sample only through its cell (state, action), its advantage and its target. A minibatch
therefore collapses into sums over ten cells, and those of the advantages do not depend on the parameters: they are
taken for all minibatches of an episode at once.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from opshape.agents import credit
from opshape.agents.learners import PPOSettings, shuffles
from opshape.agents.players import Episode, sample

__all__ = ["TabularLearner", "TabularMind", "table_gradient"]


class Table(NamedTuple):
    """Logits `[states, actions]` and values `[states]`."""

    logits: Array
    value: Array


class TabularMind(NamedTuple):
    """A table, Adam's two moments of it, and the number of updates `[]`."""

    table: Table
    mean: Table
    square: Table
    count: Array


class Cells(NamedTuple):
    """A minibatch of `m` samples as sums over cells.

    Attributes:
        count: samples per state and action `[states, actions]`.
        gain: their positive normalised advantages, summed.
        loss: their negative normalised advantages, summed.
        state: one-hot states `[states, m]`.
        value: the value of each sample's state when it was visited `[m]`.
        target: value targets `[m]`.
    """

    count: Array
    gain: Array
    loss: Array
    state: Array
    value: Array
    target: Array


@dataclasses.dataclass(frozen=True)
class TabularLearner:
    """The reference's tabular PPO: logits and values start from 0.5, Adam with step size 1."""

    states: int = 5
    actions: int = 2
    settings: PPOSettings = dataclasses.field(default_factory=PPOSettings)

    def init(self, key: Array) -> TabularMind:
        """Return a table of 0.5 everywhere."""
        table = Table(jnp.full((self.states, self.actions), 0.5), jnp.full(self.states, 0.5))
        zero = jax.tree.map(jnp.zeros_like, table)
        return TabularMind(table, zero, zero, jnp.zeros(()))

    def start(self, mind: TabularMind, games: int) -> tuple[()]:
        """Return nothing: a table remembers nothing."""
        return ()

    def act(self, mind: TabularMind, memory: tuple, observation: Array, noise: Array) -> tuple[tuple, Array, tuple]:
        """Return actions, and observations and actions to learn from."""
        seen = jax.nn.one_hot(observation, self.states)
        action = sample((seen[..., None] * mind.table.logits).sum(-2), noise)
        return memory, action, (observation, action)

    def between(self, mind: TabularMind, memory: tuple, episode: Episode, key: Array) -> tuple[TabularMind, tuple]:
        """Return the mind after learning from an episode."""
        order = shuffles(key, self.settings.epochs, episode.rewards.size)
        return self.learn(mind, episode, order), ()

    def learn(self, mind: TabularMind, episode: Episode, order: Array) -> TabularMind:
        """Return the mind after learning from an episode, its samples taken in `order`, `[epochs, T B]`."""
        settings, table = self.settings, mind.table
        state, action = episode.record
        value = (jax.nn.one_hot(state, self.states) * table.value).sum(-1)
        last = (1.0 - episode.last) * (jax.nn.one_hot(episode.observation, self.states) * table.value).sum(-1)
        advantage = credit.advantages(episode.rewards, value, last, gamma=settings.gamma, lam=settings.lam)
        # One gather for all three: the cell is exact as a float.
        data = jnp.stack([(state * self.actions + action).astype(jnp.float32), advantage, value], -1).reshape(-1, 3)
        cell, advantage, value = jnp.moveaxis(data[order.reshape(settings.epochs * settings.minibatches, -1)], -1, 0)
        target = advantage + value  # [updates, m]
        advantage = advantage - advantage.mean(-1, keepdims=True)
        advantage = advantage / (jnp.sqrt((advantage**2).mean(-1, keepdims=True)) + 1e-8)

        # Samples are the last axis, which is the one that processors take several of at a time.
        inside = (cell[:, None, :] == jnp.arange(self.states * self.actions)[:, None]).astype(jnp.float32)
        weights = (jnp.ones_like(advantage), jnp.maximum(advantage, 0), jnp.minimum(advantage, 0))
        sums = [(inside * w[:, None, :]).sum(-1).reshape(-1, self.states, self.actions) for w in weights]
        seen = inside.reshape(len(cell), self.states, self.actions, -1).sum(2)
        cells = Cells(*sums, seen, value, target)
        before = table

        def update(mind: TabularMind, batch: Cells) -> tuple[TabularMind, None]:
            return _adam(mind, table_gradient(mind.table, before, batch, settings), settings), None

        mind, _ = jax.lax.scan(update, mind, cells, unroll=2)
        return mind


def table_gradient(table: Table, before: Table, batch: Cells, settings: PPOSettings) -> Table:
    """Return the gradient of PPO's loss on a minibatch with respect to logits and values.

    With G(s, a) = rho (sum of A+ where rho <= 1 + eps, plus sum of A- where rho >= 1 - eps), the policy's part is
    -(G(s, .) - pi(s, .) sum_a G(s, a)) / m.

    Args:
        table: the present parameters.
        before: those that acted.
        batch: the minibatch.
        settings: of PPO.
    """
    samples = batch.target.shape[0]
    log_p = jax.nn.log_softmax(table.logits)
    p, ratio = jnp.exp(log_p), jnp.exp(log_p - jax.nn.log_softmax(before.logits))
    gain, loss = batch.gain, batch.loss
    if settings.clip is not None:
        gain = jnp.where(ratio <= 1 + settings.clip, gain, 0)
        loss = jnp.where(ratio >= 1 - settings.clip, loss, 0)
    pull = ratio * (gain + loss)
    policy = pull - p * pull.sum(-1, keepdims=True)
    bonus = batch.count.sum(-1, keepdims=True) * p * (log_p - (p * log_p).sum(-1, keepdims=True))
    logits = (settings.entropy * bonus - policy) / samples

    # Where clipping is active, a sample pulls only if the unclipped error is the larger one, that is if its target lies
    # beyond the middle of both values.
    value = table.value @ batch.state
    error = batch.target - value
    if settings.clip is not None:
        moved = value - batch.value
        middle = 0.5 * (value + batch.value + jnp.clip(moved, -settings.clip, settings.clip))
        idle = ((moved > settings.clip) & (batch.target > middle)) | (
            (moved < -settings.clip) & (batch.target < middle)
        )
        error = jnp.where(idle, 0, error)
    return Table(logits, -2.0 * settings.value_weight / samples * (batch.state @ error))


def _adam(mind: TabularMind, gradient: Table, settings: PPOSettings) -> TabularMind:
    """Return the mind after one step of Adam on the gradient, clipped to the global norm, as optax does it."""
    norm = jnp.sqrt(sum((g**2).sum() for g in gradient))
    factor = jnp.where(norm < settings.max_norm, 1.0, settings.max_norm / norm)
    count = mind.count + 1
    gradient = jax.tree.map(lambda g: g * factor, gradient)
    mean = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, mind.mean, gradient)
    square = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g**2, mind.square, gradient)
    first, second = 1 - 0.9**count, 1 - 0.999**count
    table = jax.tree.map(
        lambda x, m, v: x - settings.lr * (m / first) / (jnp.sqrt(v / second) + 1e-5), mind.table, mean, square
    )
    return TabularMind(table, mean, square, count)
