"""MiniGrid's view as an image of 64 x 64, drawn from its symbols: tiles of 9 x 9 of our own design."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax import Array

from cascade_explore.envs.layouts import BALL, DOOR, EMPTY, GOAL, KEY, LOCKED, WALL

__all__ = ["draw_view"]

SIDE, VIEW = 9, 7
#: By number: red, green, blue, purple, yellow, grey.
_COLOURS = np.array(
    [[230, 60, 60], [60, 200, 80], [70, 110, 240], [160, 80, 220], [240, 210, 60], [125, 125, 125]], np.uint8
)


def _tiles() -> tuple[np.ndarray, np.ndarray]:
    """Return a tile for every object, colour and state, `[11, 6, 3, 9, 9, 3]`, and the agent's shape."""
    y, x = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    border, round_ = np.maximum(abs(x), abs(y)) > 0.9, x**2 + y**2
    everywhere = np.ones_like(border)
    shapes = {
        WALL: [everywhere] * 3,
        GOAL: [everywhere] * 3,
        BALL: [round_ < 0.6] * 3,
        KEY: [(abs(x) < 0.2) & (y > -0.4) | (abs(y - 0.6) < 0.15) & (abs(x - 0.3) < 0.3) | (round_ + y < 0)] * 3,
        DOOR: [x < -0.7, border | (abs(x - 0.5) < 0.15) & (abs(y) < 0.15), border | (abs(x) < 0.3) & (abs(y) < 0.6)],
    }  # fmt: skip
    tiles = np.zeros((11, 6, 3, SIDE, SIDE, 3), np.uint8)
    tiles[EMPTY] = np.where((border & ((x > 0.9) | (y > 0.9)))[..., None], 60, 25)
    for kind, masks in shapes.items():
        for colour in range(6):
            for state in range(LOCKED + 1):
                tile = np.where(masks[state][..., None], _COLOURS[colour], tiles[EMPTY, 0, 0])
                tiles[kind, colour, state] = tile
    return tiles, abs(x) < (y + 1) / 2


_TILES, _AGENT = _tiles()


def draw_view(symbols: Array) -> Array:
    """Return the image of a view, uint8 `[64, 64, 3]`; the agent looks up. What it does not see is black.

    Args:
        symbols: objects, colours and states, `[7, 7, 3]`, x first.
    """
    symbols = symbols.astype(jnp.int32)
    tiles = jnp.asarray(_TILES)[symbols[..., 0], symbols[..., 1], symbols[..., 2]]  # [x, y, row, column, 3]
    red = jnp.array([255, 40, 40], jnp.uint8)
    own = tiles[VIEW // 2, VIEW - 1]
    tiles = tiles.at[VIEW // 2, VIEW - 1].set(jnp.where(jnp.asarray(_AGENT)[..., None], red, own))
    image = tiles.transpose(1, 2, 0, 3, 4).reshape(VIEW * SIDE, VIEW * SIDE, 3)
    return jnp.pad(image, ((0, 1), (0, 1), (0, 0)))
