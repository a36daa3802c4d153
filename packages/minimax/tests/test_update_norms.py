"""Squared gradient norms of single levels, against loops, the PPO loss, and finite differences."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from minimax_ued.config import PPOConfig
from minimax_ued.learning.ppo import Batch, ppo_loss
from minimax_ued.learning.rollout import log_prob
from minimax_ued.replay.update_norms import update_norms

S, B, ACTIONS, HIDDEN = 6, 5, 3, 4
CONFIG = PPOConfig(entropy_coef=0.1, value_coef=0.7)
norms_of = jax.jit(update_norms, static_argnums=(0, 1), static_argnames="side_by_side")


class Output(NamedTuple):
    logits: jax.Array
    value: jax.Array
    heads: jax.Array | None = None


class TinyStudent(nn.Module):
    """A tanh recurrence; optionally several value heads."""

    heads: int = 1

    @nn.compact
    def __call__(self, carry, observations, resets):
        inwards = self.param("inwards", nn.initializers.normal(1.0), (2, HIDDEN))
        across = self.param("across", nn.initializers.normal(0.7), (HIDDEN, HIDDEN))
        outwards = self.param("outwards", nn.initializers.normal(1.0), (HIDDEN, ACTIONS + self.heads))

        def body(hidden, now):
            x, reset = now
            hidden = jnp.tanh(x @ inwards + jnp.where(reset[:, None], 0.0, hidden) @ across)
            return hidden, hidden

        carry, hidden = jax.lax.scan(body, carry, (observations, resets))
        out = hidden @ outwards
        values = out[..., ACTIONS:]
        return carry, Output(out[..., :ACTIONS], values.mean(-1), values if self.heads > 1 else None)


@functools.cache
def make(heads=1, seed=0):
    """A student, its variables, and a batch that it played."""
    rng = np.random.default_rng(seed)
    normal = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)  # noqa: E731
    student = TinyStudent(heads)
    carry, observations = normal(B, HIDDEN), normal(S, B, 2)
    resets, actions = jnp.asarray(rng.random((S, B)) < 0.3), jnp.asarray(rng.integers(ACTIONS, size=(S, B)))
    params = jax.jit(student.init)(jax.random.key(seed), carry, observations, resets)
    _, output = jax.jit(student.apply)(params, carry, observations, resets)
    batch = Batch(
        initial_carry=carry,
        observations=observations,
        resets=resets,
        actions=actions,
        log_probs=log_prob(output.logits, actions),
        values=output.value,
        value_heads=output.heads,
        advantages=normal(S, B) * jnp.arange(1, B + 1),  # levels differ in scale
        targets=normal(S, B),
    )
    return student, params, batch


def clipped_loss(config, student, params, batch, advantages, b):
    """The whole PPO loss, ratios and clipping included, of environment b."""
    carry = batch.initial_carry[b : b + 1]
    get = lambda x: x[:, b : b + 1]  # noqa: E731
    _, output = student.apply(params, carry, get(batch.observations), get(batch.resets))
    ratio = jnp.exp(log_prob(output.logits, get(batch.actions)) - get(batch.log_probs))
    a = get(advantages)
    policy = -jnp.minimum(ratio * a, jnp.clip(ratio, 1 - config.clip, 1 + config.clip) * a).mean()
    if output.heads is None:
        value, old, target = output.value, get(batch.values), get(batch.targets)
    else:
        value, old, target = output.heads, get(batch.value_heads), get(batch.targets)[..., None]
    clipped = old + jnp.clip(value - old, -config.clip, config.clip)
    value_loss = 0.5 * jnp.maximum((value - target) ** 2, (clipped - target) ** 2).mean()
    p = jax.nn.softmax(output.logits)
    entropy = -(p * jnp.log(p)).sum(-1).mean()
    return policy + config.value_coef * value_loss - config.entropy_coef * entropy


@pytest.mark.slow
@pytest.mark.parametrize("heads", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_equals_a_loop_over_levels(heads):
    student, params, batch = make(heads)
    advantages = np.asarray(batch.advantages, np.float64)
    advantages = jnp.asarray((advantages - advantages.mean()) / (advantages.std() + 1e-5), jnp.float32)
    gradient = jax.jit(
        jax.grad(lambda params, b: clipped_loss(CONFIG, student, params, batch, advantages, b)), static_argnums=1
    )
    gradients = [gradient(params, b) for b in range(B)]
    expected = [sum(np.sum(np.square(g)) for g in jax.tree.leaves(tree)) for tree in gradients]
    norms = norms_of(CONFIG, student, params, batch)
    np.testing.assert_allclose(norms, expected, rtol=1e-4)
    assert max(expected) > 2 * min(expected)

    # The levels together are the first training step.
    whole = jax.jit(jax.grad(lambda p: ppo_loss(CONFIG, student, p, batch)[0]))(params)
    mean = jax.tree.map(lambda *g: sum(g) / B, *gradients)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), whole, mean)


def test_one_level_is_the_gradient_of_the_ppo_loss():
    student, params, batch = make()
    one = jax.tree.map(lambda x: x[:, :1], batch.replace(initial_carry=None, value_heads=None))
    one = one.replace(initial_carry=batch.initial_carry[:1])
    gradient = jax.jit(jax.grad(lambda p: ppo_loss(CONFIG, student, p, one)[0]))(params)
    expected = sum(np.sum(np.square(g)) for g in jax.tree.leaves(gradient))
    np.testing.assert_allclose(norms_of(CONFIG, student, params, one), [expected], rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("side_by_side", [1, 2, 99])
def test_parts_change_nothing(side_by_side):
    student, params, batch = make()
    expected = norms_of(CONFIG, student, params, batch)
    got = norms_of(CONFIG, student, params, batch, side_by_side=side_by_side)
    np.testing.assert_allclose(got, expected, rtol=1e-5)


class TwoNumbers(nn.Module):
    """Two actions with logits (slope x, 0), and value scale x."""

    @nn.compact
    def __call__(self, carry, observations, resets):
        slope = self.param("slope", nn.initializers.constant(0.3), ())
        scale = self.param("scale", nn.initializers.constant(0.7), ())
        logits = jnp.stack([slope * observations, jnp.zeros_like(observations)], -1)
        return carry, Output(logits, scale * observations)


@pytest.mark.slow
def test_equals_finite_differences_of_two_numbers():
    rng = np.random.default_rng(3)
    x, advantages, targets = rng.normal(size=(3, S, B))
    actions = rng.integers(2, size=(S, B))
    scaled = (advantages - advantages.mean()) / (advantages.std() + 1e-5)

    def loss(slope, scale, b):  # float64
        p = 1 / (1 + np.exp(-slope * x[:, b]))
        chosen = np.where(actions[:, b] == 0, p, 1 - p)
        entropy = -(p * np.log(p) + (1 - p) * np.log(1 - p))
        error = 0.5 * (scale * x[:, b] - targets[:, b]) ** 2
        return np.mean(-scaled[:, b] * np.log(chosen) + CONFIG.value_coef * error - CONFIG.entropy_coef * entropy)

    h = 1e-5
    expected = [
        ((loss(0.3 + h, 0.7, b) - loss(0.3 - h, 0.7, b)) / (2 * h)) ** 2
        + ((loss(0.3, 0.7 + h, b) - loss(0.3, 0.7 - h, b)) / (2 * h)) ** 2
        for b in range(B)
    ]
    f32 = lambda a: jnp.asarray(a, jnp.float32)  # noqa: E731
    batch = Batch(
        initial_carry=jnp.zeros((B, 1)),
        observations=f32(x),
        resets=jnp.zeros((S, B), bool),
        actions=jnp.asarray(actions),
        log_probs=jnp.zeros((S, B)),
        values=jnp.zeros((S, B)),
        value_heads=None,
        advantages=f32(advantages),
        targets=f32(targets),
    )
    params = {"params": {"slope": jnp.float32(0.3), "scale": jnp.float32(0.7)}}
    np.testing.assert_allclose(norms_of(CONFIG, TwoNumbers(), params, batch), expected, rtol=1e-4)


@pytest.mark.slow
def test_seeds_side_by_side():
    made = [make(seed=seed) for seed in (0, 1)]
    student = made[0][0]
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *[m[1:] for m in made])
    together = jax.jit(jax.vmap(lambda p, b: update_norms(CONFIG, student, p, b, side_by_side=2)))(*stacked)
    for norms, (_, params, batch) in zip(together, made, strict=True):
        np.testing.assert_allclose(norms, norms_of(CONFIG, student, params, batch), rtol=1e-5)


def test_what_the_scale_of_advantages_says_is_kept():
    """A level on which nothing surprises moves the student little, however its own advantages are scaled."""
    student, params, batch = make()
    quiet = batch.replace(advantages=batch.advantages.at[:, 0].multiply(1e-3))
    config = PPOConfig(value_coef=0.0, entropy_coef=0.0)
    before, after = (norms_of(config, student, params, b) for b in (batch, quiet))
    assert after[0] < 0.2 * before[0]
    flat = norms_of(config, student, params, batch.replace(advantages=jnp.ones((S, B))))
    np.testing.assert_allclose(flat, np.zeros(B), atol=1e-9)
