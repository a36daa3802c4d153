import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from minimax_ued.config import StudentConfig
from minimax_ued.envs.maze.observe import Observation
from minimax_ued.lstm import LSTMCarry, LSTMParams, lstm_sequence, lstm_sequence_autodiff, lstm_step
from minimax_ued.students import ConvEncoder, make_student

T, B, D, H = 7, 3, 5, 4


@pytest.fixture(scope="module")
def problem():
    keys = jax.random.split(jax.random.key(0), 8)
    params = LSTMParams(
        jax.random.normal(keys[0], (D, 4 * H)),
        jax.random.normal(keys[1], (H, 4 * H)),
        jax.random.normal(keys[2], (4 * H,)),
    )
    carry = LSTMCarry(jax.random.normal(keys[3], (B, H)), jax.random.normal(keys[4], (B, H)))
    inputs = jax.random.normal(keys[5], (T, B, D))
    resets = jax.random.bernoulli(keys[6], 0.3, (T, B)).at[0, 0].set(True).at[0, 1].set(False)
    return params, carry, inputs, resets


def test_gradients_by_hand_equal_automatic_ones(problem):
    params, carry, inputs, resets = problem
    weights = jax.random.normal(jax.random.key(9), (T, B, H))

    def loss(run, params, carry, inputs):
        final, hiddens = run(params, carry, inputs, resets)
        return (weights * hiddens**2).sum() + (final.cell**3).sum() + jnp.sin(final.hidden).sum()

    ours, theirs = (
        jax.jit(jax.value_and_grad(lambda *a, run=run: loss(run, *a), argnums=(0, 1, 2)))(params, carry, inputs)
        for run in (lstm_sequence, lstm_sequence_autodiff)
    )
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
    assert np.abs(ours[1][1].hidden[1]).max() > 0  # the first memory matters where it is not forgotten
    np.testing.assert_array_equal(ours[1][1].hidden[0], 0)  # and not where it is


def test_gradients_under_vmap(problem):
    params, carry, inputs, resets = problem
    stacked = jax.tree.map(lambda x: jnp.stack([x, 2 * x]), params)
    grad = jax.grad(lambda p, run: (run(p, carry, inputs, resets)[1] ** 2).sum())
    ours = jax.vmap(lambda p: grad(p, lstm_sequence))(stacked)
    theirs = jax.vmap(lambda p: grad(p, lstm_sequence_autodiff))(stacked)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), ours, theirs)


def test_equals_the_cell_of_flax(problem):
    params, carry, inputs, resets = problem
    gate = {}
    for name, kernel in (("i", params.input_kernel), ("h", params.recurrent_kernel)):
        for i, letter in enumerate("ifgo"):
            gate[name + letter] = {"kernel": kernel[:, i * H : (i + 1) * H]}
            if name == "h":
                gate[name + letter]["bias"] = params.bias[i * H : (i + 1) * H]
    cell = nn.OptimizedLSTMCell(H)
    memory, expected = tuple(carry), []
    for x, reset in zip(inputs, resets, strict=True):
        memory = tuple(jnp.where(reset[:, None], 0.0, m) for m in memory)
        memory, hidden = cell.apply({"params": gate}, memory, x)
        expected.append(hidden)
    final, hiddens = lstm_sequence(params, carry, inputs, resets)
    np.testing.assert_allclose(hiddens, jnp.stack(expected), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(final.cell, memory[0], rtol=1e-5, atol=1e-6)


def test_a_reset_splits_a_sequence(problem):
    params, carry, inputs, _ = problem
    resets = jnp.zeros((T, B), bool).at[4].set(True)
    _, whole = lstm_sequence(params, carry, inputs, resets)
    _, first = lstm_sequence(params, carry, inputs[:4], resets[:4])
    empty = jax.tree.map(jnp.zeros_like, carry)
    _, second = lstm_sequence(params, empty, inputs[4:], jnp.zeros((3, B), bool))
    np.testing.assert_allclose(whole, jnp.concatenate([first, second]), rtol=1e-6, atol=1e-6)
    stepped = lstm_step(params, carry, inputs[4], resets[4])
    np.testing.assert_allclose(stepped.hidden, second[0], rtol=1e-6, atol=1e-6)


def observations(key, *leading, dtype=jnp.float32):
    image_key, direction_key = jax.random.split(key)
    codes = jax.random.randint(image_key, (*leading, 5, 5, 3), 0, 9)
    image = codes.astype(jnp.uint8) if dtype == jnp.uint8 else codes / 10
    return Observation(image=image, direction=jax.random.randint(direction_key, leading, 0, 4))


def test_the_default_student_has_the_published_number_of_parameters():
    student = make_student(StudentConfig(), num_actions=7, view_size=5)
    shapes = jax.eval_shape(
        lambda key: student.init(key, student.initial_carry(1), observations(key, 1, 1), jnp.ones((1, 1), bool)),
        jax.random.key(0),
    )
    assert sum(x.size for x in jax.tree.leaves(shapes)) == 432_924


def test_a_sequence_equals_its_steps_and_starts_undecided():
    student = make_student(StudentConfig(features=8, head_width=4), num_actions=7, view_size=5)
    key = jax.random.key(1)
    seen, resets = observations(key, T, B), jax.random.bernoulli(key, 0.3, (T, B))
    carry = student.initial_carry(B)
    params = student.init(key, carry, seen, resets)
    final, output = student.apply(params, carry, seen, resets)
    np.testing.assert_allclose(output.logits - output.logits[..., :1], 0, atol=1e-6)
    assert output.value.shape == (T, B)
    for t in range(T):
        carry, step = student.apply(params, carry, jax.tree.map(lambda x: x[t], seen), resets[t], method="step")  # noqa: B023
        np.testing.assert_allclose(step.value, output.value[t], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(carry.cell, final.cell, rtol=1e-5, atol=1e-6)


def test_the_encoder_is_a_convolution_and_takes_codes_as_well():
    encoder = ConvEncoder(filters=4, direction_embedding=3)
    key = jax.random.key(2)
    codes = observations(key, 6, dtype=jnp.uint8)
    params = encoder.init(key, codes.image, codes.direction)
    features = encoder.apply(params, codes.image, codes.direction)
    kernel = params["params"]["kernel"]
    expected = jax.lax.conv_general_dilated(
        codes.image / 10, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    np.testing.assert_allclose(features[:, :-3], nn.relu(expected).reshape(6, -1), rtol=1e-5, atol=1e-5)
    table = params["params"]["Embed_0"]["embedding"]
    np.testing.assert_allclose(features[:, -3:], table[codes.direction], rtol=1e-6)
    np.testing.assert_allclose(table.T @ table, np.eye(3), atol=1e-5)
    np.testing.assert_allclose(encoder.apply(params, codes.image / 10, codes.direction), features, rtol=1e-6)
