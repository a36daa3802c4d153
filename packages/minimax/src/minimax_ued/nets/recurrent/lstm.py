"""A long short-term memory over a whole sequence with resets, differentiated by hand.

    z_t = x_t W + k_t h_{t-1} U + b                 k_t = 0 where the sequence restarts at t, else 1
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
from flax import linen as nn
from jax import Array

from minimax_ued.nets.products import contract, product
from minimax_ued.nets.recurrent.gates import keep_mask, orthogonal_per_gate

__all__ = ["LSTMCarry", "LSTMCore", "LSTMParams", "lstm_projected", "lstm_sequence", "lstm_step"]


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
    keep = keep_mask(resets, inputs)
    z = product(inputs, params.input_kernel) + params.bias
    z = z + product(keep * carry.hidden, params.recurrent_kernel)
    i, f, g, o = _gates(z)
    cell = f * (keep * carry.cell) + i * g
    return LSTMCarry(cell, o * jnp.tanh(cell))


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
    projected = product(inputs, params.input_kernel) + params.bias
    return lstm_projected(params.recurrent_kernel, carry, projected, resets)


@jax.custom_vjp
def lstm_projected(
    recurrent_kernel: Array, carry: LSTMCarry, projected: Array, resets: Array
) -> tuple[LSTMCarry, Array]:
    """Do what `lstm_sequence` does, from x_t W + b on.

    Args:
        recurrent_kernel: U, `[H, 4H]`.
        carry: memory before the first step, `[B, H]` each.
        projected: x_t W + b, `[T, B, 4H]`.
        resets: bool `[T, B]`; True at t forgets the memory before step t.
    """
    final, hiddens, *_ = _forward(recurrent_kernel, carry, projected, resets)
    return final, hiddens


def _forward(
    recurrent_kernel: Array, carry: LSTMCarry, projected: Array, resets: Array
) -> tuple[LSTMCarry, Array, Array, Array]:
    def body(carry: LSTMCarry, step: tuple[Array, Array]) -> tuple[LSTMCarry, tuple[Array, Array, Array]]:
        z, keep = step
        i, f, g, o = _gates(z + jnp.matmul(keep * carry.hidden, recurrent_kernel))
        cell = f * (keep * carry.cell) + i * g
        hidden = o * jnp.tanh(cell)
        return LSTMCarry(cell, hidden), (hidden, cell, jnp.concatenate([i, f, g, o], axis=-1))

    final, (hiddens, cells, gates) = jax.lax.scan(body, carry, (projected, keep_mask(resets, projected)))
    return final, hiddens, cells, gates


def _forward_with_residuals(recurrent_kernel: Array, carry: LSTMCarry, projected: Array, resets: Array):
    final, hiddens, cells, gates = _forward(recurrent_kernel, carry, projected, resets)
    return (final, hiddens), (recurrent_kernel, carry, resets, hiddens, cells, gates)


def _backward(residuals, gradients):
    recurrent_kernel, carry, resets, hiddens, cells, gates = residuals
    final_gradient, hiddens_gradient = gradients
    keep = keep_mask(resets, gates)
    cells_before = keep * jnp.concatenate([carry.cell[None], cells[:-1]])
    hiddens_before = keep * jnp.concatenate([carry.hidden[None], hiddens[:-1]])
    recurrent_transposed = recurrent_kernel.T

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
        return LSTMCarry(keep * dc * f, keep * jnp.matmul(dz, recurrent_transposed)), dz

    steps = (hiddens_gradient, cells, cells_before, gates, keep)
    carry_gradient, dz = jax.lax.scan(body, LSTMCarry(*final_gradient), steps, reverse=True)
    return contract(hiddens_before, dz), carry_gradient, dz, None


lstm_projected.defvjp(_forward_with_residuals, _backward)


class LSTMCore(nn.Module):
    """The LSTM as a recurrent core: kernels orthogonal per gate, bias zero; see `minimax_ued.nets.recurrent.cores`.

    Attributes:
        features: H.
        inputs: D.
    """

    features: int
    inputs: int

    def setup(self) -> None:
        """Create the parameters (flax)."""
        self.weights = LSTMParams(
            self.param("input_kernel", orthogonal_per_gate(4), (self.inputs, 4 * self.features)),
            self.param("recurrent_kernel", orthogonal_per_gate(4), (self.features, 4 * self.features)),
            self.param("bias", nn.initializers.zeros, (4 * self.features,)),
        )

    def initial_carry(self, batch: int) -> LSTMCarry:
        """Return the empty memory: zeros, `[B, H]` each."""
        zeros = jnp.zeros((batch, self.features))
        return LSTMCarry(zeros, zeros)

    def step(self, carry: LSTMCarry, inputs: Array, resets: Array) -> tuple[LSTMCarry, Array]:
        """Take one step."""
        carry = lstm_step(self.weights, carry, inputs, resets)
        return carry, carry.hidden

    def __call__(self, carry: LSTMCarry, inputs: Array, resets: Array) -> tuple[LSTMCarry, Array]:
        """Take a sequence of steps."""
        return lstm_sequence(self.weights, carry, inputs, resets)

    def from_projected(self, carry: LSTMCarry, projected: Array, resets: Array) -> tuple[LSTMCarry, Array]:
        """Take a sequence of steps from the projected inputs x_t W + b, `[T, B, 4H]`; W and b are in `weights`."""
        return lstm_projected(self.weights.recurrent_kernel, carry, projected, resets)
