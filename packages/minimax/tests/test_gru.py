import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from minimax_ued.gru import GRUParams, gru_sequence, gru_sequence_autodiff, gru_step

T, B, D, H = 7, 3, 5, 4


@pytest.fixture(scope="module")
def problem():
    keys = jax.random.split(jax.random.key(0), 8)
    params = GRUParams(
        jax.random.normal(keys[0], (D, 3 * H)),
        jax.random.normal(keys[1], (H, 3 * H)),
        jax.random.normal(keys[2], (3 * H,)),
        jax.random.normal(keys[3], (H,)),
    )
    carry = jax.random.normal(keys[4], (B, H))
    inputs = jax.random.normal(keys[5], (T, B, D))
    resets = jax.random.bernoulli(keys[6], 0.3, (T, B)).at[0, 0].set(True).at[0, 1].set(False)
    return params, carry, inputs, resets


def test_equals_the_cell_of_flax(problem):
    params, carry, inputs, resets = problem
    gates = {}
    for i, letter in enumerate("rzn"):
        part = slice(i * H, (i + 1) * H)
        gates["i" + letter] = {"kernel": params.input_kernel[:, part], "bias": params.bias[part]}
        gates["h" + letter] = {"kernel": params.recurrent_kernel[:, part]}
    gates["hn"]["bias"] = params.candidate_bias
    cell, memory, expected = nn.GRUCell(H), carry, []
    for x, reset in zip(inputs, resets, strict=True):
        memory, hidden = cell.apply({"params": gates}, jnp.where(reset[:, None], 0.0, memory), x)
        expected.append(hidden)
    final, hiddens = jax.jit(gru_sequence)(params, carry, inputs, resets)
    np.testing.assert_allclose(hiddens, jnp.stack(expected), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(final, memory, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("seeds", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_gradients_by_hand_equal_automatic_ones(problem, seeds):
    params, carry, inputs, resets = problem
    weights = jax.random.normal(jax.random.key(9), (T, B, H))
    params = jax.tree.map(lambda x: jnp.stack([x, 0.5 * x])[:seeds], params)

    def loss(run, params, carry, inputs):
        final, hiddens = run(params, carry, inputs, resets)
        return (weights * hiddens**2).sum() + (final**3).sum()

    ours, theirs = (
        jax.jit(
            jax.vmap(jax.value_and_grad(lambda *a, run=run: loss(run, *a), argnums=(0, 1, 2)), in_axes=(0, None, None))
        )(params, carry, inputs)
        for run in (gru_sequence, gru_sequence_autodiff)
    )
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(ours[1][1][:, 0], 0)  # nothing of a memory that is forgotten at once


def test_a_reset_splits_a_sequence(problem):
    params, carry, inputs, _ = problem
    resets = jnp.zeros((T, B), bool).at[4].set(True)
    _, whole = gru_sequence(params, carry, inputs, resets)
    _, first = gru_sequence(params, carry, inputs[:4], resets[:4])
    _, second = gru_sequence(params, jnp.zeros_like(carry), inputs[4:], jnp.zeros((3, B), bool))
    np.testing.assert_allclose(whole, jnp.concatenate([first, second]), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(gru_step(params, carry, inputs[4], resets[4]), second[0], rtol=1e-6, atol=1e-6)
