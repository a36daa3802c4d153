"""The outer loop as a `paperloop.Trainer`: a generator that proposes edits of what scores high."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from generalized_exploration.config import GrowConfig
from generalized_exploration.criteria.catalogue import CRITERIA
from generalized_exploration.criteria.evidence import Evidence
from generalized_exploration.outer.editing import classes_of, distance, edit, empty_maze
from generalized_exploration.outer.families import FAMILIES, make_families
from generalized_exploration.samplers.buffer import Buffer, BufferState
from generalized_exploration.supervised.arms import cross_entropy
from generalized_exploration.supervised.mazes import CLASSES, WALL
from generalized_exploration.supervised.networks import MazeNet
from generalized_exploration.supervised.selection import take, update
from paperloop.jax_backend import load_pytree, save_pytree
from paperloop.seeds import fold_seed

__all__ = ["GrowthTrainer", "more_general"]

_PER_FAMILY = 200


def more_general(now: Array, before: Array) -> Array:
    """Whether a model is more general than an earlier one: it passes more tasks, and fails none that the other passed.

    Jiang, Rocktaeschel and Grefenstette 2022, relative generality, with "at least as good" read as "still passes".

    Args:
        now: bool[..., F], tasks that are passed.
        before: likewise.
    """
    return (now.sum(-1) > before.sum(-1)) & ~(before & ~now).any(-1)


class GrowState(NamedTuple):
    """Everything that a run continues from; arrays have a leading seed axis, but for `done`.

    Attributes:
        key: [S].
        done: i32, dispatches.
        learner: arm -> parameters and optimiser.
        buffer: arm -> mazes with their classes, and their scores.
        passed: arm -> bool[S, F], families passed at the last measurement.
        ever: arm -> bool[S, F], families passed at any measurement.
        gains: arm -> i32[S], measurements at which the learner was more general than at the one before.
    """

    key: Array
    done: Array
    learner: dict[str, Any]
    buffer: dict[str, BufferState]
    passed: dict[str, Array]
    ever: dict[str, Array]
    gains: dict[str, Array]


class GrowthTrainer:
    """Learns the distance to the goal from mazes of its own making, beginning with empty ones.

    At each step an arm replays a batch from its buffer by score and staleness, trains on it, and offers edits of the
    same mazes to the buffer, scored by the learner; labels come from a search, so none is wrong. The scores of the arm
    `uniform` are drawn at random. Metrics have a leading axis of arms times seeds: `passed`, families of held-out mazes
    whose accuracy is at or above the threshold; `lost`, passed earlier and not now; `more_general`, measurements so
    far at which the learner was more general than at the one before; `accuracy`, mean over families; mean number of
    `walls` and mean `class` of the mazes in the buffer; and `accuracy_<family>`.

    Attributes:
        config: the run.
        headlines: the metrics to show first.
        agents: the arm of each entry.
        resume_ignores: what may differ when a run is continued.
    """

    headlines: Sequence[str] = ("passed", "accuracy", "lost")
    resume_ignores = ("steps",)

    def __init__(self, config: GrowConfig) -> None:
        self.config = config
        self.agents = tuple(name for name in config.arms for _ in range(config.seeds))
        self.network: Any = MazeNet(config.size, CLASSES, width=config.width)
        self._optimiser = optax.adamw(config.lr, weight_decay=config.weight_decay)
        self._buffer = Buffer(config.capacity, temperature=config.temperature, rho=config.rho, min_fill=0.0)
        # The same held-out mazes for all, whatever the seed.
        mazes, labels = make_families(np.random.default_rng(fold_seed(0, "families")), _PER_FAMILY, config.size)
        self._held_out = (jnp.asarray(mazes), jnp.asarray(labels))
        self._init = jax.jit(jax.vmap(self._start))
        self._step = jax.jit(jax.vmap(self._dispatch, in_axes=(0, None, *(0,) * 5)))

    def init(self, seed: int) -> GrowState:
        """Return the state before the first step. Seed i of n has the same stream whatever n is."""
        seeds = jnp.array([fold_seed(seed, "grow", i) for i in range(self.config.seeds)], jnp.uint32)
        keys = jax.vmap(jax.random.key)(seeds)
        return GrowState(keys, jnp.zeros((), jnp.int32), *self._init(keys))

    def _start(self, key: Array) -> tuple[dict[str, Any], ...]:
        config = self.config
        params = self.network.init(jax.random.fold_in(key, 0), self._held_out[0][0, :1])
        mazes = jax.vmap(lambda k: empty_maze(k, config.size))(
            jax.random.split(jax.random.fold_in(key, 1), config.capacity)
        )
        labels = self._labels(mazes)
        learner, buffer = {}, {}
        for name in config.arms:
            empty = self._buffer.init((mazes[0], labels[0]))
            scores = self._scores(name, params, mazes, labels, jax.random.fold_in(key, 2))
            buffer[name] = empty._replace(items=(mazes, labels), scores=scores, valid=jnp.ones(config.capacity, bool))
            learner[name] = (params, self._optimiser.init(params))
        none: dict[str, Any] = {name: jnp.zeros(len(FAMILIES), bool) for name in config.arms}
        gains: dict[str, Any] = {name: jnp.zeros((), jnp.int32) for name in config.arms}
        return learner, buffer, none, none, gains

    def _labels(self, mazes: Array) -> Array:
        return classes_of(jax.vmap(lambda maze: distance(maze, self.config.size))(mazes))

    def _scores(self, name: str, params: Any, mazes: Array, labels: Array, key: Array) -> Array:
        if name == "uniform":
            return jax.random.uniform(key, labels.shape)
        logits = self.network.apply(params, mazes)
        loss = cross_entropy(logits, labels)
        # The chance of a right answer, if the learner answers by its probabilities.
        found = Evidence(loss=loss, logits=logits, labels=labels, success_rate=jnp.exp(-loss))
        return CRITERIA[name](found)

    def _losses(self, params: Any, batch: tuple[Array, Array]) -> Array:
        return cross_entropy(self.network.apply(params, batch[0]), batch[1])

    def step(self, state: GrowState) -> tuple[GrowState, Mapping[str, Array]]:
        """Do `config.steps_per_dispatch` steps of every arm, and measure all families."""
        learner, buffer, passed, ever, gains, metrics = self._step(*state)
        state = GrowState(state.key, state.done + 1, learner, buffer, passed, ever, gains)
        return state, {
            name: jnp.concatenate([metrics[arm][name] for arm in self.config.arms])
            for name in metrics[self.config.arms[0]]
        }

    def _dispatch(self, *parts_of_state: Any) -> tuple[dict[str, Any], ...]:
        config, state = self.config, GrowState(*parts_of_state)
        parts: tuple[dict[str, Any], ...] = ({}, {}, {}, {}, {}, {})
        for index, name in enumerate(config.arms):
            steps = state.done * config.steps_per_dispatch + jnp.arange(config.steps_per_dispatch)
            stream = jax.random.fold_in(jax.random.fold_in(state.key, 3), index)

            def one(carry: Any, t: Array, name: str = name, stream: Array = stream) -> tuple[Any, None]:
                return self._one(name, carry, jax.random.fold_in(stream, t)), None

            (learner, buffer), _ = jax.lax.scan(one, (state.learner[name], state.buffer[name]), steps)
            accuracy = self._accuracy(learner[0])
            passed = accuracy >= config.threshold
            ever = state.ever[name] | passed
            gains = state.gains[name] + more_general(passed, state.passed[name])
            mazes, labels = buffer.items
            metrics = {
                "passed": passed.sum(), "lost": (ever & ~passed).sum(), "more_general": gains,
                "accuracy": accuracy.mean(), "walls": (mazes == WALL).sum(-1).mean(), "class": labels.mean(),
            }  # fmt: skip
            metrics |= {f"accuracy_{family}": accuracy[i] for i, family in enumerate(FAMILIES)}
            for part, value in zip(parts, (learner, buffer, passed, ever, gains, metrics), strict=True):
                part[name] = value
        return parts

    def _one(self, name: str, carry: Any, key: Array) -> Any:
        (params, memory), state = carry
        config, buffer = self.config, self._buffer
        drawn, parents, edits, luck = jax.random.split(key, 4)
        state, slots = buffer.sample(drawn, state, config.batch)
        batch = take(state.items, slots)
        params, memory = update(self._losses, self._optimiser, params, memory, batch)
        keys = jax.random.split(luck)
        state = buffer.rescore(state, slots, self._scores(name, params, *batch, keys[0]))
        chosen = slots[jax.random.randint(parents, (config.proposals,), 0, config.batch)]
        made = jax.vmap(lambda k, maze: edit(k, maze, config.edits, config.walls))(
            jax.random.split(edits, config.proposals), state.items[0][chosen]
        )
        labels = self._labels(made)
        state = buffer.insert_batch(state, (made, labels), self._scores(name, params, made, labels, keys[1]))
        return (params, memory), state

    def _accuracy(self, params: Any) -> Array:
        mazes, labels = self._held_out
        return (self.network.apply(params, mazes).argmax(-1) == labels).mean(-1)

    def progress(self, state: GrowState) -> Mapping[str, int]:
        """Return the steps of each arm."""
        return {"steps": int(state.done) * self.config.steps_per_dispatch}

    def save(self, state: GrowState, folder: Path) -> None:
        """Write the whole state into `folder`."""
        save_pytree(state, folder)

    def restore(self, folder: Path, like: GrowState) -> GrowState:
        """Read back what `save` wrote; the result continues bit for bit."""
        return load_pytree(folder, like)
