"""The first product of a network over maps of which each differs from the one before in one cell.

A teacher sees the whole map at every step of building a level. Its first two layers are

    f_t = relu(conv3x3(map_t))              P positions of F filters
    y_t = sum_p f_t[p] W_p                  W_p of shape [F, N]

and with 169 positions, 128 filters and the 1024 gate inputs of an LSTM the second one is 22 million multiplications a
step, nearly all arithmetic of PAIRED (Dennis et al. 2020, arXiv 2012.02096; network of Jiang et al. 2023). But from
step to step one cell of the map changes, and with it f at the (at most) nine positions whose window covers that cell:

    y_t = y_{t-1} + sum over the nine p of (f_t[p] - f_{t-1}[p]) W_p

which is exact, and 19 times less for P = 169. Rows of the same p from all steps and environments are gathered into
blocks, so that each block is one small matrix product with one W_p. Gradients run through the same blocks:
with S_t the sum of the gradients of y_t, y_{t+1}, ..., the row of step t has gradient W_p S_t, and W_p gets the outer
products of the rows with their S_t.

The blocks are taken one after the other, which suits a CPU. A GPU multiplies densely in the time that the loop takes.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

__all__ = ["edited_map_product"]

#: Rows of a block: enough for an efficient product, few enough that the last block of each position is not mostly void.
_ROWS = 32


class _Blocks(NamedTuple):
    """Rows sorted by position and cut into blocks of equal position.

    Attributes:
        position: i32[n_blocks].
        row: i32[n_blocks, _ROWS], numbers of rows; the number of rows where there is none.
    """

    position: Array
    row: Array


def _group(position: Array, positions: int) -> _Blocks:
    """Sort rows by `position` (i32[R]; `positions` for rows that are left out) into blocks."""
    n = position.shape[0]
    order = jnp.argsort(position, stable=True)
    sizes = jnp.zeros(positions, jnp.int32).at[position].add(1, mode="drop")
    first_row = jnp.cumsum(sizes) - sizes
    blocks_of = -(-sizes // _ROWS)
    last_block = jnp.cumsum(blocks_of)
    n_blocks = n // _ROWS + positions  # never more: each position leaves at most one block unfilled
    block = jnp.arange(n_blocks)
    owner = jnp.minimum(jnp.searchsorted(last_block, block, side="right"), positions - 1).astype(jnp.int32)
    within = (block - (last_block - blocks_of)[owner])[:, None] * _ROWS + jnp.arange(_ROWS)
    exists = (within < sizes[owner][:, None]) & (block < last_block[-1])[:, None]
    row = jnp.where(exists, order[jnp.clip(first_row[owner][:, None] + within, 0, n - 1)], n)
    return _Blocks(owner, row)


class _Changes(NamedTuple):
    """The windows that change from each map to the next, R = (T - 1) B 9 of them.

    Attributes:
        position: i32[R], which window; P where there is none.
        step: i32[R], which of the T B maps is the later one, counted time first.
        before: f32[R, 9 C], the window in the map before.
        after: f32[R, 9 C].
        valid: bool[], each map differs from the one before in at most one cell.
    """

    position: Array
    step: Array
    before: Array
    after: Array
    valid: Array


def _changes(images: Array) -> _Changes:
    steps, n_envs, height, width, channels = images.shape
    rows, columns = height - 2, width - 2
    changed = jnp.any(images[1:] != images[:-1], axis=-1).reshape(steps - 1, n_envs, -1)
    cell = jnp.argmax(changed, axis=-1)
    offset = jnp.arange(9)
    # The windows that cover a cell start up to two rows above and two columns left of it.
    row = (cell // width)[..., None] - offset // 3
    column = (cell % width)[..., None] - offset % 3
    inside = (row >= 0) & (row < rows) & (column >= 0) & (column < columns) & changed.any(-1)[..., None]
    position = jnp.where(inside, row * columns + column, rows * columns)
    corner = jnp.where(inside, row * width + column, 0)[..., None]
    window = corner + (jnp.arange(3)[:, None] * width + jnp.arange(3)).reshape(-1)  # [T - 1, B, 9, 9]
    flat = images.reshape(steps, n_envs, height * width, channels)

    def cut(maps: Array) -> Array:
        take = jax.vmap(jax.vmap(lambda cells, where: cells[where]))
        return take(maps, window).reshape(-1, 9 * channels)

    step = jnp.arange(n_envs, steps * n_envs).reshape(steps - 1, n_envs, 1)
    return _Changes(
        position=position.reshape(-1).astype(jnp.int32),
        step=jnp.broadcast_to(step, position.shape).reshape(-1).astype(jnp.int32),
        before=cut(flat[:-1]),
        after=cut(flat[1:]),
        valid=jnp.all(changed.sum(-1) <= 1),
    )


def _features(kernel: Array, bias: Array, windows: Array) -> Array:
    return jax.nn.relu(windows @ kernel.reshape(-1, kernel.shape[-1]) + bias)


def _first_map(kernel: Array, bias: Array, weights: Array, images: Array) -> Array:
    """Return y of single maps `[B, H, W, C]`, densely: `[B, N]`."""
    n_envs, height, width, _ = images.shape
    windows = [images[:, i : height - 2 + i, j : width - 2 + j] for i in range(3) for j in range(3)]
    return _features(kernel, bias, jnp.concatenate(windows, -1)).reshape(n_envs, -1) @ weights


def _differences(kernel: Array, bias: Array, changes: _Changes) -> Array:
    """f_t[p] - f_{t-1}[p] for each window that changes, f32[R, F]."""
    return _features(kernel, bias, changes.after) - _features(kernel, bias, changes.before)


def edited_map_product(images: Array, kernel: Array, bias: Array, weights: Array) -> Array:
    """Return y for sequences of maps: `relu(conv(images)).reshape(T, B, P F) @ weights`.

    Differentiable with respect to the weights, not the images.

    Args:
        images: f32[T, B, H, W, C], each differing from the one before in at most one cell. Where that does not hold
            the result is NaN, as loud as it can be inside a compiled program.
        kernel: f32[3, 3, C, F], a VALID convolution.
        bias: f32[F].
        weights: W, f32[P F, N] with P = (H - 2)(W - 2), position by position.

    Returns:
        f32[T, B, N].
    """
    if images.shape[0] == 1:
        return _first_map(kernel, bias, weights, images[0])[None]
    return _sequence(images, kernel, bias, weights)


@jax.custom_vjp
def _sequence(images: Array, kernel: Array, bias: Array, weights: Array) -> Array:
    return _forward(images, kernel, bias, weights)[0]


def _forward(images: Array, kernel: Array, bias: Array, weights: Array):
    steps, n_envs = images.shape[:2]
    filters, outputs = kernel.shape[-1], weights.shape[-1]
    by_position = weights.reshape(-1, filters, outputs)
    changes = _changes(images)
    blocks = _group(changes.position, by_position.shape[0])
    difference = jnp.concatenate([_differences(kernel, bias, changes), jnp.zeros((1, filters))])
    target = jnp.concatenate([changes.step, jnp.array([steps * n_envs], jnp.int32)])

    def add(y: Array, block: _Blocks) -> tuple[Array, None]:
        product = difference[block.row] @ by_position[block.position]
        return y.at[target[block.row]].add(product, mode="drop"), None

    y, _ = jax.lax.scan(add, jnp.zeros((steps * n_envs, outputs)), blocks)
    y = y.at[:n_envs].set(_first_map(kernel, bias, weights, images[0]))
    y = jnp.cumsum(y.reshape(steps, n_envs, outputs), axis=0)
    y = jnp.where(changes.valid, y, jnp.nan)
    return y, (images, kernel, bias, weights, changes, blocks, difference, target)


def _backward(residuals, gradient: Array):
    images, kernel, bias, weights, changes, blocks, difference, target = residuals
    outputs = gradient.shape[-1]
    filters = kernel.shape[-1]
    by_position = weights.reshape(-1, filters, outputs)
    later = jnp.flip(jnp.cumsum(jnp.flip(gradient, 0), axis=0), 0)  # S
    later_rows = jnp.concatenate([later.reshape(-1, outputs), jnp.zeros((1, outputs))])

    def first(kernel: Array, bias: Array, weights: Array) -> Array:
        return _first_map(kernel, bias, weights, images[0])

    kernel_gradient, bias_gradient, weights_gradient = jax.vjp(first, kernel, bias, weights)[1](later[0])

    def step(carry: tuple[Array, Array], block: _Blocks) -> tuple[tuple[Array, Array], None]:
        rows_gradient, weights_gradient = carry
        after = later_rows[target[block.row]]
        rows_gradient = rows_gradient.at[block.row].set(after @ by_position[block.position].T, mode="drop")
        outer = difference[block.row].T @ after
        return (rows_gradient, weights_gradient.at[block.position].add(outer)), None

    carry = (jnp.zeros((difference.shape[0] - 1, filters)), weights_gradient.reshape(by_position.shape))
    (rows_gradient, weights_gradient), _ = jax.lax.scan(step, carry, blocks)
    more = jax.vjp(lambda kernel, bias: _differences(kernel, bias, changes), kernel, bias)[1](rows_gradient)
    return (
        jnp.zeros_like(images),
        kernel_gradient + more[0],
        bias_gradient + more[1],
        weights_gradient.reshape(weights.shape),
    )


_sequence.defvjp(_forward, _backward)
