"""Means over agents and differences in pairs."""

import numpy as np
import pytest

from paperloop.errors import UserError
from policy_finetune.measures.comparison import mean_return, paired_difference


def test_the_interval_is_over_agents_and_of_one_agent_over_its_episodes():
    returns = np.array([[0.0, 2.0], [10.0, 12.0]])
    several = mean_return(returns)
    assert (several.interval.point, several.over) == (6.0, "agents")
    assert (several.interval.low, several.interval.high) == (1.0, 11.0)  # both draws the same agent: 2 of 4 resamples
    one = mean_return(returns[:1])
    assert (*one.interval, one.over) == (1.0, 0.0, 2.0, "episodes")


def test_pairs_take_away_what_differs_between_the_starts():
    rng = np.random.default_rng(0)
    before = rng.normal(0, 100, (6, 1)) + rng.normal(0, 1, (6, 5))
    starts = np.repeat(np.arange(6), 2)
    after = before[starts] + 10
    found = paired_difference(before, after, starts)
    np.testing.assert_allclose(found.interval, (10, 10, 10))
    noisy = paired_difference(before, after + rng.normal(0, 1, (12, 1)), starts)
    assert noisy.interval.low < noisy.interval.point < noisy.interval.high
    assert noisy.interval.high - noisy.interval.low < 2
    single = paired_difference(before, after[:1] + np.arange(5), [0])
    assert single.over == "episodes"
    assert single.interval.point == pytest.approx(12)


def test_agents_of_one_start_count_as_one():
    """Six agents of two starts that differ: the interval is as wide as the starts are apart."""
    before = np.zeros((2, 1))
    after = np.array([[0.0]] * 3 + [[6.0]] * 3)
    found = paired_difference(before, after, [0, 0, 0, 1, 1, 1])
    assert (found.interval.low, found.interval.point, found.interval.high) == (0, 3, 6)


def test_what_are_no_pairs_is_refused():
    with pytest.raises(UserError, match="are not pairs"):
        paired_difference(np.zeros((2, 3)), np.zeros((2, 3)), [0, 2])
    with pytest.raises(UserError, match="are not pairs"):
        paired_difference(np.zeros((2, 3)), np.zeros((2, 4)), [0, 1])
