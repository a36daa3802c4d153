"""SAC's densities and targets, CQL's regulariser, Cal-QL's bound."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.integrate
import scipy.special
import scipy.stats

from policy_finetune.agents.structure import weights_of
from policy_finetune.config import CQLConfig, NetworkConfig, SACConfig
from policy_finetune.learners.networks import q_values
from policy_finetune.learners.registry import SAC, Batch
from policy_finetune.learners.sac import calibrated, sample_action, soft_maximum, squashed_log_prob

OBS, ACT, B = 3, 2, 6
NET = NetworkConfig(hidden=(16,))
# A large ε makes Adam's steps depend on the size of gradients, not on their signs alone.
RATES = {"actor_lr": 0.05, "critic_lr": 0.05, "adam_eps": 0.1}


def numbers(config):
    return {name: jnp.float32(value) for name, value in weights_of(config, act_dim=ACT).items()}


def one_batch(seed=0, to_go=0.0):
    k = jax.random.split(jax.random.key(seed), 5)
    return Batch(
        jax.random.normal(k[0], (B, OBS)), jax.random.uniform(k[1], (B, ACT), minval=-1),
        jax.random.normal(k[2], (B, OBS)), jax.random.normal(k[3], (B,)),
        (jax.random.uniform(k[4], (B,)) > 0.3).astype(jnp.float32), jnp.full(B, to_go),
    )  # fmt: skip


def test_squashed_density_is_the_change_of_variables_and_integrates_to_one():
    rng = np.random.default_rng(0)
    u, mean, log_std = rng.normal(size=(50, ACT)), rng.normal(size=(50, ACT)), rng.uniform(-2, 0.5, (50, ACT))
    normal = scipy.stats.norm(mean, np.exp(log_std)).logpdf(u)
    expected = (normal - np.log(1 - np.tanh(u) ** 2)).sum(1)
    found = squashed_log_prob(*(jnp.asarray(x, jnp.float32) for x in (u, mean, log_std)))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)

    def density(a):
        parts = (jnp.array([x], jnp.float32) for x in (np.arctanh(a), 0.3, -0.5))
        return float(jnp.exp(squashed_log_prob(*parts)))

    assert abs(scipy.integrate.quad(density, -0.9999, 0.9999, limit=100)[0] - 1) < 1e-3
    far = squashed_log_prob(jnp.array([20.0]), jnp.array([0.0]), jnp.array([2.0]))  # 1 - tanh² is 0 in float32
    assert np.isfinite(far)
    np.testing.assert_allclose(far, scipy.stats.norm(0, np.exp(2)).logpdf(20) - (np.log(4) - 40), rtol=1e-5)


def test_targets_and_critic_step():
    config = SACConfig(network=NET, init_alpha=0.3, **RATES)
    learner, batch = SAC(config, OBS, ACT), one_batch()
    state, key, step_key = learner.init(jax.random.key(0)), jax.random.key(5), jax.random.key(7)
    hard = SACConfig(network=NET, backup_entropy=False)

    @jax.jit
    def both(state):
        action, log_prob = sample_action(state.params["actor"], batch.next_obs, jax.random.split(key)[0])
        q = q_values(state.target["critic"], batch.next_obs, action)
        ours = learner._targets(state, batch, key, numbers(config))
        return q, log_prob, ours, SAC(hard, OBS, ACT)._targets(state, batch, key, numbers(hard))

    q, log_prob, y, without = jax.device_get(both(state))
    reward, mask = jax.device_get((batch.reward, batch.mask))
    np.testing.assert_allclose(y, reward + 0.99 * mask * (q.min(0) - 0.3 * log_prob), rtol=1e-5)
    np.testing.assert_allclose(without, reward + 0.99 * mask * q.min(0), rtol=1e-5)

    @jax.jit
    def by_hand(state):
        y = learner._targets(state, batch, jax.random.split(step_key)[0], numbers(config))
        loss = lambda c: ((q_values(c, batch.obs, batch.action) - y) ** 2).mean(1).sum()  # noqa: E731
        adam, critic = optax.adam(0.05, eps=0.1), state.params["critic"]
        update, _ = adam.update(jax.grad(loss)(critic), adam.init(critic), critic)
        critic = optax.apply_updates(critic, update)
        return critic, jax.tree.map(lambda t, o: 0.995 * t + 0.005 * o, state.target["critic"], critic)

    critic, target = jax.device_get(by_hand(state))
    after, _ = jax.device_get(jax.jit(learner._critic_step)(state, batch, step_key, numbers(config)))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), after.params["critic"], critic)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), after.target["critic"], target)


@pytest.mark.slow
def test_actor_and_temperature_steps():
    config = SACConfig(network=NET, init_alpha=0.5, alpha_lr=0.05, **RATES)
    learner, batch, key = SAC(config, OBS, ACT), one_batch(), jax.random.key(3)
    state = learner.init(jax.random.key(0)).replace(updates=jnp.int32(1))

    def loss(actor):
        action, log_prob = sample_action(actor, batch.obs, key)
        return (0.5 * log_prob - q_values(state.params["critic"], batch.obs, action).min(0)).mean()

    adam, actor = optax.adam(0.05, eps=0.1), state.params["actor"]
    update, _ = adam.update(jax.jit(jax.grad(loss))(actor), adam.init(actor), actor)
    after, info = jax.jit(learner._actor_step)(state, batch, key, numbers(config))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
        after.params["actor"], optax.apply_updates(actor, update),
    )  # fmt: skip
    # α falls where the entropy exceeds its target of -2: the gradient is α (entropy + 2), Adam's first step
    # g / (|g| + ε).
    gradient = 0.5 * (float(info["entropy"]) + ACT)
    move = -0.05 * gradient / (abs(gradient) + 0.1)
    np.testing.assert_allclose(after.params["log_alpha"] - state.params["log_alpha"], move, rtol=1e-3)
    still = numbers(SACConfig(network=NET, alpha_lr=0.0))
    assert learner._actor_step(state, batch, key, still)[0].params["log_alpha"] == state.params["log_alpha"]


@pytest.mark.slow
def test_cqls_soft_maximum_against_a_loop():
    config = SACConfig(network=NET, cql=CQLConfig(weight=2.0, actions=3, temperature=0.7))
    learner, batch = SAC(config, OBS, ACT), one_batch()
    state = learner.init(jax.random.key(0))
    critic = state.params["critic"]
    actions, density = learner._cql_actions(state, batch, jax.random.key(1), 3)
    assert actions.shape == (9, B, ACT)
    np.testing.assert_allclose(density[:3], -ACT * np.log(2.0), rtol=1e-6)  # uniform in [-1, 1]²
    assert float(jnp.abs(actions).max()) <= 1
    q = jax.jit(q_values)
    obs = jnp.broadcast_to(batch.obs, (9, B, OBS)).reshape(-1, OBS)
    sampled = q(critic, obs, actions.reshape(-1, ACT)).reshape(2, 9, B)
    found = np.asarray(soft_maximum(sampled, density, temperature=0.7))
    for i in range(2):
        for b in range(B):
            terms = [
                float(q(critic, batch.obs[b : b + 1], actions[k, b : b + 1])[i, 0]) / 0.7 - float(density[k, b])
                for k in range(9)
            ]
            np.testing.assert_allclose(found[i, b], 0.7 * scipy.special.logsumexp(terms), rtol=1e-4)
    plain = SACConfig(network=NET)
    key = jax.random.key(2)
    gap = (found - np.asarray(q_values(critic, batch.obs, batch.action))).mean(1).sum()
    learner._cql_actions = lambda *_: (actions, density)
    _, info = learner._critic_step(state, batch, key, numbers(config))
    _, without = SAC(plain, OBS, ACT)._critic_step(state, batch, key, numbers(plain))
    np.testing.assert_allclose(float(info["cql_gap"]), gap, rtol=1e-4)
    np.testing.assert_allclose(float(info["critic_loss"] - without["critic_loss"]), 2.0 * gap, rtol=1e-3)


@pytest.mark.slow
def test_cal_ql_raises_the_policys_actions_only_and_never_binds_where_nothing_is_known():
    config = SACConfig(network=NET, cql=CQLConfig(actions=2, calibrated=True))
    learner, batch = SAC(config, OBS, ACT), one_batch()
    state = learner.init(jax.random.key(0))
    critic = state.params["critic"]
    actions, density = learner._cql_actions(state, batch, jax.random.key(1), 2)
    obs = jnp.broadcast_to(batch.obs, (6, B, OBS)).reshape(-1, OBS)
    q = q_values(critic, obs, actions.reshape(-1, ACT)).reshape(2, 6, B)
    np.testing.assert_array_equal(calibrated(q, jnp.full(B, -jnp.inf), uniform=2), q)  # online rows
    raised = np.array(q)
    raised[:, 2:] = np.maximum(raised[:, 2:], 7.0)
    np.testing.assert_array_equal(calibrated(q, jnp.full(B, 7.0), uniform=2), raised)
    q_data = q_values(critic, batch.obs, batch.action)
    gap = learner._cql_gap(critic, one_batch(to_go=7.0), q_data, actions, density)
    expected = scipy.special.logsumexp(raised - np.asarray(density), axis=1) - np.asarray(q_data)
    np.testing.assert_allclose(gap, expected.mean(1).sum(), rtol=1e-5)
    online = one_batch(to_go=-np.inf)
    gradient = jax.grad(lambda c: learner._cql_gap(c, online, q_values(c, obs[:B], batch.action), actions, density))(
        critic
    )
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


@pytest.mark.slow
def test_a_long_round_scans_and_counts():
    config = SACConfig(
        network=NetworkConfig(hidden=(16,), critics=4, layer_norm=True), policy_delay=6, target_subset=2,
        actor_q="mean", batch_size=B,
    )  # fmt: skip
    learner = SAC(config, OBS, ACT)
    batch = jax.tree.map(lambda x: jnp.stack([x] * 6), one_batch())
    state, info = jax.jit(learner.round)(learner.init(jax.random.key(0)), batch, jax.random.key(1), numbers(config))
    assert int(state.updates) == 6
    assert int(state.rounds) == 1
    frozen = numbers(config) | {"critic_warmup": jnp.float32(100)}
    held, _ = jax.jit(learner.round)(state, batch, jax.random.key(1), frozen)
    assert int(held.rounds) == 1  # updates of the actor, and there was none
    assert all(np.isfinite(value) for value in info.values())
