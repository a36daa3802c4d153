import jax
import jax.numpy as jnp
import numpy as np
import pytest

from minimax_ued.learning.gae import generalized_advantages

GAMMA, LAMBDA = 0.9, 0.7


def reference(rewards, values, last_value, terminated, truncated, truncation_values, gamma, gae_lambda):
    """One environment, in float64, straight from the definition."""
    steps = len(rewards)
    advantages, later = np.zeros(steps), 0.0
    for t in reversed(range(steps)):
        if terminated[t]:
            next_value, later = 0.0, 0.0
        elif truncated[t]:
            next_value, later = truncation_values[t], 0.0
        else:
            next_value = values[t + 1] if t + 1 < steps else last_value
        later = rewards[t] + gamma * next_value - values[t] + gamma * gae_lambda * later
        advantages[t] = later
    return advantages


@pytest.fixture
def rollout():
    rng = np.random.default_rng(0)
    steps, envs = 17, 6
    kind = rng.choice(3, size=(steps, envs), p=[0.7, 0.15, 0.15])
    normal = lambda *shape: rng.normal(size=shape).astype(np.float32)  # noqa: E731
    return {
        "rewards": normal(steps, envs),
        "values": normal(steps, envs),
        "last_value": normal(envs),
        "terminated": kind == 1,
        "truncated": kind == 2,
        "truncation_values": normal(steps, envs),
    }


def run(rollout, gamma=GAMMA, gae_lambda=LAMBDA, **changes):
    rollout = rollout | changes
    positional = [jnp.asarray(rollout[name]) for name in ("rewards", "values", "last_value")]
    rest = {name: rollout[name] for name in ("terminated", "truncated", "truncation_values")}
    return jax.jit(lambda: generalized_advantages(*positional, **rest, gamma=gamma, gae_lambda=gae_lambda))()


def test_equals_a_loop_over_the_definition(rollout):
    advantages, targets = run(rollout)
    for b in range(advantages.shape[1]):
        one = {name: x[..., b] for name, x in rollout.items()}
        expected = reference(**one, gamma=GAMMA, gae_lambda=LAMBDA)
        np.testing.assert_allclose(advantages[:, b], expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(targets, advantages + rollout["values"], rtol=1e-6, atol=1e-6)
    assert advantages.dtype == targets.dtype == jnp.float32


def test_without_values_of_cut_offs_they_are_ends(rollout):
    ends, _ = run(rollout, truncation_values=None)
    either = rollout["terminated"] | rollout["truncated"]
    expected, _ = run(rollout, terminated=either, truncated=np.zeros_like(either))
    np.testing.assert_array_equal(ends, expected)
    assert np.abs(ends - run(rollout)[0]).max() > 0.1


def test_an_end_outranks_a_cut_off(rollout):
    both = rollout["terminated"] | rollout["truncated"]
    expected, _ = run(rollout, terminated=both, truncated=np.zeros_like(both))
    np.testing.assert_array_equal(run(rollout, terminated=both, truncated=both)[0], expected)


def test_a_cut_off_separates_like_two_rollouts(rollout):
    never = np.zeros_like(rollout["terminated"])
    cut = never.copy()
    cut[9] = True
    whole, _ = run(rollout, terminated=never, truncated=cut)
    parts = []
    for part, last in ((slice(0, 10), rollout["truncation_values"][9]), (slice(10, None), rollout["last_value"])):
        half = {name: x[part] for name, x in rollout.items() if name != "last_value"} | {"last_value": last}
        parts.append(run(half, terminated=never[part], truncated=never[part])[0])
    np.testing.assert_allclose(whole, np.concatenate(parts), rtol=1e-6, atol=1e-6)


def test_lambda_one_is_the_monte_carlo_return_and_zero_the_temporal_difference(rollout):
    never = np.zeros_like(rollout["terminated"])
    rewards, values, last = rollout["rewards"], rollout["values"], rollout["last_value"]
    _, targets = run(rollout, gae_lambda=1.0, terminated=never, truncated=never)
    discounts = GAMMA ** np.arange(len(rewards))
    expected = (discounts[:, None] * rewards).sum(0) + GAMMA ** len(rewards) * last
    np.testing.assert_allclose(targets[0], expected, rtol=1e-5, atol=1e-5)
    advantages, _ = run(rollout, gae_lambda=0.0, terminated=never, truncated=never)
    following = np.concatenate([values[1:], last[None]])
    np.testing.assert_allclose(advantages, rewards + GAMMA * following - values, rtol=1e-5, atol=1e-5)


def test_targets_equal_the_table_of_rlax():
    """λ-returns of `rlax/_src/multistep_test.py` (Apache-2.0): λ = .75 and a discount for each step."""
    following = np.array([3.0, 1.0, 5.0, -5.0, 3.0], np.float32)
    never = np.zeros(5, bool)
    _, targets = generalized_advantages(
        jnp.array([1.0, 0.0, -1.0, 0.0, 1.0]),
        jnp.concatenate([jnp.zeros(1), following[:-1]]),
        jnp.float32(following[-1]),
        terminated=never,
        truncated=never,
        gamma=jnp.array([0.5, 0.9, 1.0, 0.5, 0.8]),
        gae_lambda=0.75,
    )
    np.testing.assert_allclose(targets, [1.6460547, 0.72281253, 0.7375001, 0.6500001, 3.4], rtol=1e-6)
