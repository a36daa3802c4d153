"""MiniGrid's dynamics and partial view on the device, step for step those of `minigrid`.

Written for one environment; `jax.vmap` makes it many. Seven actions: left, right, forward, pick up, drop, toggle, done.
The view is 7 x 7 cells in front of the agent, walls hide what is behind them.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from cascade_explore.envs.layouts import BALL, DIRECTIONS, DOOR, EMPTY, GOAL, KEY, LOCKED, WALL, Layout, reachable
from cascade_explore.envs.pictures import draw_view
from cascade_explore.envs.spec import Actions, Pixels, Symbols

__all__ = ["ACTIONS", "VIEW", "Grid", "GridState", "make_grid", "observe", "step", "view"]

VIEW = 7
ACTIONS = Actions(7, discrete=True)
LEFT, RIGHT, FORWARD, PICK_UP, DROP, TOGGLE = range(6)
#: Objects, colours and states of the view, then the direction.
OBSERVATION = Symbols(((VIEW * VIEW, 11), (VIEW * VIEW, 6), (VIEW * VIEW, 3), (1, 4)))
_NOTHING = np.array([EMPTY, 0, 0], np.uint8)
_VIEW_X, _VIEW_Y = np.meshgrid(np.arange(VIEW), np.arange(VIEW), indexing="ij")


class GridState(NamedTuple):
    """One environment in the middle of an episode.

    Attributes:
        cells: uint8 `[W, H, 3]`.
        place: x and y of the agent, int32 `[2]`.
        direction: that it faces, int32.
        carried: what it carries as a cell, uint8 `[3]`; empty: nothing.
        time: steps done, int32.
        layout: which of the layouts, int32.
    """

    cells: Array
    place: Array
    direction: Array
    carried: Array
    time: Array
    layout: Array


class Grid(NamedTuple):
    """Fixed layouts of one size.

    Attributes:
        starts: states at the start of an episode, one for each layout.
        reachable: bool `[L, W, H]`.
        limit: steps after which an episode is cut.
        picks_up: an episode ends with the ball picked up, and not at a goal.
        pixels: the view is shown as an image.
    """

    starts: GridState
    reachable: Array
    limit: int
    picks_up: bool
    pixels: bool = False

    @property
    def observation(self) -> Symbols | Pixels:
        """What is observed."""
        return Pixels(3) if self.pixels else OBSERVATION

    @property
    def actions(self) -> Actions:
        """What can be done."""
        return ACTIONS

    def reset(self, key: Array) -> GridState:
        """Return the start of an episode in one of the layouts, drawn uniformly."""
        which = jax.random.randint(key, (), 0, self.reachable.shape[0])
        return jax.tree.map(lambda x: x[which], self.starts)

    def step(self, state: GridState, action: Array) -> tuple[GridState, Array, Array, Array]:
        """Return the next state, the reward, whether it is terminal, and whether the episode is cut here."""
        return step(state, action, limit=self.limit, picks_up=self.picks_up)

    def observe(self, state: GridState) -> Array:
        """Return the observation, uint8: symbols `[148]`, or a flat image."""
        return draw_view(view(state)).ravel() if self.pixels else observe(state)


def make_grid(layouts: list[Layout], *, limit: int, picks_up: bool = False, pixels: bool = False) -> Grid:
    """Return the environment of some layouts of equal size."""
    n = len(layouts)
    starts = GridState(
        cells=jnp.array(np.stack([layout.cells for layout in layouts])),
        place=jnp.array([layout.start for layout in layouts], jnp.int32),
        direction=jnp.array([layout.direction for layout in layouts], jnp.int32),
        carried=jnp.array(np.tile(_NOTHING, (n, 1))),
        time=jnp.zeros(n, jnp.int32),
        layout=jnp.arange(n, dtype=jnp.int32),
    )
    return Grid(starts, jnp.array(np.stack([reachable(layout) for layout in layouts])), limit, picks_up, pixels)


def step(state: GridState, action: Array, *, limit: int, picks_up: bool) -> tuple[GridState, Array, Array, Array]:
    """Return the next state, reward, terminal and cut. The reward of success is 1 - .9 time / limit, as in MiniGrid."""
    ahead = state.place + jnp.asarray(DIRECTIONS, jnp.int32)[state.direction]
    cell = state.cells[ahead[0], ahead[1]]
    kind, colour, status = cell[0], cell[1], cell[2]
    empty, carries = kind == EMPTY, state.carried[0] != EMPTY

    turn = jnp.where(action == LEFT, 3, jnp.where(action == RIGHT, 1, 0))
    walks = (action == FORWARD) & (empty | (kind == GOAL) | ((kind == DOOR) & (status == 0)))
    takes = (action == PICK_UP) & ((kind == KEY) | (kind == BALL)) & ~carries
    drops = (action == DROP) & empty & carries
    fits = (state.carried[0] == KEY) & (state.carried[1] == colour)
    turned = jnp.where(status == LOCKED, jnp.where(fits, 0, LOCKED), 1 - status).astype(jnp.uint8)
    toggles = (action == TOGGLE) & (kind == DOOR)

    after = jnp.where(takes, _NOTHING, jnp.where(drops, state.carried, cell))
    after = jnp.where(toggles, cell.at[2].set(turned), after)
    carried = jnp.where(takes, cell, jnp.where(drops, _NOTHING, state.carried))
    time = state.time + 1
    if picks_up:
        terminal = (action == PICK_UP) & (carried[0] == BALL)
    else:
        terminal = (action == FORWARD) & (kind == GOAL)
    reward = jnp.where(terminal, 1.0 - 0.9 * time / limit, 0.0)
    moved = GridState(
        cells=state.cells.at[ahead[0], ahead[1]].set(after),
        place=jnp.where(walks, ahead, state.place),
        direction=(state.direction + turn) % 4,
        carried=carried,
        time=time,
        layout=state.layout,
    )
    return moved, reward, terminal, (time >= limit) & ~terminal


def observe(state: GridState) -> Array:
    """Return objects, colours and states of the view `[x, y]`, row by row of x, then the direction; uint8 `[148]`."""
    flat = view(state).reshape(VIEW * VIEW, 3).T.ravel()
    return jnp.concatenate([flat, state.direction[None].astype(jnp.uint8)])


def view(state: GridState) -> Array:
    """Return what the agent sees in front of it, and what it carries at its own place, uint8 `[7, 7, 3]`, x first."""
    forward = jnp.asarray(DIRECTIONS, jnp.int32)[state.direction]
    right = jnp.stack([-forward[1], forward[0]])
    up, across = VIEW - 1 - _VIEW_Y, _VIEW_X - VIEW // 2
    x = state.place[0] + forward[0] * up + right[0] * across
    y = state.place[1] + forward[1] * up + right[1] * across
    width, height, _ = state.cells.shape
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    seen = state.cells[jnp.clip(x, 0, width - 1), jnp.clip(y, 0, height - 1)]
    wall = jnp.array([WALL, 5, 0], jnp.uint8)
    seen = jnp.where(inside[..., None], seen, wall)
    opaque = (seen[..., 0] == WALL) | ((seen[..., 0] == DOOR) & (seen[..., 2] != 0))
    shown = jnp.where(_visible(~opaque)[..., None], seen, jnp.uint8(0))
    return shown.at[VIEW // 2, VIEW - 1].set(state.carried)


def _visible(clear: Array) -> Array:
    """Return which cells of a view are seen, bool `[x, y]`, by MiniGrid's rule.

    Row by row from the agent outwards, sight spreads sideways through clear cells, first to the right, then to the
    left; each clear cell it spreads from also shows the cell above it and the one above its neighbour. A row is an
    integer of 7 bits here, so that spreading is a shift.
    """
    everything, power = (1 << VIEW) - 1, 1 << np.arange(VIEW)
    clear_rows = (clear * power[:, None]).sum(0)  # [y]
    rows: list[Array] = [jnp.int32(0)] * VIEW
    row = jnp.int32(1 << (VIEW // 2))
    for y in reversed(range(VIEW)):
        for _ in range(VIEW - 1):
            row = row | ((row & clear_rows[y]) << 1) & everything
        rightward = row & clear_rows[y] & (everything >> 1)  # the last column spreads no further
        for _ in range(VIEW - 1):
            row = row | ((row & clear_rows[y]) >> 1)
        leftward = row & clear_rows[y] & (everything - 1)
        rows[y] = row
        row = (rightward | (rightward << 1) | leftward | (leftward >> 1)) & everything
    return (jnp.stack(rows)[None, :] & power[:, None]) != 0
