import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from minimax_ued.config import PPOConfig
from minimax_ued.learning.ppo import (
    PPO_METRICS,
    Batch,
    clipped_surrogate,
    entropy,
    make_optimizer,
    ppo_loss,
    ppo_update,
    value_error,
)
from minimax_ued.nets.students import StudentOutput

S, B, ACTIONS = 5, 4, 3


class LinearStudent(nn.Module):
    """Logits and value linear in one number; no memory."""

    @nn.compact
    def __call__(self, carry, observations, resets):
        slope = self.param("slope", nn.initializers.constant(0.3), (ACTIONS,))
        scale = self.param("scale", nn.initializers.constant(0.7), ())
        return carry, StudentOutput(observations[..., None] * slope, observations * scale)


STUDENT = LinearStudent()
loss_of = jax.jit(ppo_loss, static_argnums=(0, 1))
gradient_of = jax.jit(jax.grad(lambda p, config, batch: ppo_loss(config, STUDENT, p, batch)[0]), static_argnums=1)
update = jax.jit(ppo_update, static_argnums=(0, 1))


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    normal = lambda: jnp.asarray(rng.normal(size=(S, B)), jnp.float32)  # noqa: E731
    return Batch(
        initial_carry=jnp.zeros((B, 1)),
        observations=normal(),
        resets=jnp.zeros((S, B), bool),
        actions=jnp.asarray(rng.integers(ACTIONS, size=(S, B))),
        log_probs=-jnp.abs(normal()) - 0.5,
        values=normal(),
        advantages=normal(),
        targets=normal(),
    )


@pytest.fixture
def params(batch):
    shapes = jax.eval_shape(STUDENT.init, jax.random.key(0), batch.initial_carry, batch.observations, batch.resets)
    start = {"params": {"slope": np.float32([0.3, 0.4, 0.5]), "scale": np.float32(0.7)}}
    return jax.tree.map(lambda x, like: jnp.asarray(x, like.dtype).reshape(like.shape), start, shapes)


def loss_by_hand(config, params, batch):
    """The same in NumPy, float64, step by step."""
    slope, scale = np.asarray(params["params"]["slope"], float), float(params["params"]["scale"])
    get = lambda name: np.asarray(getattr(batch, name), float).reshape(-1)  # noqa: E731
    advantages = (get("advantages") - get("advantages").mean()) / (get("advantages").std() + 1e-5)
    policy, value_loss, entropy = [], [], []
    for i, x in enumerate(get("observations")):
        probabilities = np.exp(x * slope) / np.exp(x * slope).sum()
        ratio = probabilities[int(get("actions")[i])] / np.exp(get("log_probs")[i])
        low, high = 1 - config.clip, 1 + config.clip
        policy.append(min(ratio * advantages[i], np.clip(ratio, low, high) * advantages[i]))
        value, old, target = x * scale, get("values")[i], get("targets")[i]
        error = (value - target) ** 2
        if config.clip_value:
            error = max(error, (old + np.clip(value - old, -config.clip, config.clip) - target) ** 2)
        value_loss.append(0.5 * error)
        entropy.append(-(probabilities * np.log(probabilities)).sum())
    total = -np.mean(policy) + config.value_coef * np.mean(value_loss) - config.entropy_coef * np.mean(entropy)
    return total, {"policy_loss": -np.mean(policy), "value_loss": np.mean(value_loss), "entropy": np.mean(entropy)}


def test_the_parts_by_hand():
    ratio, advantages = jnp.array([0.5, 1.0, 2.0, 2.0]), jnp.array([1.0, 1.0, 1.0, -1.0])
    np.testing.assert_allclose(clipped_surrogate(ratio, advantages, clip=0.2), -(0.5 + 1 + 1.2 - 2) / 4, rtol=1e-6)
    values, old, targets = jnp.array([1.0, 3.0]), jnp.array([0.0, 3.0]), jnp.array([2.0, 2.0])
    np.testing.assert_allclose(value_error(values, old, targets, clip=None), 0.5, rtol=1e-6)
    np.testing.assert_allclose(value_error(values, old, targets, clip=0.2), 0.5 * (1.8**2 + 1) / 2, rtol=1e-6)
    np.testing.assert_allclose(entropy(jnp.zeros((2, 4))), np.log(4), rtol=1e-6)


@pytest.mark.parametrize("clip_value", [True, False])
def test_the_loss_equals_the_formula(batch, params, clip_value):
    config = PPOConfig(clip_value=clip_value, entropy_coef=0.1)
    loss, parts = loss_of(config, STUDENT, params, batch)
    expected, expected_parts = loss_by_hand(config, params, batch)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    for name, value in expected_parts.items():
        np.testing.assert_allclose(parts[name], value, rtol=1e-5)
    assert 0 < parts["clip_fraction"] < 1
    assert parts["approx_kl"] > 0


def test_the_gradient_equals_finite_differences(batch, params):
    config = PPOConfig(entropy_coef=0.1)
    gradient = gradient_of(params, config, batch)["params"]
    for name, index in (("scale", ()), ("slope", 0), ("slope", 2)):

        def moved(by, name=name, index=index):
            weights = {k: np.array(v, float) for k, v in params["params"].items()}
            weights[name][index] += by
            return loss_by_hand(config, {"params": weights}, batch)[0]

        expected = (moved(1e-6) - moved(-1e-6)) / 2e-6
        np.testing.assert_allclose(gradient[name][index], expected, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_minibatches_are_whole_environments_and_each_once(batch, params):
    entropies = {}
    for minibatches in (1, 2, 4):
        config = PPOConfig(minibatches=minibatches, epochs=3)
        opt_state = make_optimizer(config).init(params)
        new, _, metrics = ppo_update(config, STUDENT, params, opt_state, batch, jax.random.key(1), lr=0.0)
        assert set(metrics) == set(PPO_METRICS)
        jax.tree.map(np.testing.assert_array_equal, new, params)
        entropies[minibatches] = float(metrics["entropy"])
    # Environments have different entropies: their mean over parts is that of the whole only if each comes once.
    np.testing.assert_allclose(list(entropies.values()), entropies[1], rtol=1e-6)


def test_one_step_is_adam_on_the_clipped_gradient(batch, params):
    config = PPOConfig(epochs=1, max_grad_norm=0.01)
    gradient = gradient_of(params, config, batch)
    reference = optax.chain(optax.clip_by_global_norm(0.01), optax.adam(2e-3, eps=1e-5))
    updates, _ = jax.jit(reference.update)(gradient, reference.init(params))
    new, _, metrics = update(
        config, STUDENT, params, make_optimizer(config).init(params), batch, jax.random.key(0), lr=2e-3
    )
    expected = jax.tree.map(np.add, jax.device_get(params), jax.device_get(updates))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), jax.device_get(new), expected)
    norm = np.sqrt(sum(np.sum(np.square(g)) for g in jax.tree.leaves(gradient)))
    np.testing.assert_allclose(metrics["grad_norm"], norm, rtol=1e-5)
    assert metrics["grad_norm"] > 0.01


def test_equal_advantages_are_no_division_by_zero(batch, params):
    flat = batch.replace(advantages=jnp.zeros((S, B)))
    gradient = gradient_of(params, PPOConfig(), flat)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(gradient))
