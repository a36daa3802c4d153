"""Where agents were, for labels: the grid's steps done again from the actions that a replay holds."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from cascade_explore.envs.grid import Grid, GridState
from paperloop.errors import UserError

__all__ = ["places"]


def places(grid: Grid, observation: np.ndarray, action: np.ndarray, first: np.ndarray) -> dict[str, np.ndarray]:
    """Return each row's `place`, x and y, int `[N, T, 2]`, and `layout`, int `[N, T]`.

    A replay holds views, and no places. The grid is deterministic, so an episode is done again in every layout; its own
    is the one that gives its views (the first, where several do).

    Args:
        grid: the environment.
        observation: `[N, T, n]`.
        action: that led to each row, indices `[N, T]`.
        first: rows where an episode begins, `[N, T]`.

    Raises:
        UserError: an episode fits no layout.
    """
    rules = (grid.limit, grid.picks_up, grid.pixels)
    place, same = jax.jit(_again, static_argnums=0)(rules, grid.starts, observation, action, first)
    place, same = np.asarray(place), np.asarray(same)  # [N, L, T, ...]
    streams, _, steps = same.shape
    found, layout = np.zeros((streams, steps, 2), int), np.zeros((streams, steps), int)
    for n in range(streams):
        borders = np.flatnonzero(first[n] | (np.arange(steps) == 0))
        fits = np.logical_and.reduceat(same[n], borders, axis=-1)  # [L, episodes]
        if not fits.any(0).all():
            raise UserError(f"Stream {n} of the replay holds an episode that none of the environment's layouts gives.")
        layout[n] = np.repeat(fits.argmax(0), np.diff([*borders, steps]))
        found[n] = place[n, layout[n], np.arange(steps)]
    return {"place": found, "layout": layout}


def _again(
    rules: tuple[int, bool, bool], starts: GridState, observation: Array, action: Array, first: Array
) -> tuple[Array, Array]:
    """Return places and whether views agree, stream by stream and layout by layout."""
    grid = Grid(starts, jnp.zeros(()), *rules)

    def stream(start: GridState, rows: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        def step(state: GridState, row: tuple[Array, Array, Array]) -> tuple[GridState, tuple[Array, Array]]:
            seen, act, begins = row
            moved = grid.step(state, act.astype(jnp.int32))[0]
            state = jax.tree.map(lambda a, b: jnp.where(begins, a, b), start, moved)
            return state, (state.place, (grid.observe(state) == seen).all())

        return jax.lax.scan(step, start, rows)[1]

    in_layouts = jax.vmap(stream, (0, None))
    return jax.vmap(in_layouts, (None, 0))(starts, (observation, action, first))
