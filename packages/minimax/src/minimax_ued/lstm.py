"""A long short-term memory over a whole sequence with resets, differentiated by hand.

    z_t = x_t W + k_t h_{t-1} U + b                 k_t = 0 where the sequence starts anew at t, else 1
    i, f, g, o = sigmoid, sigmoid, tanh, sigmoid of the four quarters of z_t
    c_t = f k_t c_{t-1} + i g
    h_t = o tanh(c_t)

(Hochreiter and Schmidhuber 1997; gate order and single bias as in flax's `OptimizedLSTMCell`.)

Only h_{t-1} U has to wait for the step before. The input projection of all steps is one matrix product before the
loop, and so are all weight gradients after the backward loop. Automatic differentiation of a scan adds up the weight
gradients inside the loop instead: T small products, and, where the batch is split over devices, T sums over devices
instead of one.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

__all__ = ["LSTMCarry", "LSTMParams", "lstm_sequence", "lstm_sequence_autodiff", "lstm_step"]


class LSTMParams(NamedTuple):
    """Weights of an LSTM of H units on D inputs.

    Attributes:
        input_kernel: W, `[D, 4H]`.
        recurrent_kernel: U, `[H, 4H]`.
        bias: b, `[4H]`.
    """

    input_kernel: Array
    recurrent_kernel: Array
    bias: Array


class LSTMCarry(NamedTuple):
    """The memory between two steps: cell c and output h, each `[B, H]`."""

    cell: Array
    hidden: Array


def _gates(z: Array) -> tuple[Array, Array, Array, Array]:
    i, f, g, o = jnp.split(z, 4, axis=-1)
    return jax.nn.sigmoid(i), jax.nn.sigmoid(f), jnp.tanh(g), jax.nn.sigmoid(o)


def _flat(x: Array) -> Array:
    # One contracted axis: XLA's CPU client is 1.6 times as slow on a contraction over time and batch as two axes.
    return x.reshape(-1, x.shape[-1])


def _keep(resets: Array, like: Array) -> Array:
    return (~resets)[..., None].astype(like.dtype)


def lstm_step(params: LSTMParams, carry: LSTMCarry, inputs: Array, resets: Array) -> LSTMCarry:
    """Advance by one step.

    Args:
        params: the weights.
        carry: memory after the step before, `[B, H]` each.
        inputs: `[B, D]`.
        resets: bool `[B]`; True forgets `carry` first.

    Returns:
        The memory after this step; its `hidden` is the output.
    """
    keep = _keep(resets, inputs)
    z = inputs @ params.input_kernel + (keep * carry.hidden) @ params.recurrent_kernel + params.bias
    i, f, g, o = _gates(z)
    cell = f * (keep * carry.cell) + i * g
    return LSTMCarry(cell, o * jnp.tanh(cell))


def lstm_sequence_autodiff(
    params: LSTMParams, carry: LSTMCarry, inputs: Array, resets: Array
) -> tuple[LSTMCarry, Array]:
    """Do what `lstm_sequence` does as a plain scan: the yardstick of its tests, and differentiable repeatedly."""

    def body(carry: LSTMCarry, step: tuple[Array, Array]) -> tuple[LSTMCarry, Array]:
        carry = lstm_step(params, carry, *step)
        return carry, carry.hidden

    return jax.lax.scan(body, carry, (inputs, resets))


@jax.custom_vjp
def lstm_sequence(params: LSTMParams, carry: LSTMCarry, inputs: Array, resets: Array) -> tuple[LSTMCarry, Array]:
    """Run over a whole sequence.

    Reverse-mode differentiable once, with respect to everything but `resets`.

    Args:
        params: the weights.
        carry: memory before the first step, `[B, H]` each.
        inputs: `[T, B, D]`.
        resets: bool `[T, B]`; True at t forgets the memory before step t.

    Returns:
        The memory after the last step, and the outputs h_1 .. h_T, `[T, B, H]`.
    """
    final, hiddens, *_ = _forward(params, carry, inputs, resets)
    return final, hiddens


def _forward(
    params: LSTMParams, carry: LSTMCarry, inputs: Array, resets: Array
) -> tuple[LSTMCarry, Array, Array, Array]:
    projected = inputs @ params.input_kernel + params.bias

    def body(carry: LSTMCarry, step: tuple[Array, Array]) -> tuple[LSTMCarry, tuple[Array, Array, Array]]:
        z, keep = step
        i, f, g, o = _gates(z + (keep * carry.hidden) @ params.recurrent_kernel)
        cell = f * (keep * carry.cell) + i * g
        hidden = o * jnp.tanh(cell)
        return LSTMCarry(cell, hidden), (hidden, cell, jnp.concatenate([i, f, g, o], axis=-1))

    final, (hiddens, cells, gates) = jax.lax.scan(body, carry, (projected, _keep(resets, projected)))
    return final, hiddens, cells, gates


def _forward_with_residuals(params: LSTMParams, carry: LSTMCarry, inputs: Array, resets: Array):
    final, hiddens, cells, gates = _forward(params, carry, inputs, resets)
    return (final, hiddens), (params, carry, inputs, resets, hiddens, cells, gates)


def _backward(residuals, gradients):
    params, carry, inputs, resets, hiddens, cells, gates = residuals
    final_gradient, hiddens_gradient = gradients
    keep = _keep(resets, gates)
    cells_before = keep * jnp.concatenate([carry.cell[None], cells[:-1]])
    hiddens_before = keep * jnp.concatenate([carry.hidden[None], hiddens[:-1]])
    recurrent_transposed = params.recurrent_kernel.T

    def body(later: LSTMCarry, step) -> tuple[LSTMCarry, Array]:
        dh_out, cell, cell_before, gate, keep = step
        i, f, g, o = jnp.split(gate, 4, axis=-1)
        dh = dh_out + later.hidden
        tanh_cell = jnp.tanh(cell)
        dc = later.cell + dh * o * (1 - tanh_cell**2)
        dz = jnp.concatenate(
            [
                dc * g * i * (1 - i),
                dc * cell_before * f * (1 - f),
                dc * i * (1 - g**2),
                dh * tanh_cell * o * (1 - o),
            ],
            axis=-1,
        )
        return LSTMCarry(keep * dc * f, keep * (dz @ recurrent_transposed)), dz

    steps = (hiddens_gradient, cells, cells_before, gates, keep)
    carry_gradient, dz = jax.lax.scan(body, LSTMCarry(*final_gradient), steps, reverse=True)
    params_gradient = LSTMParams(
        input_kernel=_flat(inputs).T @ _flat(dz),
        recurrent_kernel=_flat(hiddens_before).T @ _flat(dz),
        bias=dz.sum((0, 1)),
    )
    return params_gradient, carry_gradient, dz @ params.input_kernel.T, None


lstm_sequence.defvjp(_forward_with_residuals, _backward)
