"""Scores of levels, against closed forms and a NumPy loop over episodes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from minimax_ued.replay.scores import (
    SCORES,
    episode_means,
    episode_statistics,
    get_score,
    register_score,
)
from paperloop import UserError


def episodes_of(dones, b):
    """(start, stop) of each finished episode of level b."""
    start = 0
    for t in range(dones.shape[0]):
        if dones[t, b]:
            yield start, t + 1
            start = t + 1


def oracle(name, rewards, dones, values, advantages, stored, optimal_returns, success_return):
    """Scores and maximal returns in float64, episode by episode."""
    scores, best = [], []
    for b in range(dones.shape[1]):
        episodes = [(slice(start, stop), b) for start, stop in episodes_of(dones, b)]
        returns = np.array([rewards[i].sum(dtype=np.float64) for i in episodes])
        top = max([stored[b], *returns])
        per_episode = {
            "l1_value_loss": [np.abs(advantages[i]).mean(dtype=np.float64) for i in episodes],
            "positive_value_loss": [np.maximum(advantages[i], 0).mean(dtype=np.float64) for i in episodes],
            "max_mc": [(top - values[i]).mean(dtype=np.float64) for i in episodes],
            "return": returns,
            "neg_return": -returns,
            "learnability": (returns > success_return) * (returns <= success_return).mean() if episodes else [],
            "true_regret": [max(optimal_returns[b] - returns.mean(), 0)] if episodes else [],
        }[name]
        scores.append(np.mean(per_episode) if episodes else -np.inf)
        best.append(top)
    return np.array(scores), np.array(best)


def random_rollout(rng, shape):
    dones = rng.random(shape) < rng.choice([0.03, 0.1, 0.4], size=(1, *shape[1:]))
    rewards = np.where(dones & (rng.random(shape) < 0.5), rng.random(shape), 0).astype(np.float32)
    values, advantages = rng.normal(size=(2, *shape)).astype(np.float32)
    stored = np.where(rng.random(shape[1]) < 0.3, -np.inf, rng.random(shape[1])).astype(np.float32)
    extras = {
        "optimal_returns": rng.random(shape[1]).astype(np.float32),
        "success_return": np.float32(rng.choice([0.0, 0.4])),
    }
    return (rewards, dones, values, advantages, stored), extras


def needed(name, extras):
    """What a caller passes: the score's needs, and nothing else."""
    return {key: value for key, value in extras.items() if SCORES[name].needs_optimum or key == "success_return"}


# Compiled: op by op, these small tests would spend their time compiling.
JITTED = {
    name: jax.jit(lambda rewards, dones, *more, score=score, **extras: score(rewards, dones > 0, *more, **extras))
    for name, score in SCORES.items()
}
means, statistics = jax.jit(episode_means), jax.jit(episode_statistics)


def episode_means(x, dones):
    return means(x, np.asarray(dones) > 0)


def episode_statistics(rewards, dones, *success_return):
    return statistics(rewards, np.asarray(dones) > 0, *success_return)


@pytest.mark.parametrize("name", sorted(SCORES))
def test_scores_equal_a_loop_over_episodes(name):
    rng = np.random.default_rng(0)
    unfinished = 0
    for _ in range(20):
        rollout, extras = random_rollout(rng, (37, 11))
        scores, best = JITTED[name](*map(jnp.asarray, rollout), **needed(name, extras))
        expected_scores, expected_best = oracle(name, *rollout, **extras)
        np.testing.assert_allclose(scores, expected_scores, atol=2e-6)
        np.testing.assert_allclose(best, expected_best, atol=2e-6)
        unfinished += np.isinf(expected_scores).sum()
    assert unfinished > 3  # levels without a finished episode did occur


def column(*values):
    return np.asarray(values, np.float32)[:, None]


def test_closed_forms():
    """One episode of return R with V = v and A = a throughout, then an unfinished tail that must not count."""
    rewards, dones = column(0, 0, 0.8, 5, 5), column(0, 0, 1, 0, 0)
    values, advantages = column(0.3, 0.3, 0.3, 99, 99), column(-0.2, -0.2, -0.2, 99, np.nan)

    def score(name, stored, **extras):
        scores, best = JITTED[name](rewards, dones, values, advantages, np.array([stored], np.float32), **extras)
        return float(scores[0]), float(best[0])

    assert score("max_mc", -np.inf) == pytest.approx((0.5, 0.8))  # max(R, stored) - v
    assert score("max_mc", 0.9) == pytest.approx((0.6, 0.9))  # the stored maximum stays
    assert score("max_mc", 0.1) == pytest.approx((0.5, 0.8))
    assert score("l1_value_loss", 0.0)[0] == pytest.approx(0.2)
    assert score("positive_value_loss", 0.0)[0] == pytest.approx(0.0)
    assert score("return", 0.0)[0] == pytest.approx(0.8)
    assert score("neg_return", 0.0)[0] == pytest.approx(-0.8)
    assert score("learnability", 0.0)[0] == 0.0
    assert score("true_regret", 0.0, optimal_returns=np.array([0.95]))[0] == pytest.approx(0.15)
    assert score("true_regret", 0.0, optimal_returns=np.array([0.7]))[0] == 0.0  # better than expected


def test_episodes_count_alike_however_long():
    x, dones = column(1, 5, 5, 5, 5), column(1, 0, 0, 0, 1)
    np.testing.assert_allclose(episode_means(x, dones), [3.0])  # not the mean over steps, 4.2


def test_no_finished_episode():
    rewards, dones = column(1, 1, 1), column(0, 0, 0)
    for name, score in JITTED.items():
        extras = needed(name, {"optimal_returns": jnp.ones(1)})
        scores, best = score(rewards, dones, rewards, rewards, np.array([0.25], np.float32), **extras)
        assert scores[0] == -np.inf, name
        assert best[0] == 0.25, name
    episodes = episode_statistics(rewards, dones)
    assert episodes.count[0] == 0
    assert episodes.max_return[0] == -np.inf
    assert episodes.mean_return[0] == episodes.success_rate[0] == episodes.mean_length[0] == 0


def test_episode_statistics_of_a_ramp():
    """Rewards 1..7 at every fourth of 32 steps from the fifth on, each ending an episode but the first."""
    rewards, dones = np.zeros((32, 2), np.float32), np.zeros((32, 2), bool)
    for i, t in enumerate(range(4, 32, 4), start=1):
        rewards[t], dones[t, 0] = i, True
    episodes = episode_statistics(jnp.asarray(rewards), jnp.asarray(dones))
    np.testing.assert_array_equal(episodes.count, [7, 0])
    np.testing.assert_allclose(episodes.mean_return, [4, 0])
    np.testing.assert_allclose(episodes.max_return, [7, -np.inf])
    np.testing.assert_allclose(episodes.mean_length, [29 / 7, 0], rtol=1e-6)


def test_negative_returns_have_a_negative_maximum():
    episodes = episode_statistics(column(-3, -1, -2), column(1, 1, 1))
    assert episodes.max_return[0] == -1


def test_learnability():
    rewards = np.zeros((4, 3), np.float32)
    rewards[0, 0] = rewards[1, 1] = rewards[:, 2] = 1
    scores, _ = JITTED["learnability"](
        *[jnp.asarray(rewards), jnp.ones((4, 3), bool)] + [jnp.zeros((4, 3))] * 2, jnp.zeros(3)
    )
    np.testing.assert_allclose(scores, [3 / 16, 3 / 16, 0])


def test_success_is_what_the_environment_says():
    rewards, dones = column(10, 20, 30, 40), column(1, 1, 1, 1)
    rates = [float(episode_statistics(rewards, dones, limit).success_rate[0]) for limit in (0.0, 20.0, 35.0, 40.0)]
    assert rates == [1.0, 0.5, 0.25, 0.0]  # above, and not equal
    scores, _ = JITTED["learnability"](rewards, dones, rewards, rewards, np.zeros(1), success_return=35.0)
    np.testing.assert_allclose(scores, [3 / 16])


def test_long_rollouts_lose_no_digits():
    """Differences of prefix sums would: 10,000 steps of large values before an episode of small ones."""
    x = np.concatenate([np.full(9_999, 1e4), np.full(100, 1e-3)]).astype(np.float32)[:, None]
    dones = np.zeros_like(x, bool)
    dones[9_998] = dones[-1] = True
    episodes = episode_statistics(jnp.asarray(x), jnp.asarray(dones))
    np.testing.assert_allclose(2 * episodes.mean_return - episodes.max_return, [0.1], atol=16)
    second = episode_statistics(x * (np.arange(10_099) >= 9_999)[:, None], jnp.asarray(dones))
    np.testing.assert_allclose(second.max_return, [0.1], rtol=1e-5)
    np.testing.assert_allclose(episode_means(jnp.asarray(x), jnp.asarray(dones)), [(1e4 + 1e-3) / 2], rtol=1e-6)


def test_a_new_score_is_a_function_and_a_name():
    @register_score("value_surprise")
    def value_surprise(rollout):
        return rollout.episode_mean(jnp.square(rollout.advantages))

    try:
        scores, _ = get_score("value_surprise")(
            column(0, 1, 0), column(0, 1, 0) > 0, column(0, 0, 0), column(2, 4, 9), jnp.array([0.0])
        )
        np.testing.assert_allclose(scores, [10.0])
    finally:
        del SCORES["value_surprise"]


def test_mistakes_are_named():
    with pytest.raises(UserError, match='did you mean "positive_value_loss"'):
        get_score("positive_value_los")
    with pytest.raises(UserError, match="known are l1_value_loss, positive_value_loss, max_mc"):
        get_score("zzz")
    a = jnp.zeros((4, 3))
    for call in (
        lambda: SCORES["max_mc"](a, a, a[:, :2], a, jnp.zeros(3)),
        lambda: SCORES["max_mc"](a, a, a, a, jnp.zeros(4)),
    ):
        with pytest.raises(UserError, match=r"it takes \[T, B\] and \[B\]"):
            call()
    with pytest.raises(UserError, match="'true_regret' needs optimal_returns, which were not given"):
        SCORES["true_regret"](a, a, a, a, jnp.zeros(3))
