"""PPO of a tabular learner with its gradient in closed form: the same updates as `Learner(Tabular)`, many times faster.

A table's loss depends on a sample only through its cell (state, action), its advantage and its target. A minibatch
therefore collapses into sums over ten cells, and those of the advantages do not depend on the parameters: they are
taken for all minibatches of an episode at once.

A table is tiny, and there are many learners. Their axes are therefore kept last (`learn_many`), where processors take
several numbers at a time, although everything around is written for one learner and mapped.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from opshape.agents.learners import PPOSettings, shuffles
from opshape.agents.nets import pick
from opshape.agents.players import Episode, sample

__all__ = ["Table", "TabularLearner", "TabularMind", "learn_many", "table_gradient"]


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


class Samples(NamedTuple):
    """An episode's samples `[T B, ...]`: cell (state and action in one), reward, and the states after the last step."""

    state: Array
    action: Array
    rewards: Array
    after: Array
    last: Array


class Cells(NamedTuple):
    """A minibatch of `m` samples as sums over cells; `...` are the learners.

    Attributes:
        count: samples per state and action `[states, actions, ...]`.
        gain: their positive normalised advantages, summed.
        loss: their negative normalised advantages, summed.
        state: states `[m, ...]`.
        target: value targets `[m, ...]`.
    """

    count: Array
    gain: Array
    loss: Array
    state: Array
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
        action = sample(pick(mind.table.logits, observation[..., None]), noise)
        return memory, action, (observation, action)

    def between(self, mind: TabularMind, memory: tuple, episode: Episode, key: Array) -> tuple[TabularMind, tuple]:
        """Return the mind after learning from an episode."""
        order = shuffles(key, self.settings.epochs, episode.rewards.size)
        return self.learn(mind, episode, order), ()

    def learn(self, mind: TabularMind, episode: Episode, order: Array) -> TabularMind:
        """Return the mind after learning from an episode, its samples taken in `order`, `[epochs, T B]`."""
        state, action = episode.record
        samples = Samples(state, action, episode.rewards, episode.observation, episode.last)
        order = order.reshape(self.settings.epochs * self.settings.minibatches, -1)
        mind, samples, order = jax.tree.map(lambda x: x[..., None], (mind, samples, order))
        mind, samples = jax.tree.map(lambda x: x[..., None], (mind, samples))
        return jax.tree.map(lambda x: x[..., 0, 0], _mapped(self.settings)(mind, samples, order))


@functools.cache
def _mapped(settings: PPOSettings) -> Callable[[TabularMind, Samples, Array], TabularMind]:
    """Return `learn_many` whose axes of learners grow under `vmap`.

    An axis over which the order of the samples differs becomes part of the last axis but one, any other of the last.
    """

    @jax.custom_batching.custom_vmap
    def learn(mind: TabularMind, samples: Samples, order: Array) -> TabularMind:
        return learn_many(mind, samples, order, settings)

    @learn.def_vmap
    def _(size: int, mapped: Any, mind: TabularMind, samples: Samples, order: Array) -> tuple[TabularMind, Any]:
        varies = mapped[2]

        def merge(x: Array, mapped: bool) -> Array:
            x = x if mapped else jnp.broadcast_to(x, (size, *x.shape))
            if varies:
                return jnp.moveaxis(x, 0, -2).reshape(*x.shape[1:-2], -1, x.shape[-1])
            return jnp.moveaxis(x, 0, -1).reshape(*x.shape[1:-1], -1)

        def split(x: Array) -> Array:
            if varies:
                return jnp.moveaxis(x.reshape(*x.shape[:-2], -1, size, x.shape[-1]), -2, 0)
            return jnp.moveaxis(x.reshape(*x.shape[:-1], -1, size), -1, 0)

        mind, samples = jax.tree.map(merge, (mind, samples), tuple(mapped[:2]))
        if varies:
            order = jnp.moveaxis(order, 0, -1).reshape(*order.shape[1:-1], -1)
        after = jax.tree.map(split, learn(mind, samples, order))
        return after, jax.tree.map(lambda _: True, after)

    return learn


def learn_many(mind: TabularMind, samples: Samples, order: Array, settings: PPOSettings) -> TabularMind:
    """Return minds after learning from an episode each.

    Args:
        mind: of `M x R` learners, `[..., M, R]`.
        samples: `[T, B, M, R]`, and `[B, M, R]` and `[M, R]` at the end.
        order: of each update's samples, indices into `T B`, `[updates, m, M]`: learners in `R` share it.
        settings: of PPO.
    """
    table, rewards = mind.table, samples.rewards
    value = pick(table.value, samples.state)
    following = jnp.concatenate([value[1:], ((1 - samples.last) * pick(table.value, samples.after))[None]])
    delta = rewards + settings.gamma * following - value

    def back(later: Array, delta: Array) -> tuple[Array, Array]:
        advantage = delta + settings.gamma * settings.lam * later
        return advantage, advantage

    _, advantage = jax.lax.scan(back, jnp.zeros_like(delta[0]), delta, reverse=True)
    updates, size, shuffled = order.shape
    index = order.swapaxes(0, 1).reshape(-1, shuffled)[..., None]

    def shuffle(x: Array) -> Array:
        """Return `[m, updates, M, R]`."""
        found = jnp.take_along_axis(x.reshape(-1, *x.shape[2:]), index, 0, mode="promise_in_bounds")
        return found.reshape(size, updates, *x.shape[2:])

    state, action, advantage, target = map(shuffle, (samples.state, samples.action, advantage, advantage + value))
    advantage = advantage - advantage.mean(0)
    advantage = advantage / (jnp.sqrt((advantage**2).mean(0)) + 1e-8)
    sums = _cells(state, action, advantage, table.logits.shape[:2])
    cells = Cells(*sums, state.swapaxes(0, 1), target.swapaxes(0, 1))

    def update(mind: TabularMind, batch: Cells) -> tuple[TabularMind, None]:
        return _adam(mind, table_gradient(mind.table, table, batch, settings), settings), None

    return jax.lax.scan(update, mind, cells)[0]


def _cells(state: Array, action: Array, advantage: Array, shape: tuple[int, ...]) -> tuple[Array, Array, Array]:
    """Return samples `[m, updates, ...]` summed over the cells they are in, `[updates, states, actions, ...]` each.

    A loop, because a reduction in the middle of other work is not vectorised on a CPU.
    """
    states, actions = (jnp.arange(n).reshape(-1, *[1] * (state.ndim - 2)) for n in shape)

    def add(sums: tuple, sample: tuple) -> tuple[tuple, None]:
        state, action, advantage = (x[:, None, None] for x in sample)
        inside = (state == states[:, None]) & (action == actions[None])
        terms = 1.0, jnp.maximum(advantage, 0), jnp.minimum(advantage, 0)
        return tuple(total + jnp.where(inside, x, 0) for total, x in zip(sums, terms, strict=True)), None

    zero = jnp.zeros((state.shape[1], *shape, *state.shape[2:]))
    return jax.lax.scan(add, (zero, zero, zero), (state, action, advantage))[0]


def table_gradient(table: Table, before: Table, batch: Cells, settings: PPOSettings) -> Table:
    """Return the gradient of PPO's loss on a minibatch with respect to logits and values.

    With G(s, a) = rho (sum of A+ where rho <= 1 + eps, plus sum of A- where rho >= 1 - eps), the policy's part is
    -(G(s, .) - pi(s, .) sum_a G(s, a)) / m.

    Args:
        table: the present parameters, of any number of learners in trailing axes.
        before: those that acted.
        batch: the minibatch.
        settings: of PPO.
    """
    samples = batch.target.shape[0]
    log_p = jax.nn.log_softmax(table.logits, 1)
    p, ratio = jnp.exp(log_p), jnp.exp(log_p - jax.nn.log_softmax(before.logits, 1))
    gain, loss = batch.gain, batch.loss
    if settings.clip is not None:
        gain = jnp.where(ratio <= 1 + settings.clip, gain, 0)
        loss = jnp.where(ratio >= 1 - settings.clip, loss, 0)
    pull = ratio * (gain + loss)
    policy = pull - p * pull.sum(1, keepdims=True)
    bonus = batch.count.sum(1, keepdims=True) * p * (log_p - (p * log_p).sum(1, keepdims=True))
    logits = (settings.entropy * bonus - policy) / samples

    # Where clipping is active, a sample pulls only if the unclipped error is the larger one, that is if its target lies
    # beyond the middle of both values.
    value, low, high = table.value, -jnp.inf, jnp.inf
    if settings.clip is not None:
        moved = value - before.value
        middle = 0.5 * (value + before.value + jnp.clip(moved, -settings.clip, settings.clip))
        low = jnp.where(moved < -settings.clip, middle, -jnp.inf)
        high = jnp.where(moved > settings.clip, middle, jnp.inf)
    states = jnp.arange(value.shape[0]).reshape(-1, *[1] * (value.ndim - 1))

    def add(total: Array, sample: tuple[Array, Array]) -> tuple[Array, None]:
        state, target = sample
        pulls = (state == states) & (target >= low) & (target <= high)
        return total + jnp.where(pulls, target - value, 0), None

    error, _ = jax.lax.scan(add, jnp.zeros_like(value), (batch.state, batch.target))
    return Table(logits, -2.0 * settings.value_weight / samples * error)


def _adam(mind: TabularMind, gradient: Table, settings: PPOSettings) -> TabularMind:
    """Return the mind after one step of Adam on the gradient, clipped to the global norm, as optax does it."""
    norm = jnp.sqrt((gradient.logits**2).sum((0, 1)) + (gradient.value**2).sum(0))
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
