"""A gated recurrent unit over a whole sequence with resets.

    r, z = sigmoid(x_t W_r + b_r + k_t h_{t-1} U_r), sigmoid(x_t W_z + b_z + k_t h_{t-1} U_z)
    n    = tanh(x_t W_n + b_n + r (k_t h_{t-1} U_n + c))
    h_t  = (1 - z) n + z k_t h_{t-1}                     k_t = 0 where the sequence restarts at t, else 1

(Cho et al. 2014, in the form whose reset gate multiplies the product; as flax's `GRUCell`.)
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from minimax_ued.nets.products import product
from minimax_ued.nets.recurrent.gates import keep_mask, orthogonal_per_gate

__all__ = ["GRUCore", "GRUParams", "gru_sequence", "gru_step"]


class GRUParams(NamedTuple):
    """Weights of a GRU of H units on D inputs; gates side by side in the order r, z, n.

    Attributes:
        input_kernel: W, `[D, 3H]`.
        recurrent_kernel: U, `[H, 3H]`.
        bias: b, `[3H]`.
        candidate_bias: c, `[H]`, inside the reset gate.
    """

    input_kernel: Array
    recurrent_kernel: Array
    bias: Array
    candidate_bias: Array


def gru_step(params: GRUParams, carry: Array, inputs: Array, resets: Array) -> Array:
    """Advance by one step.

    Args:
        params: the weights.
        carry: h_{t-1}, `[B, H]`.
        inputs: `[B, D]`.
        resets: bool `[B]`; True forgets `carry` first.

    Returns:
        h_t, `[B, H]`: memory and output.
    """
    before = keep_mask(resets, carry) * carry
    pr, pz, pn = jnp.split(product(inputs, params.input_kernel) + params.bias, 3, axis=-1)
    ur, uz, un = jnp.split(product(before, params.recurrent_kernel), 3, axis=-1)
    r, z = jax.nn.sigmoid(pr + ur), jax.nn.sigmoid(pz + uz)
    n = jnp.tanh(pn + r * (un + params.candidate_bias))
    return n + z * (before - n)


def gru_sequence(params: GRUParams, carry: Array, inputs: Array, resets: Array) -> tuple[Array, Array]:
    """Run over a whole sequence.

    Differentiated automatically: a backward pass by hand, as the LSTM has, was no faster on a CPU.

    Args:
        params: the weights.
        carry: memory before the first step, `[B, H]`.
        inputs: `[T, B, D]`.
        resets: bool `[T, B]`; True at t forgets the memory before step t.

    Returns:
        The memory after the last step, and the outputs h_1 .. h_T, `[T, B, H]`.
    """

    def body(carry: Array, step: tuple[Array, Array]) -> tuple[Array, Array]:
        hidden = gru_step(params, carry, *step)
        return hidden, hidden

    return jax.lax.scan(body, carry, (inputs, resets))


class GRUCore(nn.Module):
    """The GRU as a recurrent core: kernels orthogonal per gate, biases zero; see `minimax_ued.nets.recurrent.cores`.

    Attributes:
        features: H.
        inputs: D.
    """

    features: int
    inputs: int

    def setup(self) -> None:
        """Create the parameters (flax)."""
        self.weights = GRUParams(
            self.param("input_kernel", orthogonal_per_gate(3), (self.inputs, 3 * self.features)),
            self.param("recurrent_kernel", orthogonal_per_gate(3), (self.features, 3 * self.features)),
            self.param("bias", nn.initializers.zeros, (3 * self.features,)),
            self.param("candidate_bias", nn.initializers.zeros, (self.features,)),
        )

    def initial_carry(self, batch: int) -> Array:
        """Return the empty memory: zeros `[B, H]`."""
        return jnp.zeros((batch, self.features))

    def step(self, carry: Array, inputs: Array, resets: Array) -> tuple[Array, Array]:
        """Take one step."""
        hidden = gru_step(self.weights, carry, inputs, resets)
        return hidden, hidden

    def __call__(self, carry: Array, inputs: Array, resets: Array) -> tuple[Array, Array]:
        """Take a sequence of steps."""
        return gru_sequence(self.weights, carry, inputs, resets)
