"""From a game's observation to the vector that a network reads."""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jax import Array

from opshape.agents.nets import Params, dense, init_dense, pick
from opshape.games.base import Game
from opshape.games.in_the_matrix import DECODE, VIEW

__all__ = ["Convolution", "Encoder", "Indices", "OneHot", "make_encoder"]


class Encoder(Protocol):
    """`init(key)` gives parameters, `apply(params, observation)` a vector `[B, width]`."""

    @property
    def width(self) -> int:
        """The length of the vector."""
        ...

    def init(self, key: Array) -> Params:
        """Return parameters."""
        ...

    def apply(self, params: Params, observation: Any) -> Array:
        """Return the vectors of observations."""
        ...

    def layer(self, params: Params, observation: Any, w: Array, b: Array) -> Array:
        """Return x W + b of the vectors x of observations, without them where that is possible."""
        ...


@dataclasses.dataclass(frozen=True)
class OneHot:
    """A matrix game's state as it is: one-hot, no parameters."""

    width: int

    def init(self, key: Array) -> Params:
        """Return parameters."""
        return {}

    def apply(self, params: Params, observation: Array) -> Array:
        """Return the vectors of observations."""
        return jax.nn.one_hot(observation, self.width)

    def layer(self, params: Params, observation: Array, w: Array, b: Array) -> Array:
        """Return x W + b: rows of W."""
        return pick(w + b, observation[..., None])


@dataclasses.dataclass(frozen=True)
class Indices:
    """A binary image of equal blocks, given by the index of the one in each block, through one layer with relu."""

    entries: int
    width: int = 16

    def init(self, key: Array) -> Params:
        """Return parameters."""
        return init_dense(key, self.entries, self.width, 2.0**0.5)

    def apply(self, params: Params, observation: Array) -> Array:
        """Return the vectors of observations."""
        blocks = observation.shape[-1]
        size = self.entries // blocks
        # Block by block: one comparison for each entry, where a sum of four images of all entries would need four.
        image = jax.nn.one_hot(observation - size * jnp.arange(blocks), size)
        return jax.nn.relu(dense(params, image.reshape(*observation.shape[:-1], self.entries)))

    def layer(self, params: Params, observation: Any, w: Array, b: Array) -> Array:
        """Return x W + b of the vectors x of observations."""
        return self.apply(params, observation) @ w + b


@dataclasses.dataclass(frozen=True)
class Convolution:
    """InTheMatrix' view through a 3 x 3 convolution with relu, flattened, with the inventory appended.

    The kernel is that of the ten-channel image of the reference; since every cell shows one of nine things, it is
    decoded once into a row for each of them.
    """

    channels: int = 16

    @property
    def width(self) -> int:
        """The length of the vector."""
        return VIEW * VIEW * self.channels + 6

    def init(self, key: Array) -> Params:
        """Return parameters."""
        return init_dense(key, 9 * DECODE.shape[1], self.channels, 2.0**0.5)

    def apply(self, params: Params, observation: dict[str, Array]) -> Array:
        """Return the vectors of observations."""
        codes, inventory = observation["view"], observation["inventory"].astype(jnp.float32)
        taps = params["w"].reshape(9, DECODE.shape[1], self.channels)
        kernel = jnp.einsum("kc,tcn->tkn", DECODE, taps).reshape(-1, self.channels)
        square = codes.reshape(*codes.shape[:-1], VIEW, VIEW)
        padded = jnp.pad(square, [(0, 0)] * (square.ndim - 2) + [(1, 1), (1, 1)], constant_values=-1)
        patches = jnp.stack([padded[..., i : i + VIEW, j : j + VIEW] for i in range(3) for j in range(3)], -1)
        shown = jax.nn.one_hot(patches, len(DECODE))  # [B, 5, 5, 9 taps, 9 things]; nothing is all zeros
        features = jax.nn.relu(shown.reshape(*codes.shape, -1) @ kernel + params["b"])
        return jnp.concatenate([features.reshape(*codes.shape[:-1], -1), inventory], -1)

    def layer(self, params: Params, observation: Any, w: Array, b: Array) -> Array:
        """Return x W + b of the vectors x of observations."""
        return self.apply(params, observation) @ w + b


def make_encoder(game: Game, width: int = 16) -> Encoder:
    """Return the encoder that the reference uses for a game; `width` is that of its layer or its channels."""
    if game.name == "matrix":
        return OneHot(5)
    if game.name == "coin_game":
        return Indices(36, width)
    return Convolution(width)
