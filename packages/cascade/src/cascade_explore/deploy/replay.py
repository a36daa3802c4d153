"""The replay: everything that was ever collected, on the device.

A deployment is a block of W parallel streams of T rows. Row t of a stream holds an observation, the action that led to
it, and whether an episode begins or ended there. Sequences are drawn from within one stream, so that they cross borders
between episodes (which rows mark) but never those between streams.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from cascade_explore.envs.spec import Actions, Numbers, Observed
from cascade_explore.world.model import Batch

__all__ = ["Replay", "Rows", "draw", "empty", "to_batch", "write"]


class Rows(NamedTuple):
    """Rows of W streams, `[T, W, ...]` when collected, `[K, W, T, ...]` in a replay.

    Attributes:
        observation: uint8 symbols or pixels, or float32 numbers, `[..., n]`.
        action: that led here: an index `[...]`, or numbers `[..., A]`.
        reward: of the environment, for labels; nothing is trained on it before `label`.
        first: an episode begins here.
        terminal: an episode ended here for good (one that was only cut is not terminal).
        facts: what the environment says of its state besides, for labels, float32 `[..., F]`; empty where it says
            nothing.
    """

    observation: Array
    action: Array
    reward: Array
    first: Array
    terminal: Array
    facts: Any = ()


Replay = Rows


def empty(
    deployments: int, streams: int, steps: int, observation: Observed, actions: Actions, *, facts: int = 0
) -> Replay:
    """Return a replay for K deployments."""
    shape = (deployments, streams, steps)
    seen = jnp.float32 if isinstance(observation, Numbers) else jnp.uint8
    acted = jnp.zeros(shape, jnp.uint8) if actions.discrete else jnp.zeros((*shape, actions.size))
    return Rows(
        jnp.zeros((*shape, observation.size), seen), acted, jnp.zeros(shape), jnp.zeros(shape, bool),
        jnp.zeros(shape, bool), jnp.zeros((*shape, facts)) if facts else (),
    )  # fmt: skip


def write(replay: Replay, rows: Rows, deployment: Array) -> Replay:
    """Return the replay with a deployment's rows `[T, W, ...]` in their place."""
    return jax.tree.map(lambda all_, new: all_.at[deployment].set(jnp.swapaxes(new, 0, 1)), replay, rows)


def draw(replay: Replay, filled: Array, key: Array, *, batch: int, length: int) -> Rows:
    """Return sequences `[T, N, ...]`, uniformly from all positions of the first `filled` deployments."""
    _, streams, steps = replay.first.shape
    one, two, three = jax.random.split(key, 3)
    k = jax.random.randint(one, (batch,), 0, filled)
    w = jax.random.randint(two, (batch,), 0, streams)
    start = jax.random.randint(three, (batch,), 0, steps - length + 1)
    t = start + jnp.arange(length)[:, None]
    return jax.tree.map(lambda x: x[k, w, t], replay)


def to_batch(rows: Rows, actions: Actions) -> Batch:
    """Return what the world model trains on: no reward, actions as the model takes them."""
    acted = jax.nn.one_hot(rows.action, actions.size) if actions.discrete else rows.action
    return Batch(rows.observation, acted, rows.first, rows.terminal)
