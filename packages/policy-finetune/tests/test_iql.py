"""IQL: expectiles, its order of updates, and behaviour cloning as a special case."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.stats

from policy_finetune.agents.structure import weights_of
from policy_finetune.config import ActorNetwork, BCConfig, IQLConfig, NetworkConfig
from policy_finetune.learners.bc import gaussian_log_prob
from policy_finetune.learners.iql import expectile_loss
from policy_finetune.learners.registry import BC, IQL, Batch

OBS, ACT, B = 3, 2, 8
NET = NetworkConfig(hidden=(16,), init="orthogonal")


def numbers(config):
    return {name: jnp.float32(value) for name, value in weights_of(config, act_dim=ACT).items()}


def one_batch(seed=0):
    k = jax.random.split(jax.random.key(seed), 5)
    return Batch(
        jax.random.normal(k[0], (B, OBS)), jax.random.uniform(k[1], (B, ACT), minval=-1),
        jax.random.normal(k[2], (B, OBS)), jax.random.normal(k[3], (B,)),
        (jax.random.uniform(k[4], (B,)) > 0.3).astype(jnp.float32), jnp.zeros(B),
    )  # fmt: skip


def stacked(batch):
    return jax.tree.map(lambda x: x[None], batch)


def test_expectile_loss():
    d = jnp.array([-2.0, -0.5, 0.0, 1.0, 3.0])
    np.testing.assert_allclose(expectile_loss(d, expectile=0.5), 0.5 * d**2)
    np.testing.assert_allclose(expectile_loss(d, expectile=0.9), [0.4, 0.025, 0.0, 0.9, 8.1], rtol=1e-6)


@pytest.mark.slow
def test_the_value_is_the_upper_expectile_of_a_bandit():
    # Arms of reward 0 and 1, equally often: the τ-expectile m solves τ (1 - m) = (1 - τ) m, so m = τ.
    config = IQLConfig(network=NET, discount=0.0, expectile=0.9, critic_lr=3e-3, tau=0.1)
    learner = IQL(config, OBS, ACT)
    arm = jnp.tile(jnp.array([0.0, 1.0]), B // 2)
    batch = Batch(jnp.ones((B, OBS)), jnp.tile(2 * arm[:, None] - 1, (1, ACT)), jnp.ones((B, OBS)), arm, jnp.ones(B),
                  jnp.zeros(B))  # fmt: skip

    def body(state, key):
        state, info = learner.round(state, stacked(batch), key, numbers(config))
        return state, info["advantage"]

    keys = jax.random.split(jax.random.key(1), 1500)
    state, _ = jax.jit(lambda s: jax.lax.scan(body, s, keys))(learner.init(jax.random.key(0)))
    x = batch.obs[:1]
    for layer in state.params["value"][:-1]:
        x = jax.nn.relu(x @ layer["w"] + layer["b"])
    value = (x @ state.params["value"][-1]["w"] + state.params["value"][-1]["b"]).item()
    assert value == pytest.approx(0.9, abs=0.01)


def test_gaussian_log_prob_is_scipys():
    actor = {"log_std": jnp.array([-0.3, 0.4])}
    mean, action = one_batch(1).action, one_batch(2).action
    expected = scipy.stats.norm(np.asarray(mean), np.exp([-0.3, 0.4])).logpdf(np.asarray(action)).sum(1)
    np.testing.assert_allclose(gaussian_log_prob(actor, mean, action), expected, rtol=1e-5)
    clipped = gaussian_log_prob({"log_std": jnp.array([-9.0, 9.0])}, mean, action)
    np.testing.assert_allclose(clipped, gaussian_log_prob({"log_std": jnp.array([-5.0, 2.0])}, mean, action))


@pytest.mark.slow
def test_temperature_zero_is_behaviour_cloning():
    config = IQLConfig(network=NET, temperature=0.0)
    iql, batch = IQL(config, OBS, ACT), one_batch()
    cloning = BC(BCConfig(network=ActorNetwork(hidden=NET.hidden, init=NET.init), loss="mle"), OBS, ACT)
    state = iql.init(jax.random.key(0))
    plain = cloning.init(jax.random.key(9))
    plain = plain.replace(params={"actor": state.params["actor"]})
    after, info = jax.jit(iql.round)(state, stacked(batch), jax.random.key(1), numbers(config))
    cloned, cloned_info = jax.jit(cloning.round)(plain, stacked(batch), jax.random.key(1), numbers(config))
    assert float(info["actor_loss"]) == pytest.approx(float(cloned_info["actor_loss"]), rel=1e-6)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7),
        after.params["actor"],
        cloned.params["actor"],
    )


def forward(layers, x):
    for i, layer in enumerate(layers):
        x = x @ layer["w"] + layer["b"]
        x = jnp.maximum(x, 0) if i < len(layers) - 1 else x
    return x[..., 0]


def straight_line(config, state, batch, stale):
    """Do one update by the formulas, one network after another."""
    adam = optax.adam(0.05, eps=0.1)
    pick = lambda i: jax.tree.map(lambda x: x[i], state.target["critic"])  # noqa: E731
    sa = jnp.concatenate([batch.obs, batch.action], 1)
    q = jnp.minimum(forward(pick(0), sa), forward(pick(1), sa))

    def step(params, loss):
        update, _ = adam.update(jax.grad(loss)(params), adam.init(params), params)
        return optax.apply_updates(params, update)

    def value_loss(value):
        d = q - forward(value, batch.obs)
        return jnp.mean(jnp.abs(config.expectile - (d < 0)) * d**2)

    value = step(state.params["value"], value_loss)
    used = state.params["value"] if stale else value
    weight = jnp.minimum(jnp.exp(config.temperature * (q - forward(used, batch.obs))), 100.0)

    def actor_loss(actor):
        x = batch.obs
        for layer in actor["hidden"]:
            x = jnp.maximum(x @ layer["w"] + layer["b"], 0)
        mean = jnp.tanh(x @ actor["mean"]["w"] + actor["mean"]["b"])
        log_std = actor["log_std"]
        log_prob = -0.5 * ((batch.action - mean) / jnp.exp(log_std)) ** 2 - log_std - 0.5 * np.log(2 * np.pi)
        return -jnp.mean(weight * log_prob.sum(1))

    y = batch.reward + 0.99 * batch.mask * forward(used, batch.next_obs)

    def critic_loss(critic):
        each = [forward(jax.tree.map(lambda x, i=i: x[i], critic), sa) for i in range(2)]
        return sum(jnp.mean((q - y) ** 2) for q in each)

    critic = step(state.params["critic"], critic_loss)
    target = jax.tree.map(lambda t, o: 0.995 * t + 0.005 * o, state.target["critic"], critic)
    return {"actor": step(state.params["actor"], actor_loss), "value": value, "critic": critic}, target


@pytest.mark.parametrize("stale", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_an_update_equals_the_formulas_in_their_order(stale):
    rates = {"actor_lr": 0.05, "critic_lr": 0.05, "adam_eps": 0.1}  # steps that depend on the size of gradients
    config = IQLConfig(network=NET, stale_value=stale, **rates)
    learner, batch = IQL(config, OBS, ACT), one_batch()
    state = learner.init(jax.random.key(0))
    formulas = jax.jit(lambda state, stale: straight_line(config, state, batch, stale), static_argnums=1)
    params, target = formulas(state, stale)
    after, _ = jax.jit(learner.round)(state, stacked(batch), jax.random.key(1), numbers(config))
    for found, expected in ((after.params, params), (after.target["critic"], target)):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-6), found, expected)
    other, _ = formulas(state, not stale)  # the order is visible in what follows from the value
    gap = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), params["critic"], other["critic"])
    assert max(jax.tree.leaves(gap)) > 1e-5


def test_the_actors_rate_falls_by_a_cosine():
    config = IQLConfig(network=NET, actor_lr_steps=4)
    learner, batch = IQL(config, OBS, ACT), one_batch()
    state = learner.init(jax.random.key(0))

    step = jax.jit(learner.round)

    def move(updates, frozen=0):
        now = state.replace(updates=jnp.int32(updates), rounds=jnp.int32(max(updates - frozen, 0)))
        weights = numbers(config) | {"critic_warmup": jnp.float32(frozen)}
        after, _ = step(now, stacked(batch), jax.random.key(1), weights)
        assert int(after.rounds) == max(updates + 1 - frozen, 0)
        return float(jnp.abs(after.params["actor"]["mean"]["w"] - state.params["actor"]["mean"]["w"]).max())

    np.testing.assert_allclose(np.array([move(2), move(4)]) / move(0), [0.5, 0.0], atol=1e-3)
    # A frozen actor makes no updates: its rate falls from when it moves.
    np.testing.assert_allclose(np.array([move(2, frozen=3), move(3, frozen=3)]) / move(0), [0.0, 1.0], atol=1e-3)


@pytest.mark.slow
def test_dropout_is_random_and_off_when_acting():
    config = IQLConfig(network=NetworkConfig(hidden=(16,)), actor_dropout=0.5)
    learner, batch = IQL(config, OBS, ACT), one_batch()
    state = learner.init(jax.random.key(0))
    step = jax.jit(learner.round)
    losses = [
        float(step(state, stacked(batch), jax.random.key(i), numbers(config))[1]["actor_loss"]) for i in (1, 2, 1)
    ]
    assert losses[0] == losses[2] != losses[1]
