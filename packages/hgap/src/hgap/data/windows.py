"""Windows of a dataset: the whole of it on the device once, and windows gathered from it by their first row."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from paperloop.errors import UserError
from paperloop_data import EpisodeDataset

__all__ = ["Scale", "WindowData", "gather", "load_windows", "moments", "window_starts"]


class Scale(NamedTuple):
    """How numbers are normalised.

    Attributes:
        mean: [D].
        std: [D]; 1 where the dimension is constant.
        varies: booleans [D]; a constant dimension is 0 when normalised, and its mean when restored.
        clip: normalised numbers are clipped to it.
    """

    mean: Array
    std: Array
    varies: Array
    clip: Array

    def normalise(self, x: Array) -> Array:
        """Return numbers in units of standard deviations, [..., D]."""
        z = jnp.clip((x - self.mean) / self.std, -self.clip, self.clip)
        return jnp.where(self.varies, z, 0.0)

    def restore(self, z: Array) -> Array:
        """Return numbers in their own units, [..., D]."""
        return jnp.where(self.varies, z * self.std, 0.0) + self.mean


class WindowData(NamedTuple):
    """A dataset on the device.

    Attributes:
        states: normalised, [N, S].
        actions: normalised, [N, A].
        train: first rows of the windows to learn from, int32 [W].
        held_out: first rows of the others, int32 [V].
        state_scale: of the states.
        action_scale: of the actions.
    """

    states: Array
    actions: Array
    train: Array
    held_out: Array
    state_scale: Scale
    action_scale: Scale


def gather(rows: Array, starts: Array, steps: int) -> Array:
    """Return windows [B, T, D] of rows [N, D] that begin at `starts` [B]."""
    return rows[starts[:, None] + jnp.arange(steps)]


def window_starts(starts: np.ndarray, lengths: np.ndarray, steps: int) -> np.ndarray:
    """Return the first rows of all windows of `steps` steps that lie within an episode, in order."""
    counts = np.maximum(lengths - steps + 1, 0)
    first = np.repeat(starts, counts)
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return (first + within).astype(np.int32)


def moments(x: np.ndarray, *, clip: float, constant: float) -> Scale:
    """Return how the columns of `x` are normalised."""
    mean, std = x.mean(0, dtype=np.float64), x.std(0, dtype=np.float64)
    varies = std > constant
    return Scale(
        jnp.asarray(mean, jnp.float32),
        jnp.asarray(np.where(varies, std, 1.0), jnp.float32),
        jnp.asarray(varies),
        jnp.asarray(clip, jnp.float32),
    )


def load_windows(
    data: EpisodeDataset, *, steps: int, clip: float, constant: float, held_out: float, fraction: float = 1.0
) -> WindowData:
    """Put a dataset onto the device.

    Args:
        data: episodes; those shorter than `steps` have no window.
        steps: T.
        clip: normalised numbers are clipped to it.
        constant: below this standard deviation a dimension is constant.
        held_out: share of the episodes, the last ones, that are not learned from; rounded up where it is above 0.
        fraction: share of the others that are used, the first ones; rounded up.

    Raises:
        UserError: states or actions are not vectors, or no episode to learn from is long enough.
    """
    for name in ("observations", "actions"):
        if getattr(data, name).ndim != 2:
            raise UserError(f"{data.where}: {name} have shape {list(getattr(data, name).shape)}; they must be vectors.")
    episodes = data.num_episodes
    kept_out = int(np.ceil(held_out * episodes)) if episodes > 1 else 0
    used = max(1, int(np.ceil(fraction * (episodes - kept_out))))
    split = episodes - kept_out
    train = window_starts(data.episode_starts[:used], data.lengths[:used], steps)
    if not len(train):
        raise UserError(
            f"{data.where}: of {used} episodes to learn from none has {steps} steps, the longest has "
            f"{int(data.lengths[:used].max())}: shorten the windows, or give longer episodes."
        )
    rest = window_starts(data.episode_starts[split:], data.lengths[split:], steps)
    rows = slice(0, int(data.episode_ends[used - 1]))
    states, actions = np.asarray(data.observations), np.asarray(data.actions)
    scales = [moments(x[rows], clip=clip, constant=constant) for x in (states, actions)]
    placed = [scale.normalise(jnp.asarray(x, jnp.float32)) for scale, x in zip(scales, (states, actions), strict=True)]
    return WindowData(placed[0], placed[1], jnp.asarray(train), jnp.asarray(rest), scales[0], scales[1])
