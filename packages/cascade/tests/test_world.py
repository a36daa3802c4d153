"""The world model's parts against torch, SciPy and NumPy."""

from importlib.util import find_spec

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from cascade_explore.config import WorldModel
from cascade_explore.envs.spec import Actions, Numbers, Symbols
from cascade_explore.explore.policies import Discrete, TruncatedNormal, distribution
from cascade_explore.explore.returns import discount_weights, lambda_returns
from cascade_explore.world import losses
from cascade_explore.world.categorical import balanced_kl, categorical_kl, mix_uniform, sample
from cascade_explore.world.model import Batch, World
from cascade_explore.world.nets import LayerNormGRU

RNG = np.random.default_rng(0)
TINY = WorldModel(deter=8, groups=2, classes=3, hidden=8, units=8, layers=1, heads=3, batch=2, length=4)
KIND = Symbols(((3, 4), (1, 2)))


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def test_kl_is_torchs():
    torch = pytest.importorskip("torch")
    p, q = normal(5, 4, 6), normal(5, 4, 6)
    one, other = (
        torch.distributions.Independent(torch.distributions.OneHotCategorical(logits=torch.tensor(x)), 1)
        for x in (p, q)
    )
    np.testing.assert_allclose(categorical_kl(p, q), torch.distributions.kl_divergence(one, other), rtol=1e-5)


def test_the_balance_splits_the_gradient():
    p, q = jnp.array(normal(7, 2, 3)), jnp.array(normal(7, 2, 3))
    to_post, to_prior = jax.grad(lambda a, b: categorical_kl(a, b).mean(), (0, 1))(p, q)
    ours = jax.grad(lambda a, b: balanced_kl(a, b, balance=0.8, free=0.0)[0], (0, 1))(p, q)
    np.testing.assert_allclose(ours[0], 0.2 * to_post, rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(ours[1], 0.8 * to_prior, rtol=1e-5, atol=1e-8)


def test_free_nats_hold_for_the_mean():
    p, q = jnp.array(normal(50, 2, 3)), jnp.array(normal(50, 2, 3))
    mean = float(categorical_kl(p, q).mean())
    assert float(balanced_kl(p, q, balance=0.8, free=mean + 1)[0]) == pytest.approx(mean + 1)
    assert float(balanced_kl(p, q, balance=0.8, free=mean - 0.1)[0]) == pytest.approx(mean, rel=1e-5)


def test_samples_are_one_hot_with_the_gradient_of_probabilities():
    logits = jnp.array(normal(1, 4))
    drawn = jax.vmap(lambda k: sample(logits, k))(jax.random.split(jax.random.key(0), 2000))
    np.testing.assert_allclose(drawn.mean(0), jax.nn.softmax(logits), atol=0.04)
    slope = jax.grad(lambda x: (sample(x, jax.random.key(0)) * jnp.arange(4.0)).sum())(logits)
    exact = jax.grad(lambda x: (jax.nn.softmax(x) * jnp.arange(4.0)).sum())(logits)
    np.testing.assert_allclose(slope, exact, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(jnp.exp(mix_uniform(logits, 0.2)).sum(-1), 1.0, rtol=1e-5)
    assert float(jnp.exp(mix_uniform(jnp.array([100.0, 0.0]), 0.1))[1]) == pytest.approx(0.05, rel=1e-4)


def test_the_gru_is_torchs_formula():
    torch = pytest.importorskip("torch")
    cell, h, x = LayerNormGRU(5), normal(4, 5), normal(4, 3)
    params = cell.init(jax.random.key(0), h, x)["params"]
    scale, bias = normal(15), normal(15)
    params["LayerNorm_0"] = {"scale": jnp.array(scale), "bias": jnp.array(bias)}
    t = torch.tensor
    weight = t(np.asarray(params["Dense_0"]["kernel"])).T
    parts = torch.nn.functional.linear(torch.cat([t(x), t(h)], -1), weight, t(np.asarray(params["Dense_0"]["bias"])))
    parts = torch.nn.functional.layer_norm(parts, (15,), t(scale), t(bias), eps=1e-6)
    reset, candidate, update = parts.chunk(3, -1)
    update = torch.sigmoid(update - 1)
    expected = update * torch.tanh(torch.sigmoid(reset) * candidate) + (1 - update) * t(h)
    np.testing.assert_allclose(cell.apply({"params": params}, h, x), expected, atol=1e-5)


@pytest.mark.parametrize("lam", [0.0, 0.5, 0.95, 1.0])
def test_lambda_returns_are_rlaxs(lam):
    reward, discount, value = normal(6, 2), RNG.uniform(0.5, 1, (6, 2)).astype(np.float32), normal(7, 2)
    ours = lambda_returns(jnp.array(reward), jnp.array(discount), jnp.array(value), lam=lam)
    expected = value[-1].copy()  # rlax.lambda_returns: r_t + d_t ((1 - λ) v_t + λ G), v_t the value after r_t
    for t in reversed(range(6)):
        expected = reward[t] + discount[t] * ((1 - lam) * value[t + 1] + lam * expected)
        np.testing.assert_allclose(ours[t], expected, rtol=1e-5, atol=1e-6)
    if find_spec("rlax") is not None:
        import rlax

        peers = rlax.lambda_returns(reward[:, 0], discount[:, 0], value[1:, 0], lam)
        np.testing.assert_allclose(ours[:, 0], peers, rtol=1e-5, atol=1e-6)


def test_returns_count_the_last_reward_and_weights_end_with_episodes():
    slope = jax.grad(lambda r: lambda_returns(r, jnp.full(4, 0.9), jnp.zeros(5), lam=0.95)[0])(jnp.zeros(4))
    np.testing.assert_allclose(slope, (0.9 * 0.95) ** np.arange(4), rtol=1e-5)
    weights = discount_weights(jnp.ones(1), jnp.array([[0.9], [0.0], [0.9]]))
    np.testing.assert_allclose(weights[:, 0], [1.0, 0.9, 0.0])


def test_truncated_normal_is_scipys():
    mean, std = np.array([0.1, -0.7, 0.95], np.float32), np.array([0.3, 1.1, 0.2], np.float32)
    peer = stats.truncnorm((-1 - mean) / std, (1 - mean) / std, mean, std)
    ours = TruncatedNormal(jnp.array(mean), jnp.array(std))
    at = np.array([0.5, -0.2, 0.9], np.float32)
    assert float(ours.log_prob(at)) == pytest.approx(peer.logpdf(at).sum(), abs=1e-5)
    assert float(ours.entropy()) == pytest.approx(peer.entropy().sum(), abs=1e-4)
    drawn = np.asarray(jax.jit(jax.vmap(ours.sample))(jax.random.split(jax.random.key(0), 1000)))
    assert (np.abs(drawn) <= 1).all()
    for i in range(3):
        one = stats.truncnorm((-1 - mean[i]) / std[i], (1 - mean[i]) / std[i], mean[i], std[i])
        assert stats.kstest(drawn[:, i], one.cdf).pvalue > 1e-3


def test_discrete_policies_and_the_spread_of_continuous_ones():
    policy = Discrete(jnp.array(normal(2, 5)))
    np.testing.assert_allclose(policy.entropy(), stats.entropy(jax.nn.softmax(policy.logits), axis=-1), rtol=1e-5)
    action = policy.mode()
    np.testing.assert_allclose(policy.log_prob(action), jax.nn.log_softmax(policy.logits).max(-1), rtol=1e-5)
    made = distribution(jnp.zeros((1, 4)), Actions(2, discrete=False))
    np.testing.assert_allclose(made.std, 1.1)  # 2 σ(0) + .1


def test_disagreement_is_numpys_deviation():
    predicted = normal(5, 3, 4)
    np.testing.assert_allclose(losses.disagreement(predicted), predicted.std(0).mean(-1), rtol=1e-5)
    same = jnp.broadcast_to(predicted[:1], predicted.shape)
    np.testing.assert_array_equal(losses.disagreement(same), 0.0)
    assert bool(jnp.isfinite(jax.grad(lambda x: losses.disagreement(x).sum())(same)).all())


def test_symbols_become_one_hot_and_are_decoded_by_cross_entropy():
    torch = pytest.importorskip("torch")
    seen = np.array([[0, 3, 1, 1], [2, 2, 0, 0]], np.uint8)
    x = losses.as_input(jnp.array(seen), KIND)
    expected = np.concatenate([np.eye(4)[seen[:, :3]].reshape(2, -1), np.eye(2)[seen[:, 3]]], -1)
    np.testing.assert_array_equal(x, expected)
    output = normal(2, 14)
    big = torch.nn.functional.cross_entropy(
        torch.tensor(output[:, :12].reshape(6, 4)), torch.tensor(seen[:, :3].reshape(-1).astype(int)), reduction="none"
    ).reshape(2, 3)
    small = torch.nn.functional.cross_entropy(
        torch.tensor(output[:, 12:]), torch.tensor(seen[:, 3].astype(int)), reduction="none"
    )
    ours = losses.decoder_loss(jnp.array(output), x, KIND)
    np.testing.assert_allclose(ours, big.sum(-1) + small, rtol=1e-5)
    np.testing.assert_array_equal(losses.most_probable(x, KIND), seen)


def test_numbers_are_gaussian_and_ends_bernoulli():
    kind = Numbers(3)
    x = losses.as_input(jnp.array([[-10.0, 0.0, np.e - 1]]), kind)
    np.testing.assert_allclose(x[0], [-np.log(11), 0, 1], rtol=1e-5)
    np.testing.assert_allclose(losses.decoder_loss(x + 2.0, x, kind), 6.0, rtol=1e-5)
    loss = losses.continue_loss(jnp.array([0.3, 0.3]), jnp.array([0.0, 1.0]))
    p = 1 / (1 + np.exp(-0.3))
    np.testing.assert_allclose(loss, [-np.log(p), -np.log(1 - p)], rtol=1e-5)


@pytest.fixture(scope="module")
def made():
    world = World(TINY, KIND, Actions(2, discrete=True))
    params, ensemble = jax.jit(lambda k: (world.init(k), world.init_ensemble(k)))(jax.random.key(0))
    seen = RNG.integers(0, 2, (6, 2, 4)).astype(np.uint8)
    action = jax.nn.one_hot(RNG.integers(0, 2, (6, 2)), 2)
    first = np.zeros((6, 2), bool)
    first[3, 0] = True
    return world, params, ensemble, Batch(jnp.array(seen), action, jnp.array(first), jnp.zeros((6, 2), bool))


def test_an_episodes_border_forgets_what_was_before(made):
    world, params, _, batch = made
    key = jax.random.key(2)
    follow = jax.jit(lambda batch: world.follow(params, batch, key)[1])
    before = follow(batch)
    other = batch._replace(observation=batch.observation.at[:3, 0].set(1 - batch.observation[:3, 0]))
    after = follow(other)
    np.testing.assert_array_equal(before[3:, 0], after[3:, 0])
    assert np.abs(np.asarray(before[:3, 0] - after[:3, 0])).max() > 0
    without = follow(batch._replace(first=jnp.zeros((6, 2), bool)))
    assert np.abs(np.asarray(before[3, 0] - without[3, 0])).max() > 0


def test_the_ensemble_sees_the_action_that_causes_what_it_predicts(made):
    world, params, ensemble, batch = made
    states = jax.jit(world.follow)(params, batch, jax.random.key(2))[0]
    predict = jax.jit(world.predict)
    flat = world.ensemble_loss(ensemble, states, batch)
    feat = np.concatenate([states.z, states.h], -1)
    expected, n = 0.0, 0
    for t in range(5):
        for i in range(2):
            if not batch.first[t + 1, i]:
                guess = predict(ensemble, feat[t, i], batch.action[t + 1, i])
                expected, n = expected + 0.5 * float(jnp.square(guess - states.z[t + 1, i]).sum()), n + 1
    assert n == 9
    assert float(flat) == pytest.approx(expected / n, rel=1e-4)


def test_heads_and_agents_start_apart(made):
    _, _, ensemble, _ = made
    kernel = ensemble["params"]["Dense_0"]["kernel"]
    assert kernel.shape[0] == 3
    assert float(jnp.abs(kernel[0] - kernel[1]).max()) > 0.01
