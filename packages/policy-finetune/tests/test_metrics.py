"""Collapse metrics: curves that a reader can check by hand, and properties that hold for all."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paperloop.errors import UserError
from policy_finetune.measures import collapse as metrics
from policy_finetune.measures.aggregate import align, summarise
from policy_finetune.measures.arguments import Curve
from policy_finetune.measures.collapse import collapse_metrics

# Pre-trained to 100, down to 20 at once, back at 100 after 6 of 10 thousand steps, and on to 150.
STEPS = [0, 1000, 2000, 6000, 10_000]
COLLAPSES = [100.0, 20.0, 40.0, 100.0, 150.0]


def test_a_collapse_by_hand():
    m = collapse_metrics(STEPS, COLLAPSES, random=0, expert=200)
    assert (m.start, m.minimum, m.final, m.best) == (100, 20, 150, 150)
    # trapezoids: 1000 * 60 + 1000 * 30 + 4000 * 70 + 4000 * 125 = 870 000, over 10 000 steps
    assert m.auc == pytest.approx(87.0)
    assert m.max_drawdown == 80
    assert m.relative_drop == pytest.approx(0.8)
    assert m.min_over_start == pytest.approx(0.2)
    assert m.kept == pytest.approx(0.2)
    assert m.time_to_recover == 6000
    assert m.recovered
    assert m.collapsed
    assert m.regret == pytest.approx(1 - 87 / 200)


def test_the_random_score_shifts_the_relative_drop_and_nothing_else():
    m = collapse_metrics(STEPS, COLLAPSES, random=15)
    assert m.relative_drop == pytest.approx(80 / 85)
    assert (m.max_drawdown, m.min_over_start) == (80, 0.2)
    assert math.isnan(m.regret)


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
    assert collapse_metrics(steps, [100, 90, 90, 90, 10], window=1).collapsed
    assert not collapse_metrics(steps, [100, 90, 90, 10, 90], threshold=0.95).collapsed


def test_a_window_without_an_evaluation_cannot_tell():
    m = collapse_metrics([0, 50, 100], [100, 0, 0])
    assert not m.collapsed
    assert not m.collapse_defined
    assert m.relative_drop == 1  # the drop itself is there


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
def test_a_start_no_better_than_random_has_no_relative_drop(start):
    m = collapse_metrics(STEPS, [start, 1, 1, 1, 1], random=15)
    assert math.isnan(m.relative_drop)
    assert not m.drop_defined
    assert not m.collapsed
    assert not m.collapse_defined
    assert m.max_drawdown == start - 1


def test_a_negative_start_has_no_ratio_but_a_relative_drop():
    m = collapse_metrics([0, 1, 10], [-100, -250, -50], random=-300)  # as in HalfCheetah
    assert math.isnan(m.min_over_start)
    assert m.relative_drop == pytest.approx(0.75)
    assert m.kept == pytest.approx(0.25)
    assert m.collapse_defined
    assert m.collapsed


def test_one_evaluation():
    m = collapse_metrics([0], [7.0], expert=10)
    assert (m.start, m.minimum, m.final, m.best, m.auc, m.max_drawdown) == (7, 7, 7, 7, 7, 0)
    assert m.regret == pytest.approx(0.3)
    assert not m.collapse_defined


def test_many_runs_at_once_and_nan_stays_in_its_run():
    scores = np.array([[COLLAPSES, [100, 110, 120, 130, 140]], [[1, 2, np.nan, 4, 5], [np.inf, 1, 1, 1, 1]]])
    m = collapse_metrics(STEPS, scores, random=[[0, 10], [0, 0]], expert=200)
    assert m.relative_drop.shape == (2, 2)
    assert m.relative_drop[0].tolist() == pytest.approx([0.8, 0.0])
    for name in (
        "start",
        "final",
        "best",
        "auc",
        "relative_drop",
        "time_to_recover",
        "min_over_start",
        "kept",
        "regret",
    ):
        assert np.isnan(getattr(m, name)[1]).all(), name
        assert np.isfinite(getattr(m, name)[0]).all(), name
    assert not m.collapsed[1].any()
    assert not m.recovered[1].any()
    assert json.loads(json.dumps(m.as_dict(), allow_nan=False))["start"] == [[100, 100], [None, None]]


def test_regret_is_one_minus_the_plain_mean():
    assert metrics.regret([0.0, 0.5, 1.0, 1.0]) == pytest.approx(0.375)
    assert metrics.regret([[20.0, 60.0], [100.0, 100.0]], random=20, expert=100).tolist() == pytest.approx([0.75, 0])
    # D4RL's Hopper: a return of 1000 is a score of 31.349
    assert 100 * metrics.normalise(1000, -20.272305, 3234.3) == pytest.approx(31.349, abs=1e-3)


@pytest.mark.parametrize(
    ("steps", "scores", "options", "words"),
    [
        ([0, 1], [1, 2, 3], {}, "one value per step"),
        ([0, 0], [1, 2], {}, "strictly increasing"),
        ([0, np.nan], [1, 2], {}, "finite"),
        ([[0, 1]], [1, 2], {}, "vector"),
        ([], [], {}, "vector"),
        ([0, 1], [[1, 2], [3]], {}, "rows of equal length"),
        ([0, 1], ["a", "b"], {}, "numbers"),
        ([0, 1], [1, 2], {"random": np.nan}, "random"),
        ([0, 1], [1, 2], {"random": [0, 1]}, "broadcast"),
        ([0, 1], [1, 2], {"random": 1, "expert": 1}, "differ"),
        ([0, 1], [1, 2], {"window": 0}, "window"),
        ([0, 1], [1, 2], {"threshold": -1}, "threshold"),
    ],
)
def test_bad_arguments(steps, scores, options, words):
    with pytest.raises(UserError, match=words):
        collapse_metrics(steps, scores, **options)


# -------------------------------------------------------------------------------------------------------- properties

numbers = st.floats(-1e3, 1e3).map(lambda x: round(x, 3))
curves = st.lists(numbers, min_size=2, max_size=12)


@given(scores=curves, gaps=st.lists(st.integers(1, 50), min_size=12, max_size=12), random=st.floats(-1e3, 1e3))
@settings(max_examples=200, deadline=None)
def test_properties_of_any_curve(scores, gaps, random):
    steps = np.cumsum(gaps[: len(scores)])
    m = collapse_metrics(steps, scores, random=random)
    assert min(scores) - 1e-9 <= m.auc <= max(scores) + 1e-9
    assert m.auc == pytest.approx(np.trapezoid(scores, steps) / (steps[-1] - steps[0]), abs=1e-9)
    assert m.max_drawdown == max(0.0, scores[0] - min(scores))
    assert m.best == max(scores)
    assert m.drop_defined == (scores[0] > random) == (not math.isnan(m.relative_drop))
    if m.recovered:
        assert any(steps[0] + m.time_to_recover == s and j >= scores[0] for s, j in zip(steps, scores, strict=True))
    else:
        assert min(scores) < scores[0] > scores[-1]
    if m.collapsed:
        assert m.relative_drop > 0.5
        assert m.collapse_defined


@given(scores=curves, scale=st.floats(0.1, 10), shift=st.floats(-100, 100))
@settings(max_examples=100, deadline=None)
def test_relative_metrics_do_not_know_the_units(scores, scale, shift):
    steps, random = np.arange(len(scores)), min(scores) - 10
    one = collapse_metrics(steps, scores, random=random, expert=2000)
    other = collapse_metrics(
        steps, np.multiply(scores, scale) + shift, random=random * scale + shift, expert=2000 * scale + shift
    )
    assert other.relative_drop == pytest.approx(one.relative_drop, abs=1e-6)
    assert other.regret == pytest.approx(one.regret, abs=1e-6)


# ------------------------------------------------------------------------------------------------------- aggregation


def test_align_by_step_keeps_what_all_have():
    dense = Curve([0, 250, 500, 1000, 2000], [1, 2, 3, 4, 5])
    sparse = Curve([0, 500, 2000], [10, 30, 50])
    aligned = align([dense, sparse])
    assert aligned.steps.tolist() == [0, 500, 2000]
    assert aligned.scores.tolist() == [[1, 3, 5], [10, 30, 50]]
    assert "kept the 3 steps" in aligned.note
    linear = align([dense, sparse], "linear")
    assert linear.steps.tolist() == [0, 250, 500, 1000, 2000]
    assert linear.scores[1].tolist() == pytest.approx([10, 20, 30, 30 + 20 / 3, 50])
    assert "interpolated" in linear.note
    assert align([dense, dense]).note == ""


@pytest.mark.parametrize(
    ("curves", "method", "words"),
    [
        ([], "common", "at least one"),
        ([Curve([0, 1], [1, 2]), Curve([2, 3], [1, 2])], "common", "0, 1 do not share"),
        ([Curve([0, 1], [1, 2]), Curve([2, 3], [1, 2])], "linear", "do not begin"),
        # Without the first evaluation there is no start to fall from.
        ([Curve([0, 5, 6], [1, 2, 3]), Curve([5, 6], [2, 3])], "common", "share the first"),
        ({"a": Curve([0, 1], [1, 2, 3])}, "common", "Curve a has 2 steps"),
        ({"a": Curve([1, 0], [1, 2])}, "common", "Curve a: steps must be finite and strictly increasing"),
        ([Curve([0, 1], [1, 2])], "nearest", "method"),
    ],
)
def test_curves_that_cannot_be_aligned(curves, method, words):
    with pytest.raises(UserError, match=words):
        align(curves, method)


def test_summary_of_two_tasks_by_hand():
    steps = [0, 10, 20, 100]
    runs = {
        "hopper": {f"seed{i}": Curve(steps, [100, low, 60, 120]) for i, low in enumerate((10, 20, 30, 40))},
        "walker": {f"seed{i}": Curve(steps, [100, 90, 90, low]) for i, low in enumerate((95, 100))},
    }
    s = summarise(runs, random={"hopper": 0, "walker": 50}, reps=500)
    drops = s.metrics["relative_drop"]
    # hopper .9 .8 .7 .6; walker 10/50 twice: sorted .2 .2 .6 .7 .8 .9, of six one is cut at each end
    assert drops.iqm.point == pytest.approx((0.2 + 0.6 + 0.7 + 0.8) / 4)
    assert drops.median.point == pytest.approx(0.65)
    assert drops.mean == pytest.approx(3.4 / 6)
    assert drops.runs == 6
    assert drops.iqm.low <= drops.iqm.point <= drops.iqm.high
    assert drops.median.low <= drops.median.point <= drops.median.high
    assert s.metrics["collapsed"].mean == pytest.approx(4 / 6)
    assert s.metrics["recovered"].mean == pytest.approx(5 / 6)
    assert s.metrics["time_to_recover"].undefined == ("walker/seed0",)
    assert s.metrics["time_to_recover"].runs == 5
    assert "regret" not in s.metrics
    assert s.nan_curves == ()
    assert "relative_drop" in str(s)


def test_summary_normalises_by_the_expert():
    runs = {
        "a": {"0": Curve([0, 1, 10], [60, 10, 110])},
        "b": {"0": Curve([0, 1, 10], [600, 100, 1100])},
    }
    s = summarise(runs, random={"a": 10, "b": 100}, expert={"a": 110, "b": 1100}, reps=10)
    assert s.metrics["start"].iqm.point == pytest.approx(0.5)
    assert s.metrics["minimum"].iqm.point == pytest.approx(0)
    assert s.metrics["final"].iqm.point == pytest.approx(1)
    assert s.metrics["max_drawdown"].iqm.point == pytest.approx(0.5)
    assert s.metrics["min_over_start"].iqm.point == pytest.approx(1 / 6)
    assert s.metrics["regret"].mean == pytest.approx(1 - (0.25 * 1 + 0.5 * 9) / 10)
    assert s.runs["b/0"].start == 600  # the runs keep their own units


def test_summary_names_what_it_cannot_use():
    runs = {
        "a": {
            "good": Curve([0, 10, 100], [100, 50, 100]),
            "nan": Curve([0, 5, 10, 100], [100, np.nan, 50, 100]),  # at a step that the others lack
            "weak": Curve([0, 10, 100], [1, 0, 1]),
        },
        "b": {"gone": Curve([0, 10, 100], [np.inf, 1, 1])},
    }
    s = summarise(runs, random=2, reps=10)
    assert s.nan_curves == ("a/nan", "b/gone")
    assert "a/nan, b/gone" in str(s)
    assert s.metrics["relative_drop"].undefined == ("a/weak",)
    assert s.metrics["relative_drop"].runs == 1
    assert s.metrics["start"].runs == 2
    assert "kept the 3 steps" in s.notes["a"]
    assert "kept the 3 steps" in str(s)


def test_summary_of_nothing_but_undefined_values():
    s = summarise({"a": {"0": Curve([0, 10, 100], [1, 0, 0])}}, random=5, reps=10)
    drops = s.metrics["relative_drop"]
    assert drops.runs == 0
    assert math.isnan(drops.iqm.point)
    assert math.isnan(drops.median.low)
    assert summarise({"a": {"0": Curve([0, 1], [np.nan, 1])}}, reps=10).metrics == {}


def test_summary_of_nothing():
    for nothing in ({}, {"a": {}}):
        with pytest.raises(UserError, match="nothing to summarise"):
            summarise(nothing)
    with pytest.raises(UserError, match="random has no score for task 'a'"):
        summarise({"a": {"0": Curve([0, 1], [1, 1])}}, random={"b": 0})
