import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from minimax_ued.config import GRUConfig, LSTMConfig, S5Config, StudentConfig
from minimax_ued.envs.maze.observe import Observation
from minimax_ued.nets.encoders import ConvEncoder
from minimax_ued.nets.recurrent.lstm import LSTMCarry, LSTMParams, lstm_sequence, lstm_step
from minimax_ued.nets.students import make_student
from paperloop.errors import UserError

T, B, D, H = 7, 3, 5, 4
TINY = StudentConfig(core=LSTMConfig(features=8), head_width=4, conv_filters=3, dense_width=6)
CORES = {
    "lstm": LSTMConfig(features=8),
    "gru": GRUConfig(features=8),
    "s5": S5Config(features=8, state=8, blocks=2),
}
TOLERANCE = {"lstm": 1e-5, "gru": 1e-5, "s5": 1e-4}


def lstm_sequence_autodiff(params, carry, inputs, resets):
    """The LSTM as a plain scan of its steps."""

    def body(carry, step):
        carry = lstm_step(params, carry, *step)
        return carry, carry.hidden

    return jax.lax.scan(body, carry, (inputs, resets))


@pytest.fixture(scope="module")
def problem():
    rng = np.random.default_rng(0)  # not jax.random, each of whose calls would be compiled

    def normal(*shape):
        return jnp.asarray(rng.normal(size=shape), jnp.float32)

    params = LSTMParams(normal(D, 4 * H), normal(H, 4 * H), normal(4 * H))
    carry, inputs = LSTMCarry(normal(B, H), normal(B, H)), normal(T, B, D)
    resets = rng.random((T, B)) < 0.3
    resets[0, :2] = True, False
    return params, carry, inputs, jnp.asarray(resets)


def test_gradients_by_hand_equal_automatic_ones(problem):
    params, carry, inputs, resets = problem
    weights = np.random.default_rng(9).normal(size=(T, B, H)).astype(np.float32)

    def loss(run, params, carry, inputs):
        final, hiddens = run(params, carry, inputs, resets)
        return (weights * hiddens**2).sum() + (final.cell**3).sum() + jnp.sin(final.hidden).sum()

    ours, theirs = (
        jax.jit(jax.value_and_grad(lambda *a, run=run: loss(run, *a), argnums=(0, 1, 2)))(params, carry, inputs)
        for run in (lstm_sequence, lstm_sequence_autodiff)
    )
    ours, theirs = jax.device_get((ours, theirs))
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
    assert np.abs(ours[1][1].hidden[1]).max() > 0  # the first memory matters where it is not forgotten
    np.testing.assert_array_equal(ours[1][1].hidden[0], 0)  # and not where it is


@pytest.mark.slow
def test_gradients_under_vmap(problem):
    params, carry, inputs, resets = problem
    stacked = jax.tree.map(lambda x: jnp.stack([x, 2 * x]), params)
    grad = jax.grad(lambda p, run: (run(p, carry, inputs, resets)[1] ** 2).sum())
    ours = jax.vmap(lambda p: grad(p, lstm_sequence))(stacked)
    theirs = jax.vmap(lambda p: grad(p, lstm_sequence_autodiff))(stacked)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), ours, theirs)


@pytest.mark.slow
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

    @jax.jit
    def run(params, carry, inputs):
        resets = jnp.zeros((T, B), bool).at[4].set(True)
        _, whole = lstm_sequence(params, carry, inputs, resets)
        _, first = lstm_sequence(params, carry, inputs[:4], resets[:4])
        empty = jax.tree.map(jnp.zeros_like, carry)
        _, second = lstm_sequence(params, empty, inputs[4:], jnp.zeros((3, B), bool))
        return whole, first, second, lstm_step(params, carry, inputs[4], resets[4])

    whole, first, second, stepped = run(params, carry, inputs)
    np.testing.assert_allclose(whole, np.concatenate([first, second]), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(stepped.hidden, second[0], rtol=1e-6, atol=1e-6)


def view(*leading):
    """The shapes of an observation of the maze."""
    image = jax.ShapeDtypeStruct((*leading, 5, 5, 3), jnp.float32)
    return Observation(image=image, direction=jax.ShapeDtypeStruct(leading, jnp.int32))


def observations(key, *leading):
    image_key, direction_key = jax.random.split(key)
    image = jax.random.randint(image_key, (*leading, 5, 5, 3), 0, 9) / 10
    return Observation(image=image, direction=jax.random.randint(direction_key, leading, 0, 4))


def at(tree, index):
    return jax.tree.map(lambda x: x[index], tree)


def close(a, b, tolerance):
    """Equal up to rounding: an entry that is small because large ones cancel is held against the largest."""
    assert jax.tree.structure(a) == jax.tree.structure(b)

    def check(x, y):
        scale = max(1.0, float(np.abs(y).max()) * 0.01)
        np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance * scale)

    jax.tree.map(check, a, b)


def count(student, observation):
    shapes = jax.eval_shape(
        lambda key, seen: student.init(key, student.initial_carry(1), seen, jnp.ones((1, 1), bool)),
        jax.random.key(0),
        observation,
    )
    return sum(x.size for x in jax.tree.leaves(shapes))


# The published student with LSTM and with S5; with a GRU: the LSTM's without its fourth gate and with one more bias.
@pytest.mark.parametrize(
    ("arch", "size"), [("lstm", 432_924), ("s5", 451_612), ("gru", 432_924 - (149 + 256 + 1) * 256 + 256)]
)
def test_the_default_student_has_the_published_number_of_parameters(arch, size):
    core = {"lstm": LSTMConfig(), "s5": S5Config(), "gru": GRUConfig()}[arch]
    student = make_student(StudentConfig(core=core), num_actions=7, observation=view())
    assert count(student, view(1, 1)) == size


@pytest.fixture(
    scope="module", params=["lstm", *(pytest.param(arch, marks=pytest.mark.slow) for arch in ("gru", "s5"))]
)
def play(request):
    """An architecture, its student, random variables (not the special initial ones), and a sequence."""
    config = dataclasses.replace(TINY, core=CORES[request.param])
    student = make_student(config, num_actions=7, observation=view())
    rng = np.random.default_rng(0)
    codes, directions = rng.integers(9, size=(T, B, 5, 5, 3)), rng.integers(4, size=(T, B))
    seen = Observation(image=jnp.asarray(codes / 10, jnp.float32), direction=jnp.asarray(directions, jnp.int32))
    resets = rng.random((T, B)) < 0.3
    resets[0] = True, False, False
    resets, carry = jnp.asarray(resets), student.initial_carry(B)
    params = jax.tree.map(
        lambda x: jnp.asarray(0.4 * rng.normal(size=x.shape), x.dtype),
        jax.eval_shape(student.init, jax.random.key(0), carry, seen, resets),
    )
    carry = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape), x.dtype), carry)
    return request.param, student, params, carry, seen, resets


def stepwise(student):
    def run(params, carry, seen, resets):
        def body(carry, now):
            return student.apply(params, carry, *now, method="step")

        return jax.lax.scan(body, carry, (seen, resets))

    return run


def test_a_sequence_equals_its_steps_in_values_and_gradients(play):
    arch, student, params, carry, seen, resets = play
    weights = np.random.default_rng(9).normal(size=(T, B)).astype(np.float32)

    def loss(run, params, carry):
        final, output = run(params, carry, seen, resets)
        parts = [(weights * output.value).sum(), (weights[..., None] * output.logits**2).sum()]
        return sum(parts) + sum((x**2).sum() for x in jax.tree.leaves(final)), (final, output)

    ours, theirs = (
        jax.jit(jax.value_and_grad(lambda *a, run=run: loss(run, *a), argnums=(0, 1), has_aux=True))(params, carry)
        for run in (student.apply, stepwise(student))
    )
    ours, theirs = jax.device_get((ours, theirs))
    close(ours[0][1], theirs[0][1], TOLERANCE[arch])
    close(ours[1], theirs[1], 1e-4)
    gradient = jax.tree.leaves(ours[1][1])[0]
    assert np.abs(gradient[1]).max() > 0  # the first memory matters where it is not forgotten
    np.testing.assert_array_equal(gradient[0], 0)  # and not where it is


@pytest.mark.slow
def test_a_stored_memory_continues_a_sequence_and_a_reset_forgets_it(play):
    arch, student, params, carry, seen, resets = play
    run = jax.jit(student.apply)
    final, whole = run(params, carry, seen, resets)
    stored, _ = run(params, carry, at(seen, slice(4)), resets[:4])
    for memory, flags in ((stored, resets[4:]), (student.initial_carry(B), resets[4:])):
        resumed, rest = run(params, memory, at(seen, slice(4, None)), flags)
        if memory is stored:
            close((resumed, rest), (final, at(whole, slice(4, None))), TOLERANCE[arch])
        else:
            assert np.abs(rest.value - whole.value[4:]).max() > 1e-3  # it mattered
    # All resets at 4: nothing from before is left, whatever it was.
    forgetful = resets.at[4].set(True)
    _, split = run(params, carry, seen, forgetful)
    _, alone = run(params, student.initial_carry(B), at(seen, slice(4, None)), resets[4:])
    close(at(split, slice(4, None)), alone, TOLERANCE[arch])


@pytest.mark.slow
def test_seeds_by_vmap_and_a_batch_of_one(play):
    arch, student, params, carry, seen, resets = play
    run = jax.jit(student.apply)
    _, expected = run(params, carry, seen, resets)
    stacked = jax.tree.map(lambda x: jnp.stack([x, 1.1 * x]), params)
    _, output = jax.jit(jax.vmap(student.apply, (0, None, None, None)))(stacked, carry, seen, resets)
    close(at(output, 0), expected, TOLERANCE[arch])
    _, other = run(at(stacked, 1), carry, seen, resets)
    close(at(output, 1), other, TOLERANCE[arch])
    _, one = run(params, jax.tree.map(lambda x: x[1:2], carry), at(seen, (slice(None), slice(1, 2))), resets[:, 1:2])
    close(one, at(expected, (slice(None), slice(1, 2))), TOLERANCE[arch])


@pytest.mark.slow
def test_students_start_undecided_and_are_equal_by_value():
    student = make_student(TINY, num_actions=7, observation=view())
    again = make_student(TINY, num_actions=7, observation=observations(jax.random.key(0)))
    assert student == again
    assert hash(student) == hash(again)
    assert student != make_student(TINY, num_actions=6, observation=view())
    seen, resets = observations(jax.random.key(1), T, B), jnp.zeros((T, B), bool)
    carry = student.initial_carry(B)
    _, output = student.init_with_output(jax.random.key(2), carry, seen, resets)[0]
    np.testing.assert_allclose(output.logits - output.logits[..., :1], 0, atol=1e-6)
    assert output.value.shape == (T, B)


@pytest.mark.slow
def test_the_encoder_is_a_convolution():
    encoder = ConvEncoder(filters=4, direction_embedding=3)
    codes = observations(jax.random.key(2), 6)
    params = encoder.init(jax.random.key(2), codes)
    features = encoder.apply(params, codes)
    kernel = params["params"]["kernel"]
    expected = jax.lax.conv_general_dilated(
        codes.image, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    np.testing.assert_allclose(features[:, :-3], nn.relu(expected).reshape(6, -1), rtol=1e-5, atol=1e-5)
    table = params["params"]["Embed_0"]["embedding"]
    np.testing.assert_allclose(features[:, -3:], table[codes.direction], rtol=1e-6)
    np.testing.assert_allclose(table.T @ table, np.eye(3), atol=1e-5)


@pytest.mark.slow
def test_vectors_get_a_dense_layer():
    student = make_student(TINY, num_actions=2, observation=jax.ShapeDtypeStruct((4,), jnp.float32))
    seen, resets = jax.random.normal(jax.random.key(0), (T, B, 4)), jnp.zeros((T, B), bool)
    carry = student.initial_carry(B)
    params = student.init(jax.random.key(1), carry, seen, resets)
    dense = params["params"]["encoder"]["Linear_0"]
    np.testing.assert_allclose(dense["kernel"] @ dense["kernel"].T, 2 * np.eye(4), atol=1e-5)
    encoded = student.bind(params).encoder(seen)
    np.testing.assert_allclose(encoded, np.maximum(np.asarray(seen) @ dense["kernel"], 0), rtol=1e-5, atol=1e-6)
    assert student.apply(params, carry, seen, resets)[1].logits.shape == (T, B, 2)


@pytest.mark.parametrize("observation", [np.zeros((2, 2)), {"x": np.zeros(3)}, view(1)])
def test_other_observations_are_refused(observation):
    with pytest.raises(UserError, match="make_student got as observation"):
        make_student(TINY, num_actions=2, observation=observation)
