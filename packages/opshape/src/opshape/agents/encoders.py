"""From a game's observation to the vector that a network reads."""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jax import Array

from opshape.agents.nets import Params, dense, init_dense
from opshape.games.base import Game

__all__ = ["Convolution", "Encoder", "Indices", "OneHot", "make_encoder"]


class Encoder(Protocol):
    """`init(key)` gives parameters, `apply(params, observation)` a vector `[B, width]`."""

    @property
    def width(self) -> int: ...

    def init(self, key: Array) -> Params: ...

    def apply(self, params: Params, observation: Any) -> Array: ...


@dataclasses.dataclass(frozen=True)
class OneHot:
    """A matrix game's state as it is: one-hot, no parameters."""

    width: int

    def init(self, key: Array) -> Params:
        return {}

    def apply(self, params: Params, observation: Array) -> Array:
        return jax.nn.one_hot(observation, self.width)


@dataclasses.dataclass(frozen=True)
class Indices:
    """A sparse binary image, given by the indices of its ones, through one layer with relu."""

    entries: int
    width: int = 16

    def init(self, key: Array) -> Params:
        return init_dense(key, self.entries, self.width, 2.0**0.5)

    def apply(self, params: Params, observation: Array) -> Array:
        image = jax.nn.one_hot(observation, self.entries).sum(-2)
        return jax.nn.relu(dense(params, image))


@dataclasses.dataclass(frozen=True)
class Convolution:
    """InTheMatrix' view (5 x 5 x 10) through a 3 x 3 convolution with relu, flattened, with the inventory appended."""

    channels: int = 16
    view: tuple[int, int, int] = (5, 5, 10)
    inventory: int = 6

    @property
    def width(self) -> int:
        return self.view[0] * self.view[1] * self.channels + self.inventory

    def init(self, key: Array) -> Params:
        return init_dense(key, 9 * self.view[2], self.channels, 2.0**0.5)

    def apply(self, params: Params, observation: dict[str, Array]) -> Array:
        view, inventory = observation["view"].astype(jnp.float32), observation["inventory"].astype(jnp.float32)
        rows, columns, _ = self.view
        padded = jnp.pad(view, [(0, 0)] * (view.ndim - 3) + [(1, 1), (1, 1), (0, 0)])
        # As a product with patches: a convolution whose kernel differs between candidates is slow on every backend.
        patches = jnp.concatenate(
            [padded[..., i : i + rows, j : j + columns, :] for i in range(3) for j in range(3)], -1
        )
        features = jax.nn.relu(dense(params, patches))
        return jnp.concatenate([features.reshape(*features.shape[:-3], -1), inventory], -1)


def make_encoder(game: Game, width: int = 16) -> Encoder:
    """Return the encoder that the reference uses for a game; `width` is that of its layer or its channels."""
    if game.name == "matrix":
        return OneHot(5)
    if game.name == "coin_game":
        return Indices(36, width)
    return Convolution(width)
