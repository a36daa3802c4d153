"""Networks: initialisers, LayerNorm, ensembles as independent members."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from policy_finetune.learners.networks import actor_mean, init_actor, init_layers, layers_forward, q_values


def test_an_ensemble_is_its_members_one_by_one():
    layers = init_layers(jax.random.key(0), [5, 16, 8, 1], ensemble=3, layer_norm=True)
    obs, action = jax.random.normal(jax.random.key(1), (7, 3)), jax.random.normal(jax.random.key(2), (7, 2))
    together = q_values(layers, obs, action)
    assert together.shape == (3, 7)
    for i in range(3):
        member = jax.tree.map(lambda x, i=i: x[i], layers)
        alone = layers_forward(member, jnp.concatenate([obs, action], 1))[:, 0]
        np.testing.assert_allclose(together[i], alone, rtol=1e-5, atol=1e-6)
    assert not np.array_equal(layers[0]["w"][0], layers[0]["w"][1])  # members start apart


def test_initial_weights():
    for layer, fan_in in zip(init_layers(jax.random.key(0), [64, 256, 256]), (64, 256), strict=True):
        for name in ("w", "b"):
            bound = fan_in**-0.5
            assert float(jnp.abs(layer[name]).max()) <= bound
            assert float(layer[name].std()) == pytest.approx(bound / 3**0.5, rel=0.12)
    w, b = (init_layers(jax.random.key(0), [32, 16], init="orthogonal")[0][name] for name in ("w", "b"))
    np.testing.assert_allclose(w.T @ w, 2 * np.eye(16), atol=1e-5)  # gain √2
    assert not b.any()


def test_layer_norm_comes_before_the_activation_on_hidden_layers_only():
    layers = init_layers(jax.random.key(0), [3, 8, 1], layer_norm=True)
    assert ["scale" in layer for layer in layers] == [True, False]
    x = np.asarray(jax.random.normal(jax.random.key(1), (5, 3)), np.float64)
    h = x @ np.asarray(layers[0]["w"]) + np.asarray(layers[0]["b"])
    h = (h - h.mean(1, keepdims=True)) / np.sqrt(h.var(1, keepdims=True) + 1e-6)
    expected = np.maximum(h, 0) @ np.asarray(layers[1]["w"]) + np.asarray(layers[1]["b"])
    np.testing.assert_allclose(layers_forward(layers, jnp.asarray(x, jnp.float32)), expected, rtol=1e-4, atol=1e-5)


def test_actors():
    obs = 10 * jax.random.normal(jax.random.key(1), (50, 4))
    plain = init_actor(jax.random.key(0), 4, 2, (16,))
    assert float(jnp.abs(actor_mean(plain, obs)).max()) <= 1
    assert set(plain) == {"hidden", "mean"}
    assert init_actor(jax.random.key(0), 4, 2, (16,), log_std="vector")["log_std"].shape == (2,)
    assert init_actor(jax.random.key(0), 4, 2, (16,), log_std="head")["log_std"]["w"].shape == (16, 2)


def test_dropout_keeps_the_mean():
    layers = init_layers(jax.random.key(0), [4, 64, 64])
    x = jax.random.normal(jax.random.key(1), (1, 4))
    plain = layers_forward(layers, x)
    many = jax.vmap(lambda key: layers_forward(layers, x, dropout=0.3, key=key))(
        jax.random.split(jax.random.key(2), 4000)
    )
    np.testing.assert_allclose(many.mean(0), plain, atol=5 * float(many.std(0).max()) / 4000**0.5)
    assert float(many.std()) > 0
