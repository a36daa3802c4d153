"""Small classifiers: of mazes by two convolutions, of vectors by one hidden layer.

Convolutions are written as matrix products over patches: with parameters of several seeds side by side, a CPU runs
these as one batched product, and grouped convolutions slowly.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

__all__ = ["MazeNet", "VectorNet", "forward_flops"]


def _patches(size: int, stride: int) -> np.ndarray:
    """Indices [cells, 9] of the 3 x 3 neighbourhoods in a padded grid, every `stride`-th row and column."""
    at = np.arange(0, size, stride)
    corner = at[:, None] * (size + 2) + at[None, :]
    inner = np.arange(3)[:, None] * (size + 2) + np.arange(3)[None, :]
    return corner.reshape(-1, 1) + inner.reshape(1, -1)


class MazeNet(nn.Module):
    """conv 3x3 - conv 3x3 of stride 2 - hidden layer - classes, on u8 [n, size * size] cells."""

    size: int
    classes: int
    channels: int = 12
    width: int = 128

    @nn.compact
    def __call__(self, cells: Array) -> Array:
        """Return logits, [n, classes]."""
        x = jax.nn.one_hot(cells - 1, 3)  # a plane each for walls, agent and goal
        for stride in (1, 2):
            grid = x.reshape(*x.shape[:-2], self.size, self.size, x.shape[-1])
            pad = [(0, 0)] * (grid.ndim - 3) + [(1, 1), (1, 1), (0, 0)]
            flat = jnp.pad(grid, pad).reshape(*x.shape[:-2], (self.size + 2) ** 2, x.shape[-1])
            taken = flat[..., _patches(self.size, stride), :]
            x = nn.relu(nn.Dense(self.channels)(taken.reshape(*taken.shape[:-2], -1)))
        x = nn.relu(nn.Dense(self.width)(x.reshape(*x.shape[:-2], -1)))
        return nn.Dense(self.classes)(x)


class VectorNet(nn.Module):
    """hidden layer - classes, on f32 [n, d]."""

    classes: int
    width: int = 128

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Return logits, [n, classes]."""
        return nn.Dense(self.classes)(nn.relu(nn.Dense(self.width)(x)))


def forward_flops(network: nn.Module, example: Array) -> float:
    """Floating point operations of one example's forward pass: two for each weight that it meets, in each place."""
    shapes = jax.eval_shape(network.init, jax.random.key(0), example[None])["params"]
    total = 0
    for index, layer in enumerate(shapes.values()):
        places = 1
        if isinstance(network, MazeNet) and index < 2:
            places = network.size**2 if index == 0 else ((network.size + 1) // 2) ** 2
        total += 2 * places * int(np.prod(layer["kernel"].shape))
    return float(total)
