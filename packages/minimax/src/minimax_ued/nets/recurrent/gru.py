"""A gated recurrent unit over a whole sequence with resets, differentiated by hand.

    r, z = sigmoid(x_t W_r + b_r + k_t h_{t-1} U_r), sigmoid(x_t W_z + b_z + k_t h_{t-1} U_z)
    n    = tanh(x_t W_n + b_n + r (k_t h_{t-1} U_n + c))
    h_t  = (1 - z) n + z k_t h_{t-1}                     k_t = 0 where the sequence restarts at t, else 1

(Cho et al. 2014, in the form whose reset gate multiplies the product; as flax's `GRUCell`.) As in
`minimax_ued.nets.recurrent.lstm`, only the product with h_{t-1} is inside the loop, in both directions.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from minimax_ued.nets.products import Precision, contract, dot, product
from minimax_ued.nets.recurrent.gates import keep_mask, orthogonal_per_gate

__all__ = ["GRUCore", "GRUParams", "gru_sequence", "gru_sequence_autodiff", "gru_step"]


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


def _cell(projected: Array, recurrent: Array, candidate_bias: Array, before: Array) -> tuple[Array, ...]:
    """Return h_t and r, z, n and m = k_t h_{t-1} U_n + c."""
    pr, pz, pn = jnp.split(projected, 3, axis=-1)
    ur, uz, un = jnp.split(recurrent, 3, axis=-1)
    r, z = jax.nn.sigmoid(pr + ur), jax.nn.sigmoid(pz + uz)
    m = un + candidate_bias
    n = jnp.tanh(pn + r * m)
    return n + z * (before - n), r, z, n, m


def gru_step(params: GRUParams, carry: Array, inputs: Array, resets: Array, dtype: Precision = "float32") -> Array:
    """Advance by one step.

    Args:
        params: the weights.
        carry: h_{t-1}, `[B, H]`.
        inputs: `[B, D]`.
        resets: bool `[B]`; True forgets `carry` first.
        dtype: precision of the products' factors.

    Returns:
        h_t, `[B, H]`: memory and output.
    """
    before = keep_mask(resets, carry) * carry
    projected = product(inputs, params.input_kernel, dtype) + params.bias
    return _cell(projected, product(before, params.recurrent_kernel, dtype), params.candidate_bias, before)[0]


def gru_sequence_autodiff(
    params: GRUParams, carry: Array, inputs: Array, resets: Array, dtype: Precision = "float32"
) -> tuple[Array, Array]:
    """Do what `gru_sequence` does as a plain scan: the yardstick of its tests, and differentiable repeatedly."""

    def body(carry: Array, step: tuple[Array, Array]) -> tuple[Array, Array]:
        hidden = gru_step(params, carry, *step, dtype)
        return hidden, hidden

    return jax.lax.scan(body, carry, (inputs, resets))


@partial(jax.custom_vjp, nondiff_argnums=(4,))
def gru_sequence(
    params: GRUParams, carry: Array, inputs: Array, resets: Array, dtype: Precision = "float32"
) -> tuple[Array, Array]:
    """Run over a whole sequence.

    Reverse-mode differentiable once, with respect to everything but `resets`.

    Args:
        params: the weights.
        carry: memory before the first step, `[B, H]`.
        inputs: `[T, B, D]`.
        resets: bool `[T, B]`; True at t forgets the memory before step t.
        dtype: precision of the products' factors; sums, memory and outputs are float32.

    Returns:
        The memory after the last step, and the outputs h_1 .. h_T, `[T, B, H]`.
    """
    final, hiddens, _ = _forward(params, carry, inputs, resets, dtype)
    return final, hiddens


def _forward(
    params: GRUParams, carry: Array, inputs: Array, resets: Array, dtype: Precision
) -> tuple[Array, Array, Array]:
    projected = dot(inputs, params.input_kernel, dtype) + params.bias
    recurrent_kernel = params.recurrent_kernel.astype(dtype)

    def body(carry: Array, step: tuple[Array, Array]) -> tuple[Array, tuple[Array, Array]]:
        projected, keep = step
        before = keep * carry
        hidden, *gates = _cell(projected, dot(before, recurrent_kernel, dtype), params.candidate_bias, before)
        return hidden, (hidden, jnp.concatenate(gates, axis=-1))

    final, (hiddens, gates) = jax.lax.scan(body, carry, (projected, keep_mask(resets, projected)))
    return final, hiddens, gates


def _forward_with_residuals(params: GRUParams, carry: Array, inputs: Array, resets: Array, dtype: Precision):
    final, hiddens, gates = _forward(params, carry, inputs, resets, dtype)
    return (final, hiddens), (params, carry, inputs, resets, hiddens, gates)


def _backward(dtype, residuals, gradients):
    params, carry, inputs, resets, hiddens, gates = residuals
    final_gradient, hiddens_gradient = gradients
    keep = keep_mask(resets, gates)
    hiddens_before = keep * jnp.concatenate([carry[None], hiddens[:-1]])
    recurrent_transposed = params.recurrent_kernel.T.astype(dtype)

    def body(later: Array, step) -> tuple[Array, Array]:
        dh_out, before, gate, keep = step
        r, z, n, m = jnp.split(gate, 4, axis=-1)
        dh = dh_out + later
        dn = dh * (1 - z) * (1 - n**2)
        dr = dn * m * r * (1 - r)
        dz = dh * (before - n) * z * (1 - z)
        d_recurrent = jnp.concatenate([dr, dz, dn * r], axis=-1)
        return keep * (dh * z + dot(d_recurrent, recurrent_transposed, dtype)), jnp.concatenate([dr, dz, dn], axis=-1)

    steps = (hiddens_gradient, hiddens_before, gates, keep)
    carry_gradient, d_projected = jax.lax.scan(body, final_gradient, steps, reverse=True)
    units = carry.shape[-1]
    d_candidate = d_projected[..., 2 * units :] * gates[..., :units]
    d_recurrent = jnp.concatenate([d_projected[..., : 2 * units], d_candidate], axis=-1)
    params_gradient = GRUParams(
        input_kernel=contract(inputs, d_projected, dtype),
        recurrent_kernel=contract(hiddens_before, d_recurrent, dtype),
        bias=d_projected.sum((0, 1)),
        candidate_bias=d_candidate.sum((0, 1)),
    )
    return params_gradient, carry_gradient, dot(d_projected, params.input_kernel.T, dtype), None


gru_sequence.defvjp(_forward_with_residuals, _backward)


class GRUCore(nn.Module):
    """The GRU as a recurrent core: kernels orthogonal per gate, biases zero; see `minimax_ued.nets.recurrent.cores`.

    Attributes:
        features: H.
        inputs: D.
        dtype: precision of the products' factors.
    """

    features: int
    inputs: int
    dtype: Precision = "float32"

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
        hidden = gru_step(self.weights, carry, inputs, resets, self.dtype)
        return hidden, hidden

    def __call__(self, carry: Array, inputs: Array, resets: Array) -> tuple[Array, Array]:
        """Take a sequence of steps."""
        return gru_sequence(self.weights, carry, inputs, resets, self.dtype)
