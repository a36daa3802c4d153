"""The autoencoder and the prior: causality, the cache, exactness of the first state, gradients."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hgap.config import EMA, AutoencoderConfig, Codes, Width
from hgap.model.autoencoder import Autoencoder
from hgap.model.layers import ChannelGroups, JoinedDense, mish
from hgap.model.prior import Prior

RNG = np.random.default_rng(0)
CONFIG = AutoencoderConfig(
    codes=Codes(latent_step=4, per_step=2, quantizer=EMA(codes=32, size=8)), size=Width(width=32, blocks=2)
)


@pytest.fixture(scope="module")
def autoencoder():
    model = Autoencoder(CONFIG, 16, 5, 3)
    return model, jax.jit(model.init)(tuple(jax.random.split(jax.random.key(0), 3)))


@pytest.fixture(scope="module")
def prior():
    module = Prior(Width(width=32, blocks=3), 16, 12)
    params = jax.jit(module.init)(jax.random.key(0), jnp.zeros((1, 12), jnp.int32), jnp.zeros((1, 5)))
    # Far from the initialisation, where logits are nearly equal whatever the input.
    return module, jax.tree.map(lambda x: x + 0.2 * jnp.asarray(RNG.standard_normal(x.shape), x.dtype), params)


def window(batch=4):
    return (jnp.asarray(RNG.standard_normal((batch, 16, size)), jnp.float32) for size in (5, 3))


def test_sixteen_steps_of_four_and_eight_slices_are_thirty_two_codes():
    assert Autoencoder(AutoencoderConfig(codes=Codes(latent_step=4, per_step=8)), 16, 5, 3).tokens == 32


def test_the_first_state_is_kept_exactly_and_the_order_of_slices_matters(autoencoder):
    model, weights = autoencoder
    states, actions = window()
    encoding = model.encode(weights, states, actions)
    assert encoding.codes.shape == (4, 8)
    decoded, _ = model.decode(weights, model.vectors(weights, encoding.codes), states[:, 0])
    np.testing.assert_array_equal(decoded[:, 0], states[:, 0])
    assert jnp.abs(decoded[:, 1:] - states[:, :1]).max() > 1e-4
    swapped = encoding.codes.reshape(4, 4, 2)[:, :, ::-1].reshape(4, 8)
    other, _ = model.decode(weights, model.vectors(weights, swapped), states[:, 0])
    assert jnp.abs(decoded - other).max() > 1e-5


def test_latents_do_not_see_later_steps(autoencoder):
    model, weights = autoencoder
    states, actions = window()
    before = model.encode(weights, states, actions).features
    after = model.encode(weights, states.at[:, 8:].add(1.0), actions).features
    np.testing.assert_array_equal(before[:, :2], after[:, :2])
    assert jnp.abs(before[:, 2:] - after[:, 2:]).max() > 1e-4


def test_gradients_pass_straight_through(autoencoder):
    model, weights = autoencoder
    states, actions = window()

    def through(encoder):
        encoding = model.encode(weights._replace(encoder=encoder), states, actions)
        return (encoding.vectors * target).sum()

    def direct(encoder):
        return (model.encode(weights._replace(encoder=encoder), states, actions).features * target).sum()

    target = jnp.asarray(RNG.standard_normal((4, 4, 2, 8)), jnp.float32)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        jax.grad(through)(weights.encoder), jax.grad(direct)(weights.encoder),
    )  # fmt: skip


def test_cached_logits_equal_uncached_ones(prior):
    module, params = prior
    codes = jnp.asarray(RNG.integers(0, 16, (6, 12)), jnp.int32)
    first = jnp.asarray(RNG.standard_normal((6, 5)), jnp.float32)
    whole = module.apply(params, codes, first)
    cache = module.apply(params, 6, method="empty")
    before = jnp.zeros(6, jnp.int32)
    for at in range(12):
        logits, cache = module.apply(params, before, first, jnp.asarray(at), cache, method="step")
        np.testing.assert_allclose(logits, whole[:, at], atol=1e-5)
        before = codes[:, at]
    assert float(whole.std()) > 0.1


def test_a_code_changes_only_what_follows_it(prior):
    module, params = prior
    codes, first = jnp.zeros((1, 12), jnp.int32), jnp.zeros((1, 5))
    whole = module.apply(params, codes, first)
    for j in range(12):
        other = module.apply(params, codes.at[:, j].set(3), first)
        np.testing.assert_array_equal(other[:, : j + 1], whole[:, : j + 1])
        if j < 11:
            assert jnp.abs(other[:, j + 1] - whole[:, j + 1]).max() > 1e-3


def test_the_first_state_reaches_every_position(prior):
    module, params = prior
    codes = jnp.zeros((1, 12), jnp.int32)
    change = module.apply(params, codes, jnp.ones((1, 5))) - module.apply(params, codes, jnp.zeros((1, 5)))
    assert (jnp.abs(change).max(-1) > 1e-3).all()


def test_layers_equal_flaxs():
    x, state = RNG.standard_normal((3, 5, 32)).astype(np.float32), RNG.standard_normal((3, 4)).astype(np.float32)
    theirs = nn.GroupNorm(num_groups=8, reduction_axes=(-1,))
    params = {"params": {"scale": RNG.standard_normal(32), "bias": RNG.standard_normal(32)}}
    np.testing.assert_allclose(ChannelGroups(8).apply(params, x), theirs.apply(params, x), atol=1e-5)
    wide = np.linspace(-90, 90, 400, dtype=np.float32)
    np.testing.assert_allclose(mish(wide), wide * np.tanh(np.logaddexp(0, wide)), rtol=1e-5, atol=1e-7)
    params = {"params": {"kernel": RNG.standard_normal((36, 7)), "bias": RNG.standard_normal(7)}}
    joined = np.concatenate([x, np.broadcast_to(state[:, None], (3, 5, 4))], -1)
    ours, known = JoinedDense(7).apply(params, x, state)
    np.testing.assert_allclose(ours + known[:, None], nn.Dense(7).apply(params, joined), atol=1e-4)
