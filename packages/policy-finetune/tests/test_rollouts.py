"""Acting in NumPy, and evaluation against a plain loop over gymnasium."""

import gymnasium
import numpy as np
import pytest

from paperloop.errors import NonFiniteError, UserError
from paperloop.seeds import fold_seed
from policy_finetune.envs import rollouts
from policy_finetune.envs.acting import HostPolicy
from policy_finetune.envs.pool import episode_seed
from policy_finetune.envs.rollouts import RolloutEnvs, evaluate
from policy_finetune.envs.spec import EnvSpec


def random_policy(agents, obs, act, seed=0, hidden=16, **normaliser):
    rng = np.random.default_rng(seed)
    sizes = [(obs, hidden), (hidden, hidden), (hidden, act)]
    layers = [(rng.normal(size=(agents, i, o)) / i**0.5, rng.normal(size=(agents, 1, o)) / 10) for i, o in sizes]
    return HostPolicy(layers, **normaliser)


def test_acting_is_the_network_written_out():
    rng = np.random.default_rng(1)
    mean, std = rng.normal(size=(3, 5)), rng.uniform(0.5, 2, (3, 5))
    policy = random_policy(3, 5, 2, mean=mean, std=std)
    seen = rng.normal(size=(3, 7, 5)).astype(np.float32)
    actions = policy(seen)
    assert actions.shape == (3, 7, 2)
    assert actions.dtype == np.float32
    for agent in range(3):
        x = (seen[agent].astype(np.float64) - mean[agent]) / std[agent]
        (w0, b0), (w1, b1), (w2, b2) = ((w[agent].astype(float), b[agent].astype(float)) for w, b in policy.layers)
        expected = np.tanh(np.maximum(np.maximum(x @ w0 + b0, 0) @ w1 + b1, 0) @ w2 + b2)
        np.testing.assert_allclose(actions[agent], expected, atol=1e-6)


@pytest.mark.parametrize("hidden", [16, 256])
def test_an_action_does_not_depend_on_what_else_is_asked(hidden):
    policy = random_policy(2, 11, 3, hidden=hidden)
    seen = np.random.default_rng(0).normal(size=(2, 33, 11)).astype(np.float32)
    together = policy(seen)
    for row in (0, 17, 32):
        np.testing.assert_array_equal(policy(seen[:, row]), together[:, row])
    for agent in range(2):
        np.testing.assert_array_equal(policy.agent(agent)(seen[[agent]])[0], together[agent])
    np.testing.assert_array_equal(policy.agent(-1)(seen[[1]])[0], together[1])
    np.testing.assert_array_equal(policy(seen.reshape(2, 3, 11, 11)).reshape(2, 33, 3), together)


def test_one_agent_and_a_shared_normaliser():
    policy = random_policy(2, 4, 1, mean=np.ones(4), std=np.full(4, 2.0))
    single = HostPolicy.single([(w[1], b[1, 0]) for w, b in policy.layers], mean=np.ones(4), std=np.full(4, 2.0))
    seen = np.random.default_rng(0).normal(size=(2, 3, 4))
    np.testing.assert_array_equal(single(seen[1:]), policy(seen)[1:])
    linear = HostPolicy.single([(np.eye(2), np.zeros(2))], output="linear")
    np.testing.assert_array_equal(linear([[3.0, -4.0]]), [[3, -4]])


def test_weights_in_any_memory_order_give_the_same_bits():
    policy = random_policy(1, 11, 3, hidden=64)
    turned = HostPolicy([(np.asfortranarray(w), b) for w, b in policy.layers])
    seen = np.random.default_rng(0).normal(size=(1, 9, 11))
    np.testing.assert_array_equal(policy(seen), turned(seen))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: HostPolicy([]), "at least one layer"),
        (lambda: HostPolicy([(np.ones((1, 2, 3)), np.ones((1, 3)))]), "Layer 0"),
        (lambda: HostPolicy([(np.ones((2, 3)), np.ones((1, 1, 3)))]), "Layer 0"),
        (
            lambda: HostPolicy([(np.ones((1, 2, 3)), np.ones((1, 1, 3))), (np.ones((1, 4, 1)), np.ones((1, 1, 1)))]),
            "r 1",
        ),
        (lambda: random_policy(1, 3, 1, mean=np.ones(2)), "mean .* shape"),
        (lambda: random_policy(1, 3, 1, std=np.zeros(3)), "positive"),
        (lambda: random_policy(2, 3, 1)(np.ones((2, 4))), r"\(2, ..., 3\); got \(2, 4\)"),
        (lambda: random_policy(2, 3, 1)(np.ones((3,))), "got"),
    ],
)
def test_policies_that_do_not_fit_together(make, says):
    with pytest.raises(UserError, match=says):
        make()


def evaluation_seeds(seed, episodes):
    return [fold_seed(seed, "evaluation", number) for number in range(episodes)]


def plain(policy, agent, env_id, seed, noise=None):
    env = gymnasium.make(env_id)
    half = env.action_space.high
    seen, _ = env.reset(seed=seed)
    total, length = 0.0, 0
    while True:
        action = policy.agent(agent)(np.asarray(seen, np.float32)[None])[0]
        if noise is not None:
            action = np.clip(action + noise[length], -1, 1)
        seen, reward, terminated, truncated, _ = env.step(half * action)
        total, length = total + reward, length + 1
        if terminated or truncated:
            return total, length, terminated


@pytest.mark.parametrize("env_id", ["InvertedDoublePendulum-v5", "Hopper-v5", "Pendulum-v1"])
def test_an_evaluation_is_a_plain_loop_bit_for_bit(env_id, monkeypatch):
    spec = EnvSpec.of(env_id)
    policy = random_policy(2, spec.obs_dim, spec.act_dim)
    seeds = evaluation_seeds(4, 3)
    found = evaluate(policy, spec, episodes=3, seed=4)
    assert found.returns.shape == found.lengths.shape == (2, 3)
    for agent in range(2):
        for number, seed in enumerate(seeds):
            expected = plain(policy, agent, env_id, seed)
            at = agent, number
            assert (found.returns[at], found.lengths[at], found.terminated[at]) == expected
    np.testing.assert_allclose(found.mean, found.returns.mean(axis=1))
    np.testing.assert_allclose(found.std, found.returns.std(axis=1))
    monkeypatch.setattr(rollouts, "MAX_ENVS", 3)  # one episode at a time side by side
    np.testing.assert_array_equal(evaluate(policy, spec, episodes=3, seed=4).returns, found.returns)


def test_environments_are_used_again_and_carry_nothing_over():
    spec = EnvSpec.of("InvertedDoublePendulum-v5")
    policy = random_policy(2, spec.obs_dim, spec.act_dim)
    with RolloutEnvs(spec) as envs:
        first = evaluate(policy, spec, episodes=3, envs=envs)
        made = envs.take(6)
        second = evaluate(policy, spec, episodes=3, envs=envs)
        assert envs.take(6) == made
        other = evaluate(policy, spec, episodes=3, seed=1, envs=envs)
    np.testing.assert_array_equal(first.returns, second.returns)
    assert not np.array_equal(first.returns, other.returns)
    np.testing.assert_array_equal(evaluate(policy.agent(1), spec, episodes=3).returns[0], first.returns[1])
    np.testing.assert_array_equal(evaluate(policy, spec, episodes=2).returns, first.returns[:, :2])


def test_evaluation_never_meets_the_starts_of_training():
    training = {episode_seed(seed, episode) for seed in range(20) for episode in range(200)}
    assert not training & {start for seed in range(20) for start in evaluation_seeds(seed, 200)}


def test_noise_is_a_function_of_the_seed_and_the_episode(monkeypatch):
    spec = EnvSpec.of("InvertedDoublePendulum-v5")
    policy = random_policy(2, spec.obs_dim, spec.act_dim)
    noisy = evaluate(policy, spec, episodes=4, noise=0.3)
    assert not np.array_equal(noisy.returns, evaluate(policy, spec, episodes=4).returns)
    monkeypatch.setattr(rollouts, "MAX_ENVS", 2)
    np.testing.assert_array_equal(evaluate(policy, spec, episodes=4, noise=0.3).returns, noisy.returns)
    shocks = np.random.default_rng(fold_seed(0, "evaluation noise", 2)).standard_normal((1000, 1), np.float32)
    expected = plain(policy, 1, spec.env_id, evaluation_seeds(0, 3)[2], noise=np.float32(0.3) * shocks)
    assert noisy.returns[1, 2] == expected[0]


def test_what_cannot_be_evaluated_is_refused():
    spec = EnvSpec.of("Pendulum-v1")
    policy = random_policy(1, 3, 1)
    with pytest.raises(UserError, match="at least one episode"):
        evaluate(policy, spec, episodes=0)
    with pytest.raises(UserError, match="noise of an evaluation is at least 0"):
        evaluate(policy, spec, noise=-0.1)
    lost = HostPolicy([(w * np.nan, b) for w, b in policy.layers])
    with pytest.raises(NonFiniteError, match="agent 0 gave an action that is NaN"):
        evaluate(lost, spec, episodes=1)
    with pytest.raises(UserError, match=r"takes observations of shape \(1, ..., 4\)"):
        evaluate(random_policy(1, 4, 1), spec, episodes=1)
