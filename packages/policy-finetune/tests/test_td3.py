"""TD3, TD3+BC and TD3-C against formulas written out again, closed forms, and a chain with known values."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from paperloop_data import EpisodeDataset
from policy_finetune.agents.structure import weights_of
from policy_finetune.config import (
    DualConstraint,
    Fade,
    FixedPenalty,
    NetworkConfig,
    Offline,
    OfflineConfig,
    Periodic,
    TD3Config,
)
from policy_finetune.learners import td3
from policy_finetune.learners.base import q_over_bound, value_to_climb
from policy_finetune.learners.registry import TD3, Batch
from policy_finetune.learners.td3 import multiplier
from policy_finetune.trainers.offline import OfflineTrainer

OBS, ACT, B = 3, 2, 8
NET = NetworkConfig(hidden=(16,))
# A large ε makes Adam's steps depend on the size of gradients, not on their signs alone.
BASE = {"network": NET, "target_noise": 0, "adam_eps": 0.1, "actor_lr": 0.05, "critic_lr": 0.03, "policy_delay": 2}
CONSTRAINT = DualConstraint(epsilon=1e-3)


def numbers(config, act=ACT):
    return {name: jnp.float32(value) for name, value in weights_of(config, act_dim=act).items()}


def batches(count, seed=0):
    k = jax.random.split(jax.random.key(seed), 5)
    return Batch(
        jax.random.normal(k[0], (count, B, OBS)),
        jax.random.uniform(k[1], (count, B, ACT), minval=-1),
        jax.random.normal(k[2], (count, B, OBS)),
        jax.random.normal(k[3], (count, B)),
        (jax.random.uniform(k[4], (count, B)) > 0.3).astype(jnp.float32),
        jnp.zeros((count, B)),
    )


def dense(layer, x):
    return x @ layer["w"] + layer["b"]


def policy(actor, s):
    for layer in actor["hidden"]:
        s = jnp.maximum(dense(layer, s), 0)
    return jnp.tanh(dense(actor["mean"], s))


def one_critic(critics, i, s, a):
    x = jnp.concatenate([s, a], 1)
    for number, layer in enumerate(critics):
        x = dense(jax.tree.map(lambda leaf: leaf[i], layer), x)
        x = jnp.maximum(x, 0) if number < len(critics) - 1 else x
    return x[:, 0]


def adam_step(params, gradient, moments, lr, config):
    steps = [optax.clip_by_global_norm(config.max_grad_norm)] if config.max_grad_norm else []
    transform = optax.chain(*steps, optax.adam(lr, eps=config.adam_eps))
    moments = transform.init(params) if moments is None else moments
    update, moments = transform.update(gradient, moments, params)
    return optax.apply_updates(params, update), moments


def straight_line(config, state, data, rounds):
    """Do rounds without target noise by the formulas of the papers, one line after another."""
    c = config.constraint
    actor, critic = state.params["actor"], state.params["critic"]
    t_actor, t_critic, reference = state.target["actor"], state.target["critic"], state.reference
    nu = state.params.get("nu")
    m_actor = m_critic = m_nu = None
    soft = lambda target, online, tau: jax.tree.map(lambda t, o: (1 - tau) * t + tau * o, target, online)  # noqa: E731
    n = config.network.critics
    step = 0
    for _ in range(rounds):
        for _ in range(config.policy_delay):
            s, a, s2, r, mask, _ = jax.tree.map(lambda x: x[step], data)  # noqa: B023
            a2 = policy(t_actor, s2)
            y = r + 0.99 * mask * jnp.stack([one_critic(t_critic, i, s2, a2) for i in range(n)]).min(0)

            def critic_loss(critic):
                return sum(jnp.mean((one_critic(critic, i, s, a) - y) ** 2) for i in range(n))  # noqa: B023

            critic, m_critic = adam_step(critic, jax.grad(critic_loss)(critic), m_critic, config.critic_lr, config)
            if config.target_update == "every_step":
                t_critic = soft(t_critic, critic, 0.005)
            step += 1
        lam = 0.0 if nu is None else jnp.log1p(jnp.exp(nu))

        def apart(actor):
            squared = (policy(actor, s) - policy(reference, s)) ** 2  # noqa: B023
            return squared.mean(0) if c.distance == "mse_per_dim" else squared.mean()

        def actor_loss(actor):
            pi = policy(actor, s)  # noqa: B023
            q = one_critic(critic, 0, s, pi)  # noqa: B023
            size = jax.lax.stop_gradient(jnp.mean(jnp.abs(q))) + 1e-6 if config.normalize_q else 1.0
            loss = -config.q_weight * q.mean() / size
            loss += config.bc_weight * jnp.mean((pi - a) ** 2)  # noqa: B023
            return loss + (jnp.sum(lam * apart(actor)) if c else 0.0)  # noqa: B023

        distance = apart(actor) if c else None
        actor, m_actor = adam_step(actor, jax.grad(actor_loss)(actor), m_actor, config.actor_lr, config)
        if c:
            gradient = jax.grad(lambda nu: jnp.sum(jax.nn.softplus(nu) * (c.epsilon - distance)))(nu)  # noqa: B023
            nu, m_nu = adam_step(nu, gradient, m_nu, c.dual_lr, config)
            reference = soft(reference, actor, 0.005)
        t_actor = soft(t_actor, actor, 0.005)
        if config.target_update == "with_actor":
            t_critic = soft(t_critic, critic, 0.005)
    out = {"actor": actor, "critic": critic, "target actor": t_actor, "target critic": t_critic}
    return out | ({"nu": nu, "reference": reference} if c else {})


@pytest.mark.parametrize(
    "config",
    [
        pytest.param(TD3Config(normalize_q=False, **BASE), marks=pytest.mark.slow),
        pytest.param(TD3Config(q_weight=2.5, bc_weight=1.0, **BASE | {"policy_delay": 3}), marks=pytest.mark.slow),
        TD3Config(
            target_update="every_step", constraint=CONSTRAINT,
            **BASE | {"network": NetworkConfig(hidden=(16,), critics=3)},
        ),
        pytest.param(
            TD3Config(
                max_grad_norm=0.05, **BASE | {"policy_delay": 1},
                constraint=DualConstraint(distance="mse_per_dim", epsilon=1e-3, nu0=2.0),
            ),
            marks=pytest.mark.slow,
        ),
    ],
    ids=["td3", "td3bc", "td3c", "td3c-per-dim"],
)  # fmt: skip
def test_rounds_equal_the_formulas_written_out(config):
    learner = TD3(config, OBS, ACT)
    state = learner.init(jax.random.key(1))
    # The reference starts elsewhere than the policy, so that the constraint has a gradient from the first step on.
    if state.reference is not None:
        state = state.replace(reference=jax.tree.map(lambda x: x + 0.05, state.reference))
    data = batches(2 * config.policy_delay)
    rounds = 2 if config.policy_delay == 1 else 1
    expected = jax.jit(lambda state: straight_line(config, state, data, rounds))(state)
    step = jax.jit(learner.round)
    for i in range(rounds):
        part = jax.tree.map(lambda x, i=i: x[i * config.policy_delay : (i + 1) * config.policy_delay], data)
        state, info = step(state, part, jax.random.key(i), numbers(config))
    found = {"actor": state.params["actor"], "critic": state.params["critic"]}
    found |= {"target actor": state.target["actor"], "target critic": state.target["critic"]}
    if config.constraint:
        found |= {"nu": state.params["nu"], "reference": state.reference}
        assert float(info["lambda"]) > 0
    assert found.keys() == expected.keys()
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-6), found, expected)
    assert int(state.updates) == rounds * config.policy_delay
    assert int(state.rounds) == rounds


def action_reader(scale, critics=1):
    """Return critics with Q(s, a) = scale · Σ a, exactly, for actions in [-1, 1]."""
    first = jnp.zeros((critics, OBS + ACT, 2)).at[:, OBS:, 0].set(1.0)
    bias = jnp.full((critics, 2), float(ACT))  # keeps the ReLU open
    scale = jnp.broadcast_to(jnp.asarray(scale, jnp.float32), (critics,))
    second = jnp.zeros((critics, 2, 1)).at[:, 0, 0].set(scale)
    return [{"w": first, "b": bias}, {"w": second, "b": (-ACT * scale)[:, None]}]


def test_smoothing_noise_is_clipped_shared_and_keeps_actions_in_bounds():
    config = TD3Config(network=NET, target_noise=1.0, noise_clip=0.3, discount=1.0)
    learner, data = TD3(config, OBS, ACT), jax.tree.map(lambda x: x[0], batches(1))
    state = learner.init(jax.random.key(0))
    clean = np.asarray(policy(state.target["actor"], data.next_obs)).sum(1)
    data = data._replace(reward=jnp.zeros(B), mask=jnp.ones(B))

    draw = jax.jit(learner.targets)

    def targets(critics, weights=None, seed=0):
        changed = state.replace(target=state.target | {"critic": critics})
        return np.asarray(draw(changed, data, jax.random.key(seed), weights or numbers(config)))

    apart = np.concatenate([targets(action_reader(1.0), seed=seed) - clean for seed in range(20)])
    assert np.abs(apart).max() <= 0.3 * ACT + 1e-6
    assert np.abs(apart).max() > 0.29 * ACT  # a standard deviation of 1 meets the clip in most draws
    # Twins with different noise would disagree: the minimum of two equal critics would lie below either.
    np.testing.assert_array_equal(targets(action_reader(1.0, 2)), targets(action_reader(1.0)))
    wild = numbers(config) | {"noise_clip": jnp.float32(100.0), "target_noise": jnp.float32(100.0)}
    np.testing.assert_allclose(np.abs(targets(action_reader(1.0), wild)) % 1, 0, atol=1e-5)  # every action at a bound


def test_the_target_is_the_minimum_of_a_random_subset():
    config = TD3Config(network=NetworkConfig(hidden=(2,), critics=4), target_noise=0, target_subset=2, discount=1.0)
    learner, data = TD3(config, OBS, ACT), jax.tree.map(lambda x: x[0], batches(1))
    state = learner.init(jax.random.key(0))
    data = data._replace(reward=jnp.zeros(B), mask=jnp.ones(B))
    constants = [{"w": jnp.zeros((4, OBS + ACT, 2)), "b": jnp.zeros((4, 2))},
                 {"w": jnp.zeros((4, 2, 1)), "b": jnp.array([[1.0], [2.0], [3.0], [4.0]])}]  # fmt: skip
    state = state.replace(target=state.target | {"critic": constants})
    draw = jax.jit(lambda key: learner.targets(state, data, key, numbers(config)))
    values = np.array([np.unique(draw(jax.random.key(i))).item() for i in range(300)])  # one subset for the batch
    # Of the 6 pairs the minimum is 1 in three, 2 in two, 3 in one.
    counts = np.array([(values == v).sum() for v in (1.0, 2.0, 3.0)])
    assert counts.sum() == 300
    expected = 300 * np.array([3, 2, 1]) / 6
    assert ((counts - expected) ** 2 / expected).sum() < 13.8  # chi-square, 2 degrees of freedom, p = 0.001


def test_the_actor_climbs_what_it_is_told_to():
    critics = action_reader([1.0, -2.0, 4.0], 3)
    s, a = jnp.zeros((B, OBS)), jnp.full((B, ACT), 0.25)
    for actor_q, expected in (("first", 0.5), ("min", -1.0), ("mean", 0.5)):
        np.testing.assert_allclose(value_to_climb(critics, s, a, how=actor_q), expected, atol=1e-6)


def actor_steps(config, known, steps, monkeypatch, seed=0):
    """Do actor steps only, in one state of the world with a known Q; return the action before each, and λ after."""
    monkeypatch.setattr(td3, "value_to_climb", lambda critics, obs, action, how: known(action[:, 0]))
    learner = TD3(config, 1, 1)
    state = learner.init(jax.random.key(seed))
    batch = Batch(jnp.zeros((4, 1)), jnp.zeros((4, 1)), jnp.zeros((4, 1)), jnp.zeros(4), jnp.ones(4), jnp.zeros(4))
    state, weights = state.replace(updates=jnp.int32(1)), numbers(config, 1)

    def body(state, _):
        action = policy(state.params["actor"], batch.obs)[0, 0]
        state, _ = learner._actor_step(state, batch, weights)
        return state, (action, multiplier(state.params["nu"]))

    state, (action, lam) = jax.jit(lambda s: jax.lax.scan(body, s, length=steps))(state)
    return np.asarray(action, np.float64), np.asarray(lam), state


@pytest.mark.slow
def test_the_constrained_step_finds_the_optimum_and_multiplier_of_the_bandit(monkeypatch):
    # Q(a) = -(a - a*)²; a is to stay within √ε of a0: a = a0 ± min(|a* - a0|, √ε), λ = |a* - a0| / √ε - 1 if active.
    def solve(goal, epsilon):
        constraint = DualConstraint(epsilon=epsilon, reference=Offline(), dual_lr=1e-2)
        config = TD3Config(network=NET, normalize_q=False, actor_lr=3e-4, constraint=constraint)
        action, lam, _ = actor_steps(config, lambda a: -jnp.square(a - goal), 12_000, monkeypatch)
        return action[0], action[-3000:].mean(), lam[-3000:].mean()

    start, end, lam = solve(0.7, 0.04)
    assert end == pytest.approx(start + 0.2, abs=1e-3)
    assert lam == pytest.approx((0.7 - start) / 0.2 - 1, rel=0.02)
    start, end, lam = solve(start - 0.1, 0.04)  # within reach: the constraint does nothing
    assert end == pytest.approx(start - 0.1, abs=1e-3)
    assert lam < 1e-3


def test_a_trailing_reference_makes_a_speed_limit(monkeypatch):
    tau, epsilon = 0.005, 1e-3
    constraint = DualConstraint(epsilon=epsilon, nu0=15.0, dual_lr=1e-2)
    config = TD3Config(network=NET, normalize_q=False, tau=tau, actor_lr=3e-4, constraint=constraint)
    action, _, _ = actor_steps(config, lambda a: a, 3000, monkeypatch)
    assert (action[-1] - action[-1001]) / 1000 == pytest.approx(tau * epsilon**0.5, rel=0.02)


@pytest.mark.slow
def test_other_references_and_penalties(monkeypatch):
    base = {"network": NET, "normalize_q": False, "actor_lr": 1e-3}
    periodic = DualConstraint(reference=Periodic(period=3))
    for steps, equal in ((2, False), (3, True), (4, False)):
        _, _, state = actor_steps(TD3Config(constraint=periodic, **base), lambda a: a, steps, monkeypatch)
        same = jax.tree.map(lambda a, b: bool((a == b).all()), state.reference, state.params["actor"])
        assert all(jax.tree.leaves(same)) == equal
    fixed = FixedPenalty(coefficient=2.0, fade=Fade(steps=100, floor=0.25))
    config = TD3Config(constraint=fixed, **base)
    learner = TD3(config, 1, 1)
    state = learner.init(jax.random.key(0))
    for updates, expected in ((0, 2.0), (50, 1.25), (100, 0.5), (1000, 0.5)):
        now = state.replace(updates=jnp.int32(updates))
        np.testing.assert_allclose(learner._lambda(now, numbers(config, 1)), expected)


@pytest.mark.slow
def test_the_targets_penalty_is_that_of_the_online_actor():
    config, plain = (
        TD3Config(
            network=NET, target_noise=0, discount=0.9, constraint=FixedPenalty(coefficient=3.0, penalize_target=p)
        )
        for p in (True, False)
    )
    data = jax.tree.map(lambda x: x[0], batches(1))
    state = TD3(config, OBS, ACT).init(jax.random.key(0))
    key, weights = jax.random.key(1), numbers(config)
    without = TD3(plain, OBS, ACT).targets(state, data, key, weights)
    np.testing.assert_array_equal(TD3(config, OBS, ACT).targets(state, data, key, weights), without)  # all are equal
    # The actor moves; the target actor and the trailing reference stay equal to one another.
    moved = jax.tree.map(lambda x: x + 0.1, state.params["actor"])
    state = state.replace(params=state.params | {"actor": moved})
    distance = ((policy(moved, data.next_obs) - policy(state.reference, data.next_obs)) ** 2).mean(1)
    assert float(distance.min()) > 1e-4
    y = TD3(config, OBS, ACT).targets(state, data, key, weights)
    np.testing.assert_allclose(y, without - 0.9 * data.mask * 3.0 * distance, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_a_fixed_penalty_is_measured_against_no_epsilon():
    for constraint, limited in ((FixedPenalty(), False), (DualConstraint(), True)):
        config = TD3Config(network=NET, constraint=constraint)
        learner = TD3(config, OBS, ACT)
        state = learner.init(jax.random.key(0)).replace(updates=jnp.int32(1))
        state = state.replace(reference=jax.tree.map(lambda x: x + 0.1, state.reference))
        _, info = learner._actor_step(state, jax.tree.map(lambda x: x[0], batches(1)), numbers(config))
        assert float(info["distance"]) > 1e-3
        assert (float(info["distance_over_epsilon"]) > 0) == (float(info["violating"]) > 0) == limited


@pytest.mark.slow
def test_divergence_is_measured_by_the_mean_size_of_q():
    info = {"q": jnp.float32(0.0), "q_abs": jnp.float32(30.0)}
    reward = jnp.array([1.0, -3.0])
    assert float(q_over_bound(info, reward, 0.9)["q_over_bound"]) == pytest.approx(30 / (3 / 0.1))
    entropy = info | {"alpha": jnp.float32(0.5), "entropy": jnp.float32(-4.0)}
    assert float(q_over_bound(entropy, reward, 0.9)["q_over_bound"]) == pytest.approx(30 / ((3 + 2) / 0.1))
    assert float(q_over_bound(entropy, 0 * reward, 0.9)["q_over_bound"]) == 0
    assert q_over_bound({"actor_loss": reward}, reward, 0.9) == {}
    config = TD3Config(network=NET, target_noise=0)
    learner, data = TD3(config, OBS, ACT), jax.tree.map(lambda x: x[0], batches(1))
    state = learner.init(jax.random.key(0))
    _, info = learner._critic_step(state, data, jax.random.key(0), numbers(config))
    q = jnp.stack([one_critic(state.params["critic"], i, data.obs, data.action) for i in range(2)])
    np.testing.assert_allclose(info["q_abs"], jnp.abs(q).mean(), rtol=1e-5)


@pytest.mark.slow
def test_a_critic_warm_up_moves_the_critics_only():
    config = TD3Config(network=NET, constraint=CONSTRAINT)
    learner = TD3(config, OBS, ACT)
    state = first = learner.init(jax.random.key(0))
    weights = numbers(config) | {"critic_warmup": jnp.float32(4)}
    step = jax.jit(learner.round)
    moved = []
    for i in range(4):
        state, _ = step(state, batches(2, i), jax.random.key(i), weights)
        moved.append(not np.array_equal(state.params["actor"]["mean"]["w"], first.params["actor"]["mean"]["w"]))
    assert moved == [False, False, True, True]  # 4 critic updates, two a round
    assert not np.array_equal(state.params["critic"][0]["w"], first.params["critic"][0]["w"])
    assert int(jax.tree.leaves(state.opt["actor"])[0]) == 2  # Adam's count: steps that were not taken leave no trace
    assert (int(state.updates), int(state.rounds)) == (8, 2)


def test_decaying_weights_and_rates():
    config = TD3Config(network=NET, bc_weight=1.0, bc_fade=Fade(steps=100, floor=0.2), q_weight=0.0, actor_lr_steps=10)
    learner = TD3(config, OBS, ACT)
    data, state = jax.tree.map(lambda x: x[0], batches(1)), learner.init(jax.random.key(0))
    losses, step = [], jax.jit(learner._actor_step)
    for updates in (0, 50, 100, 200):
        _, info = step(state.replace(updates=jnp.int32(updates)), data, numbers(config))
        losses.append(float(info["actor_loss"]) / float(info["bc_distance"]))
    np.testing.assert_allclose(losses, [1.0, 0.6, 0.2, 0.2], rtol=1e-5)
    state = state.replace(updates=jnp.int32(1))
    new, _ = step(state.replace(rounds=jnp.int32(10)), data, numbers(config))
    np.testing.assert_array_equal(new.params["actor"]["mean"]["w"], state.params["actor"]["mean"]["w"])  # cosine at 0


def test_a_time_limit_bootstraps_and_a_terminal_state_does_not():
    # State (1, 0) leads to itself with reward 1 for ever, cut into episodes by a time limit: Q = 1 / (1 - 0.9) = 10.
    # State (0, 1) gives reward 1 and ends: Q = 1.
    rng = np.random.default_rng(0)
    n = 240
    ended = np.arange(n) % 4 == 3
    loops = np.arange(n) < n // 2
    observations = np.where(loops[:, None], [1.0, 0.0], [0.0, 1.0]).astype(np.float32)
    data = EpisodeDataset(
        observations=observations,
        actions=rng.uniform(-1, 1, (n, 1)).astype(np.float32),
        rewards=np.ones(n, np.float32),
        terminated=~loops,
        truncated=ended & loops,
        episode_starts=np.concatenate([np.arange(0, n // 2, 4), np.arange(n // 2, n)]),
        next_observations=observations,
    )
    learner = TD3Config(
        network=NET, discount=0.9, tau=0.05, critic_lr=3e-3, actor_lr=1e-3, batch_size=64, target_noise=0.0
    )
    trainer = OfflineTrainer(OfflineConfig(learner=learner, updates_per_step=4000, normalize_observations=False), data)
    state, metrics = trainer.step(trainer.init(0))
    critics = jax.tree.map(lambda x: x[0], state.learner.params["critic"])
    actions = jnp.linspace(-0.9, 0.9, 7)[:, None]
    for s, expected in (([1.0, 0.0], 10.0), ([0.0, 1.0], 1.0)):
        obs = jnp.tile(jnp.array(s), (7, 1))
        for i in range(2):
            np.testing.assert_allclose(one_critic(critics, i, obs, actions), expected, rtol=0.01, atol=0.02)
    assert float(metrics["q_over_bound"][0]) <= 1.0
