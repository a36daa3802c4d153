from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otr import ExponentialSquash, FixedScale, LinearSquash, OTRConfig, RangeScale, preset
from otr.labellers.rewards import aggregate, apply_scale, fit_scale, squash
from paperloop.errors import UserError


def test_squashing_is_the_authors():
    # Their form: q = Ebar / 1000, alpha exp(-beta 1000 / D q). At cosine 2 on Hopper (D = 11): 5 exp(-10/11).
    ebar = np.array([0.0, 0.5, 2.0], np.float32)
    got = squash(ebar, ExponentialSquash(), 11.0)
    np.testing.assert_allclose(got, 5 * np.exp(-5 * 1000 / 11 * ebar / 1000), rtol=1e-6)
    assert got[0] == 5.0
    np.testing.assert_allclose(got[2], 2.0144, atol=1e-3)  # the low end of Hopper's range, [2.0, 5]
    antmaze = preset("otr", "antmaze")
    assert isinstance(antmaze, OTRConfig)
    np.testing.assert_allclose(squash(ebar, antmaze.squash, 1.0)[2], 0.6767, atol=1e-4)
    assert antmaze.scale.bias == -2


def test_linear_squashing():
    got = squash(np.array([0.5]), LinearSquash(alpha=10.0), 2.0)
    np.testing.assert_allclose(got, [-2.5])
    np.testing.assert_allclose(squash(np.array([0.5]), LinearSquash(), 1.0), [-0.5])


def test_best_demonstration_is_chosen_by_episode():
    rewards = np.array([[1, 1, 0, 0, 5], [0, 1.5, 1, 2, 5]], np.float32)
    best, chosen = aggregate(rewards, np.array([0, 2, 4]), "best")
    np.testing.assert_array_equal(chosen, [0, 1, 0])  # of equals the earlier
    np.testing.assert_array_equal(best, np.array([1, 1, 1, 2, 5], np.float32))
    mean, _ = aggregate(rewards, np.array([0, 2, 4]), "mean")
    np.testing.assert_allclose(mean, [0.5, 1.25, 0.5, 1, 5])


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.floats(-5, 5, width=32), min_size=1, max_size=5), min_size=1, max_size=6))
def test_scaled_returns_span_the_target(episodes):
    rewards = np.concatenate([np.array(e, np.float32) for e in episodes])
    starts = np.cumsum([0, *map(len, episodes[:-1])])
    scale = fit_scale(rewards, starts, RangeScale())
    returns = np.add.reduceat(apply_scale(rewards, scale).astype(np.float64), starts)
    assert np.isfinite(returns).all()
    if not scale.guarded:
        np.testing.assert_allclose(returns.max() - returns.min(), 1000, rtol=1e-3)
    else:
        assert scale.factor == 1.0


def test_equal_returns_are_not_divided_by():
    rewards = np.ones(6, np.float32)
    assert fit_scale(rewards, np.array([0, 3]), RangeScale(bias=-1)) == (1.0, -1.0, True)
    assert fit_scale(rewards, np.array([0]), RangeScale()) == (1.0, 0.0, True)  # a single episode
    assert fit_scale(0 * rewards, np.array([0, 3]), RangeScale()).guarded
    assert fit_scale(rewards, np.array([0, 2]), RangeScale()) == (500.0, 0.0, False)
    assert fit_scale(rewards, np.array([0, 2]), FixedScale(factor=3.0)) == (3.0, 0.0, False)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ExponentialSquash(alpha=0), "ExponentialSquash.alpha is 0; it must be above 0"),
        (lambda: ExponentialSquash(divisor="width"), "ExponentialSquash.divisor is 'width'; it must be one of"),
        (
            lambda: RangeScale(target=float("nan")),
            "RangeScale.target is nan; it must be a number above 0",
        ),
        (lambda: OTRConfig(aggregate="max"), "OTRConfig.aggregate is 'max'; it must be one of 'best', 'mean'"),
        (lambda: preset("otter"), "There is no preset 'otter'; did you mean \"otr\""),
        (lambda: preset("otr", "antmase"), 'did you mean "antmaze"'),
    ],
)
def test_messages(make, message):
    with pytest.raises(UserError, match=message):
        make()
