from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from minimax_ued.config import GRUConfig, LSTMConfig, S5Config, TeacherConfig
from minimax_ued.teachers.networks import make_teacher
from paperloop.errors import UserError

T, B, STEPS, ACTIONS, NOISE = 6, 2, 6, 12, 5


class Seen(NamedTuple):
    """An observation of a level editor."""

    image: Any
    time: Any
    noise: Any


def shapes(*leading, height=13, width=13, noise=50):
    struct = jax.ShapeDtypeStruct
    image = struct((*leading, height + 2, width + 2, 3), jnp.float32)
    return Seen(image, struct(leading, jnp.int32), struct((*leading, noise), jnp.float32))


# Published: with the LSTM and 128 filters, and with S5 and 32. With a GRU: less a gate, and with one more bias.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "size"),
    [
        (TeacherConfig(), 22_502_038),
        (TeacherConfig(core=S5Config(), conv_filters=32), 1_819_670),
        (TeacherConfig(core=GRUConfig()), 22_502_038 - (21_692 + 256 + 1) * 256 + 256),
    ],
    ids=["lstm", "s5", "gru"],
)
def test_the_default_teachers_have_the_published_number_of_parameters(config, size):
    teacher = make_teacher(config, num_actions=169, num_steps=62, observation=shapes())
    variables = jax.eval_shape(
        lambda key, seen: teacher.init(key, teacher.initial_carry(1), seen, jnp.ones((1, 1), bool)),
        jax.random.key(0),
        shapes(1, 1),
    )
    assert sum(x.size for x in jax.tree.leaves(variables)) == size


def random(tree, seed, scale=0.3):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: jnp.asarray(scale * rng.normal(size=x.shape), x.dtype), tree)


@pytest.fixture(
    scope="module", params=["lstm", *(pytest.param(arch, marks=pytest.mark.slow) for arch in ("gru", "s5"))]
)
def build(request):
    """A small teacher, random variables, and what it sees while it builds: walls appear one by one."""
    cores = {"lstm": LSTMConfig(features=8), "gru": GRUConfig(features=8), "s5": S5Config(features=8, state=8)}
    config = TeacherConfig(core=cores[request.param], conv_filters=3, head_width=4, time_embedding=2)
    observation = shapes(height=3, width=4, noise=NOISE)
    teacher = make_teacher(config, num_actions=ACTIONS, num_steps=STEPS, observation=observation)
    rng = np.random.default_rng(0)
    order = np.stack([rng.permutation(ACTIONS) for _ in range(B)])
    image = np.tile(np.array([2, 5, 0]) / 10, (T, B, 5, 6, 1))
    image[:, :, 1:-1, 1:-1] = np.array([1, 0, 0]) / 10
    for t in range(1, T):
        for b in range(B):
            row, column = divmod(order[b, t], 4)
            image[t:, b, row + 1, column + 1] = np.array([2, 5, 0]) / 10
    seen = Seen(
        jnp.asarray(image, jnp.float32),
        jnp.asarray(np.tile(np.arange(T)[:, None], (1, B)), jnp.int32),
        jnp.asarray(rng.normal(size=(T, B, NOISE)), jnp.float32),
    )
    resets = jnp.zeros((T, B), bool).at[0].set(True).at[3, 0].set(True)
    carry = teacher.initial_carry(B)
    params = random(jax.eval_shape(teacher.init, jax.random.key(0), carry, seen, resets), 1)
    return request.param, teacher, params, random(carry, 2, 1.0), seen, resets


@pytest.mark.slow
def test_a_sequence_equals_its_steps_in_values_and_gradients(build):
    arch, teacher, params, carry, seen, resets = build
    weights = jax.random.normal(jax.random.key(9), (T, B))

    def stepwise(params, carry, seen, resets):
        return jax.lax.scan(lambda c, now: teacher.apply(params, c, *now, method="step"), carry, (seen, resets))

    def loss(run, params):
        final, output = run(params, carry, seen, resets)
        return (weights * output.value).sum() + (weights[..., None] * output.logits**2).sum(), (final, output)

    ours, theirs = (
        jax.jit(jax.value_and_grad(lambda p, run=run: loss(run, p), has_aux=True))(params)
        for run in (teacher.apply, stepwise)
    )
    assert ours[0][1][1].logits.shape == (T, B, ACTIONS)
    tolerance = 1e-4 if arch == "s5" else 1e-5
    for a, b, limit in ((ours[0], theirs[0], tolerance), (ours[1], theirs[1], 1e-4)):
        jax.tree.map(lambda x, y, limit=limit: np.testing.assert_allclose(x, y, rtol=limit, atol=limit), a, b)


@pytest.mark.slow
def test_seeds_by_vmap_and_a_later_start(build):
    _, teacher, params, carry, seen, resets = build
    run = jax.jit(teacher.apply)
    final, whole = run(params, carry, seen, resets)
    stored, _ = run(params, carry, jax.tree.map(lambda x: x[:2], seen), resets[:2])
    resumed = run(params, stored, jax.tree.map(lambda x: x[2:], seen), resets[2:])
    rest = (final, jax.tree.map(lambda x: x[2:], whole))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5), resumed, rest)
    stacked = jax.tree.map(lambda x: jnp.stack([x, 0.9 * x]), params)
    _, both = jax.jit(jax.vmap(teacher.apply, (0, None, None, None)))(stacked, carry, seen, resets)
    np.testing.assert_allclose(both.value[0], whole.value, rtol=1e-4, atol=1e-5)
    _, other = run(jax.tree.map(lambda x: x[1], stacked), carry, seen, resets)
    np.testing.assert_allclose(both.logits[1], other.logits, rtol=1e-4, atol=1e-5)


def test_the_encoder_sees_map_time_and_noise(build):
    _, teacher, params, _, seen, _ = build
    encoded = np.asarray(teacher.bind(params).encoder(seen))
    part = params["params"]["encoder"]
    image = seen.image.reshape(T * B, 5, 6, 3)
    conv = jax.lax.conv_general_dilated(
        image, part["kernel"], (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    expected = nn.relu(conv + part["bias"]).reshape(T, B, -1)
    np.testing.assert_allclose(encoded[..., : 3 * 4 * 3], expected, rtol=1e-5, atol=1e-5)
    table = part["times"]
    np.testing.assert_allclose(encoded[..., -NOISE - 2 : -NOISE], table[seen.time], rtol=1e-6)
    np.testing.assert_array_equal(encoded[..., -NOISE:], seen.noise)
    # A finished level has the time `num_steps`, for which there is no row of its own.
    after = teacher.bind(params).encoder(seen._replace(time=seen.time + STEPS))
    np.testing.assert_allclose(after[..., -NOISE - 2 : -NOISE], np.broadcast_to(table[-1], (T, B, 2)), rtol=1e-6)


@pytest.mark.slow
def test_teachers_start_undecided_and_work_without_noise():
    config = TeacherConfig(core=LSTMConfig(features=4), conv_filters=2, head_width=3, time_embedding=2)
    observation = shapes(height=3, width=3, noise=0)
    teacher = make_teacher(config, num_actions=9, num_steps=4, observation=observation)
    again = make_teacher(config, num_actions=9, num_steps=4, observation=observation)
    assert teacher == again
    assert hash(teacher) == hash(again)
    seen = jax.tree.map(lambda x: jnp.ones((2, 1, *x.shape), x.dtype), observation)
    carry, resets = teacher.initial_carry(1), jnp.zeros((2, 1), bool)
    (_, output), _ = teacher.init_with_output(jax.random.key(0), carry, seen, resets)
    np.testing.assert_allclose(output.logits - output.logits[..., :1], 0, atol=1e-6)
    assert np.abs(output.value).max() > 0


@pytest.mark.parametrize("observation", [np.zeros(4), Seen(np.zeros((2, 2, 3)), 0, np.zeros(1))])
def test_other_observations_are_refused(observation):
    with pytest.raises(UserError, match="make_teacher got an observation with shapes"):
        make_teacher(TeacherConfig(), num_actions=9, num_steps=4, observation=observation)
