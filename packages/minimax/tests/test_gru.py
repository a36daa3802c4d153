import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from minimax_ued.nets.recurrent.gru import GRUParams, gru_sequence, gru_step

T, B, D, H = 7, 3, 5, 4


@pytest.fixture(scope="module")
def problem():
    rng = np.random.default_rng(0)  # not jax.random, each of whose calls would be compiled

    def normal(*shape):
        return jnp.asarray(rng.normal(size=shape), jnp.float32)

    params = GRUParams(normal(D, 3 * H), normal(H, 3 * H), normal(3 * H), normal(H))
    carry, inputs = normal(B, H), normal(T, B, D)
    resets = rng.random((T, B)) < 0.3
    resets[0, :2] = True, False
    return params, carry, inputs, jnp.asarray(resets)


def flax_sequence(params, carry, inputs, resets):
    gates = {}
    for i, letter in enumerate("rzn"):
        part = slice(i * H, (i + 1) * H)
        gates["i" + letter] = {"kernel": params.input_kernel[:, part], "bias": params.bias[part]}
        gates["h" + letter] = {"kernel": params.recurrent_kernel[:, part]}
    gates["hn"]["bias"] = params.candidate_bias
    return jax.lax.scan(
        lambda memory, step: nn.GRUCell(H).apply({"params": gates}, jnp.where(step[1][:, None], 0.0, memory), step[0]),
        carry,
        (inputs, resets),
    )


def test_values_and_gradients_equal_those_of_the_cell_of_flax(problem):
    params, carry, inputs, resets = problem
    weights = np.random.default_rng(9).normal(size=(T, B, H)).astype(np.float32)

    def loss(run, params, carry, inputs):
        final, hiddens = run(params, carry, inputs, resets)
        return (weights * hiddens**2).sum() + (final**3).sum(), (final, hiddens)

    ours, theirs = (
        jax.jit(jax.value_and_grad(lambda *a, run=run: loss(run, *a), argnums=(0, 1, 2), has_aux=True))(
            params, carry, inputs
        )
        for run in (gru_sequence, flax_sequence)
    )
    ours, theirs = jax.device_get((ours, theirs))
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(ours[1][1][0], 0)  # nothing of a memory that is forgotten at once


def test_a_reset_splits_a_sequence(problem):
    params, carry, inputs, _ = problem

    @jax.jit
    def run(params, carry, inputs):
        resets = jnp.zeros((T, B), bool).at[4].set(True)
        _, whole = gru_sequence(params, carry, inputs, resets)
        _, first = gru_sequence(params, carry, inputs[:4], resets[:4])
        _, second = gru_sequence(params, jnp.zeros_like(carry), inputs[4:], jnp.zeros((3, B), bool))
        return whole, first, second, gru_step(params, carry, inputs[4], resets[4])

    whole, first, second, stepped = run(params, carry, inputs)
    np.testing.assert_allclose(whole, np.concatenate([first, second]), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(stepped, second[0], rtol=1e-6, atol=1e-6)
