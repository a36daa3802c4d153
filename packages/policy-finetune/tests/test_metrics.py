"""Collapse metrics: curves that a reader can check by hand, and properties that hold for all."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paperloop.errors import UserError
from policy_finetune.measures.collapse import collapse_metrics

# Pre-trained to 100, down to 20 at once, back at 100 after 6 of 10 thousand steps, and on to 150.
STEPS = [0, 1000, 2000, 6000, 10_000]
COLLAPSES = [100.0, 20.0, 40.0, 100.0, 150.0]


def test_a_collapse_by_hand():
    m = collapse_metrics(STEPS, COLLAPSES)
    assert (m.start, m.minimum, m.final) == (100, 20, 150)
    # trapezoids: 1000 * 60 + 1000 * 30 + 4000 * 70 + 4000 * 125 = 870 000, over 10 000 steps
    assert m.auc == pytest.approx(87.0)
    assert m.min_over_start == pytest.approx(0.2)
    assert m.kept == pytest.approx(0.2)
    assert m.time_to_recover == 6000
    assert m.recovered
    assert m.collapsed


def test_the_random_score_shifts_what_was_kept_and_nothing_else():
    m = collapse_metrics(STEPS, COLLAPSES, random=15)
    assert m.kept == pytest.approx(5 / 85)
    assert m.min_over_start == 0.2


@pytest.mark.parametrize(
    ("scores", "time", "collapsed"),
    [
        ([100, 110, 120, 130, 140], 0, False),  # never below the start
        ([100, 100, 100, 100, 100], 0, False),
        ([100, 45, 50, 60, 70], math.nan, True),  # never back
        ([100, 90, 80, 30, 120], 10_000, False),  # falls too late for a collapse of the beginning
        ([100, 50, 100, 100, 100], 2000, False),  # a drop of exactly one half is none
        ([100, 49, 100, 49, 100], 10_000, True),  # the last of two equal minima counts
    ],
)
def test_recovery_and_flag(scores, time, collapsed):
    m = collapse_metrics(STEPS, scores)
    assert m.time_to_recover == pytest.approx(time, nan_ok=True)
    assert m.recovered == (not math.isnan(time))
    assert m.collapsed == collapsed
    assert m.collapse_defined


def test_the_window_counts_steps_and_not_evaluations():
    steps = [5000, 5010, 5020, 5200, 6000]  # a dense beginning; a fifth of 1000 steps ends at 5200
    assert collapse_metrics(steps, [100, 90, 90, 10, 90]).collapsed
    assert not collapse_metrics(steps, [100, 90, 90, 90, 10]).collapsed


def test_a_window_without_an_evaluation_cannot_tell():
    m = collapse_metrics([0, 50, 100], [100, 0, 0])
    assert not m.collapsed
    assert not m.collapse_defined
    assert m.kept == 0  # the drop itself is there


def test_what_is_kept_does_not_depend_on_where_zero_is():
    scores, chance = np.array([[100.0, 20, 40], [100, 120, 150], [100, -60, 0]]), 10.0
    m = collapse_metrics([0, 1, 2], scores, random=chance)
    np.testing.assert_allclose(m.kept, [10 / 90, 110 / 90, -70 / 90])  # above 1: never down to the start
    for shift in (-1000.0, 1000.0):
        moved = collapse_metrics([0, 1, 2], scores + shift, random=chance + shift)
        np.testing.assert_allclose(moved.kept, m.kept, rtol=1e-12)
        assert not np.allclose(moved.min_over_start, m.min_over_start, equal_nan=False)
    assert np.isnan(collapse_metrics([0, 1], [5.0, 4.0], random=5.0).kept)


@pytest.mark.parametrize("start", [15.0, 3.0])
def test_a_start_no_better_than_random_has_nothing_to_keep(start):
    m = collapse_metrics(STEPS, [start, 1, 1, 1, 1], random=15)
    assert math.isnan(m.kept)
    assert not m.collapsed
    assert not m.collapse_defined


def test_a_negative_start_has_no_ratio_but_a_share_that_was_kept():
    m = collapse_metrics([0, 1, 10], [-100, -250, -50], random=-300)  # as in HalfCheetah
    assert math.isnan(m.min_over_start)
    assert m.kept == pytest.approx(0.25)
    assert m.collapse_defined
    assert m.collapsed


def test_one_evaluation():
    m = collapse_metrics([0], [7.0])
    assert (m.start, m.minimum, m.final, m.auc) == (7, 7, 7, 7)
    assert not m.collapse_defined


def test_many_runs_at_once_and_nan_stays_in_its_run():
    scores = np.array([[COLLAPSES, [100, 110, 120, 130, 140]], [[1, 2, np.nan, 4, 5], [np.inf, 1, 1, 1, 1]]])
    m = collapse_metrics(STEPS, scores, random=[[0, 10], [0, 0]])
    assert m.kept.shape == (2, 2)
    assert m.kept[0].tolist() == pytest.approx([0.2, 100 / 90])
    for name in ("start", "final", "auc", "time_to_recover", "min_over_start", "kept"):
        assert np.isnan(getattr(m, name)[1]).all(), name
        assert np.isfinite(getattr(m, name)[0]).all(), name
    assert not m.collapsed[1].any()
    assert not m.recovered[1].any()
    assert m.as_dict()["start"][0] == [100, 100]


@pytest.mark.parametrize(
    ("steps", "scores", "words"),
    [
        ([0, 1], [1, 2, 3], "one value for each of the 2 steps"),
        ([0, 0], [1, 2], "increase strictly"),
        ([0, np.nan], [1, 2], "finite"),
        ([[0, 1]], [1, 2], "vector"),
        ([], [], "vector"),
    ],
)
def test_bad_arguments(steps, scores, words):
    with pytest.raises(UserError, match=words):
        collapse_metrics(steps, scores)


numbers = st.floats(-1e3, 1e3).map(lambda x: round(x, 3))
curves = st.lists(numbers, min_size=2, max_size=12)


@given(scores=curves, gaps=st.lists(st.integers(1, 50), min_size=12, max_size=12), random=st.floats(-1e3, 1e3))
@settings(max_examples=200, deadline=None)
def test_properties_of_any_curve(scores, gaps, random):
    steps = np.cumsum(gaps[: len(scores)])
    m = collapse_metrics(steps, scores, random=random)
    assert min(scores) - 1e-9 <= m.auc <= max(scores) + 1e-9
    assert m.auc == pytest.approx(np.trapezoid(scores, steps) / (steps[-1] - steps[0]), abs=1e-9)
    assert m.minimum == min(scores[1:])
    assert (scores[0] > random) == (not math.isnan(m.kept))
    if m.recovered:
        assert any(steps[0] + m.time_to_recover == s and j >= scores[0] for s, j in zip(steps, scores, strict=True))
    else:
        assert min(scores) < scores[0] > scores[-1]
    if m.collapsed:
        assert m.kept < 0.5
        assert m.collapse_defined


@given(scores=curves, scale=st.floats(0.1, 10), shift=st.floats(-100, 100))
@settings(max_examples=100, deadline=None)
def test_relative_metrics_do_not_know_the_units(scores, scale, shift):
    steps, random = np.arange(len(scores)), min(scores) - 10
    one = collapse_metrics(steps, scores, random=random)
    other = collapse_metrics(steps, np.multiply(scores, scale) + shift, random=random * scale + shift)
    assert other.kept == pytest.approx(one.kept, abs=1e-6)
