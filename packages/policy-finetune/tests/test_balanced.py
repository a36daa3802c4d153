"""Balanced replay: draws in proportion to priority, the ratio's loss, and who gets which priority."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from policy_finetune.config import BalancedReplay
from policy_finetune.replay.balanced import Balanced, draw_by_priority, priority_sums, ratio_loss
from policy_finetune.replay.packing import Layout

LAYOUT = Layout(2, 1)


def test_draws_follow_the_priorities():
    rng = np.random.default_rng(0)
    priority = np.zeros(3000, np.float32)  # three chunks, the last one not full
    chosen = rng.choice(3000, 40, replace=False)
    priority[chosen] = rng.uniform(0.1, 5.0, 40)
    priority[[0, 1023, 1024, 2999]] = 2.0
    sums = priority_sums(jnp.asarray(priority))
    drawn = np.asarray(draw_by_priority(*sums, jax.random.key(1), (200, 100)))
    assert drawn.shape == (200, 100)
    counts = np.bincount(drawn.reshape(-1), minlength=3000)
    assert not counts[priority == 0].any()
    held = priority > 0
    expected = 20_000 * priority[held] / priority.sum(dtype=np.float64)
    assert scipy.stats.chisquare(counts[held], expected * counts[held].sum() / expected.sum()).pvalue > 1e-3


def test_small_priorities_survive_beside_many_large_ones():
    # In one float32 sum to 2e9 an increment of 1 would be lost: its spacing there is 128.
    priority = jnp.full(2_000_000, 1e3).at[1_999_000:].set(1.0).at[5].set(1e9)
    within, across = priority_sums(priority)
    last = np.asarray(within)[-1]
    filled = 2_000_000 % 1024
    np.testing.assert_allclose(np.diff(last[:filled]), 1.0)
    assert across.shape == (1954,)


def test_the_ratio_loss_is_the_papers():
    rng = np.random.default_rng(0)
    offline, online = rng.uniform(0.01, 5, 30), rng.uniform(0.01, 5, 30)
    expected = -np.log(2 / (offline + 1)).mean() - np.log(2 * online / (online + 1)).mean()
    np.testing.assert_allclose(ratio_loss(jnp.asarray(offline), jnp.asarray(online)), expected, rtol=1e-5)


def balanced(rho=0.25, temperature=5.0, ratio_lr=3e-4):
    replay = BalancedReplay(rho=rho, temperature=temperature, ratio_lr=ratio_lr)
    return Balanced(replay, LAYOUT, batch=32, offline_size=50, capacity=40)


def test_the_first_draws_have_the_share_that_was_asked_for():
    b = balanced()
    state = b.enter(b.init(jax.random.key(0)), jnp.int32(0), 10)
    state = b.prepare(b.enter(state, jnp.int32(10), 10), jnp.int32(30), jnp.int32(20))
    priority = np.asarray(state.priority)
    np.testing.assert_array_equal(
        priority[50:70], 1.0
    )  # online rows enter with the largest priority so far, 1 at first
    np.testing.assert_array_equal(priority[70:], 0.0)
    total = np.asarray(state.across)[-1]
    np.testing.assert_allclose(priority[:30].sum() / total, 0.25, rtol=1e-5)
    drawn = np.asarray(draw_by_priority(state.within, state.across, jax.random.key(1), (4000,)))
    assert set(drawn) <= {*range(30), *range(50, 70)}
    assert abs((drawn < 50).mean() - 0.25) < 3 * (0.25 * 0.75 / 4000) ** 0.5


@pytest.mark.slow
def test_priorities_are_normalised_over_a_uniform_offline_batch():
    rng = np.random.default_rng(1)
    offline = jnp.asarray(rng.normal(size=(50, LAYOUT.width)), jnp.float32)
    online = jnp.asarray(rng.normal(size=(40, LAYOUT.width)), jnp.float32)
    b = balanced(temperature=2.0)
    size, filled = jnp.int32(50), jnp.int32(40)
    state = b.prepare(b.enter(b.init(jax.random.key(0)), jnp.int32(0), 40), size, filled)
    key = jax.random.key(3)
    rows, after, _ = b.sample(state, offline, lambda at: online[at], key, (1, 16), jnp.int32(0), size, filled)
    draw_key, offline_key, _ = jax.random.split(key, 3)
    at = draw_by_priority(state.within, state.across, draw_key, (1, 16))
    np.testing.assert_array_equal(rows, jnp.concatenate([offline, online])[at])
    uniform = offline[jax.random.randint(offline_key, (32,), 0, 50)]

    def root(x):  # w^(1/2) by the network after its step
        return np.sqrt(np.asarray(b._ratio(after.network, x), np.float64))

    expected = root(rows) / root(uniform).mean()
    np.testing.assert_allclose(after.priority[at], expected, rtol=1e-4)


@pytest.mark.slow
def test_priorities_come_to_favour_offline_rows_that_look_like_the_online_ones():
    rng = np.random.default_rng(0)
    offline, online = np.zeros((50, LAYOUT.width), np.float32), np.zeros((40, LAYOUT.width), np.float32)
    offline[:, :2] = rng.normal(-1, 0.3, (50, 2))
    offline[:25, :2] += 2.0  # the first half lies where the online rows do
    online[:, :2] = rng.normal(1, 0.3, (40, 2))
    b = balanced(rho=0.5, temperature=1.0, ratio_lr=3e-3)
    size, filled = jnp.int32(50), jnp.int32(40)
    state = b.prepare(b.enter(b.init(jax.random.key(0)), jnp.int32(0), 40), size, filled)
    first = state.priority

    @jax.jit
    def step(state, key):
        rows, state, share = b.sample(
            state, jnp.asarray(offline), lambda at: jnp.asarray(online)[at], key, (2, 32), jnp.int32(0), size, filled
        )
        return rows, b.prepare(state, size, filled), share

    rows, after, share = step(state, jax.random.key(0))
    assert rows.shape == (2, 32, LAYOUT.width)
    changed = np.flatnonzero(np.asarray(after.priority) != np.asarray(first))
    assert 0 < len(changed) <= 64  # what was drawn is refreshed, nothing else
    assert 0 < float(share) < 1
    state = after
    for i in range(1, 150):
        _, state, _ = step(state, jax.random.key(i))
    priority = np.asarray(state.priority)
    assert priority[:25].mean() > 3 * priority[25:50].mean()
    assert priority.max() <= 1e3
    assert priority.min() >= 1e-3
    assert float(state.top) >= priority.max()
    entered = b.enter(state, jnp.int32(10), 5)
    np.testing.assert_array_equal(entered.priority[60:65], state.top)
