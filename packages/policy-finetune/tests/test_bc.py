"""Behaviour cloning: both losses, by hand and by convergence."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from policy_finetune.agents.structure import weights_of
from policy_finetune.config import ActorNetwork, BCConfig
from policy_finetune.learners.networks import actor_mean
from policy_finetune.learners.registry import BC, Batch

B = 64


def numbers(config):
    return {name: jnp.float32(value) for name, value in weights_of(config, act_dim=1).items()}


def teacher():
    obs = jnp.linspace(-2, 2, B)[:, None]
    zero = jnp.zeros(B)
    return Batch(obs, 0.8 * jnp.sin(obs), obs, zero, zero, zero)


def fit(config, steps):
    learner, batch = BC(config, 1, 1), jax.tree.map(lambda x: x[None], teacher())
    keys = jax.random.split(jax.random.key(1), steps)
    body = lambda state, key: learner.round(state, batch, key, numbers(config))  # noqa: E731
    return jax.jit(lambda s: jax.lax.scan(body, s, keys))(learner.init(jax.random.key(0)))


def test_the_squared_error_is_a_mean_over_batch_and_dimensions_and_adam_descends_it():
    config = BCConfig(network=ActorNetwork(hidden=(16,)))
    learner, batch = BC(config, 1, 1), teacher()
    state = learner.init(jax.random.key(0))
    loss = lambda actor: jnp.mean((actor_mean(actor, batch.obs) - batch.action) ** 2)  # noqa: E731
    adam = optax.adam(3e-4)
    actor = state.params["actor"]
    update, _ = adam.update(jax.jit(jax.grad(loss))(actor), adam.init(actor), actor)
    after, info = jax.jit(learner.round)(
        state, jax.tree.map(lambda x: x[None], batch), jax.random.key(0), numbers(config)
    )
    np.testing.assert_allclose([info["actor_loss"], info["bc_distance"]], loss(actor), rtol=1e-6)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5),
        after.params["actor"],
        optax.apply_updates(actor, update),
    )


@pytest.mark.slow
def test_both_losses_find_the_teacher():
    for kind in ("mse", "mle"):
        config = BCConfig(network=ActorNetwork(hidden=(32,)), actor_lr=1e-2, actor_lr_steps=1500, loss=kind)
        state, info = fit(config, 1500)
        assert float(info["bc_distance"][-1]) < 1e-3
        assert int(state.updates) == 1500
        assert ("log_std" in state.params["actor"]) == (kind == "mle")


def test_a_longer_round_learns_from_all_of_its_batches():
    config = BCConfig(network=ActorNetwork(hidden=(16,)), policy_delay=2)
    learner, batch = BC(config, 1, 1), teacher()
    state = learner.init(jax.random.key(0))
    twice = jax.tree.map(lambda x: jnp.stack([x, x]), batch)
    after, _ = jax.jit(learner.round)(state, twice, jax.random.key(0), numbers(config))
    assert int(after.updates) == 2
    assert int(after.rounds) == 2  # of the actor too
