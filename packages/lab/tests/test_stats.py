"""Statistics against SciPy, closed forms and figures computed elsewhere."""

import itertools

import numpy as np
import pytest
import scipy.stats

from paperloop.errors import UserError
from paperloop_lab import stats

SCORES = np.random.default_rng(0).normal(1, 0.5, (5, 26))
OTHER = np.random.default_rng(1).normal(0.9, 0.5, (8, 26))
RAGGED = {"a": [0.1, 0.4, 0.2], "b": [0.9, 0.7], "c": [0.3, 0.5, 0.55, 0.8]}


def test_iqm_is_the_trimmed_mean_of_all_runs():
    assert stats.iqm(SCORES) == pytest.approx(1.0201240460603058, abs=1e-12)
    for n in range(1, 14):
        vector = np.random.default_rng(n).normal(size=n)
        assert stats.iqm(vector) == pytest.approx(scipy.stats.trim_mean(vector, 0.25), abs=1e-12)
    pooled = np.concatenate([RAGGED["a"], RAGGED["b"], RAGGED["c"]])
    assert stats.iqm(RAGGED) == pytest.approx(scipy.stats.trim_mean(pooled, 0.25), abs=1e-12)


def test_aggregates_by_hand():
    x, y = [[1, 2], [2, 2], [1, 1], [2, 1]], [[1, 1], [2, 2], [3, 3]]
    assert [f(x) for f in (stats.iqm, stats.mean, stats.median)] == [1.5, 1.5, 1.5]
    assert [f(y) for f in (stats.iqm, stats.mean, stats.median)] == [2, 2, 2]
    assert stats.median([[0, 0, 9], [0, 3, 9]]) == 1.5  # of the task means 0, 1.5 and 9
    assert stats.optimality_gap([[0.5, 2.0], [1.0, 0.1]]) == pytest.approx((0.5 + 0 + 0 + 0.9) / 4)
    assert stats.optimality_gap([[0.5, 2.0]], gamma=2) == pytest.approx(0.75)
    assert stats.mean(RAGGED) == pytest.approx(np.mean([np.mean(v) for v in RAGGED.values()]))


def test_bootstrap_interval_of_the_iqm_agrees_with_published_runs_of_other_code():
    # rliable, SciPy and a loop in NumPy gave .929 to .931 and 1.114 to 1.115 with 50,000 resamples
    interval = stats.stratified_bootstrap(SCORES)
    assert interval.point == pytest.approx(1.0201240460603058, abs=1e-12)
    assert interval.low == pytest.approx(0.9300, abs=0.004)
    assert interval.high == pytest.approx(1.1145, abs=0.004)


@pytest.mark.parametrize("name", stats.STATISTICS)
def test_vectorised_and_scipy_intervals_agree(name):
    scores = np.random.default_rng(3).gamma(2.0, 0.5, (6, 4))

    def statistic(*columns, axis=-1):
        lead = np.broadcast_shapes(*(column.shape[:-1] for column in columns))
        columns = [np.broadcast_to(column, (*lead, column.shape[-1])) for column in columns]
        every, means = np.concatenate(columns, axis=axis), np.stack([c.mean(axis=axis) for c in columns])
        return {
            "iqm": lambda: scipy.stats.trim_mean(every, 0.25, axis=axis),
            "mean": lambda: np.mean(means, axis=0),
            "median": lambda: np.median(means, axis=0),
            "optimality_gap": lambda: 1 - np.minimum(every, 1).mean(axis=axis),
        }[name]()

    ours = stats.stratified_bootstrap(scores, name, reps=20_000)
    theirs = scipy.stats.bootstrap(
        tuple(scores.T),
        statistic,
        n_resamples=10_000,
        method="percentile",
        vectorized=True,
        rng=np.random.default_rng(5),
    )
    width = ours.high - ours.low
    assert ours.low == pytest.approx(theirs.confidence_interval.low, abs=0.05 * width)
    assert ours.high == pytest.approx(theirs.confidence_interval.high, abs=0.05 * width)
    # the quartiles of the resamples are a sharper comparison than their tails
    inner = stats.stratified_bootstrap(scores, name, reps=20_000, confidence=0.5)
    quartiles = np.quantile(theirs.bootstrap_distribution, (0.25, 0.75))
    np.testing.assert_allclose(inner[1:], quartiles, atol=0.02 * width)


def test_the_distribution_is_exact_for_a_case_small_enough_to_enumerate():
    scores = {"a": [0.0, 1.0, 5.0], "b": [2.0, 3.0]}
    everything = [
        scipy.stats.trim_mean(np.array([*a, *b]), 0.25)
        for a in itertools.product(scores["a"], repeat=3)
        for b in itertools.product(scores["b"], repeat=2)
    ]
    columns = [np.array(column) for column in scores.values()]
    drawn = stats._resampled(columns, stats._named("iqm"), 40_000, seed=0)
    seen, counts = np.unique(drawn.round(9), return_counts=True)
    true, weights = np.unique(np.round(everything, 9), return_counts=True)
    np.testing.assert_allclose(seen, true)
    np.testing.assert_allclose(counts / counts.sum(), weights / weights.sum(), atol=0.01)


@pytest.mark.parametrize("runs", [1, 2, 65])
def test_resamples_draw_each_run_equally_often_and_stay_within_tasks(runs):
    tasks = [np.arange(runs) + 1000 * task for task in range(3)]

    def counts(columns):  # (3 * runs, block): how often each run was drawn
        return np.stack(
            [(column == run).sum(axis=-1) for column, runs in zip(columns, tasks, strict=True) for run in runs]
        )

    drawn = stats._resampled(tasks, counts, 400, seed=0)
    assert drawn.shape == (3 * runs, 400)
    np.testing.assert_array_equal(drawn.reshape(3, runs, 400).sum(axis=1), runs)
    expected = 1 - 1 / runs  # the variance of a multinomial count
    assert drawn.astype(float).var() == pytest.approx(expected, abs=0.03)
    if runs > 1:
        first, second = drawn[:runs].astype(float), drawn[runs : 2 * runs].astype(float)
        assert abs(np.corrcoef(first[0], second[0])[0, 1]) < 0.2  # tasks are drawn independently


def test_long_bootstraps_are_computed_in_blocks_that_do_not_show(monkeypatch):
    whole = stats._resampled([np.arange(5.0)], stats._named("mean"), 1_000, seed=0)
    monkeypatch.setattr(stats, "CELLS", 35)
    np.testing.assert_array_equal(stats._resampled([np.arange(5.0)], stats._named("mean"), 1_000, seed=0), whole)


def test_any_function_is_resampled_and_agrees():
    by_name = stats.stratified_bootstrap(SCORES, "iqm", reps=20_000)
    by_function = stats.stratified_bootstrap(SCORES, stats.iqm, reps=1_000)
    assert by_function.point == by_name.point
    assert by_function.low == pytest.approx(by_name.low, abs=0.02)
    assert by_function.high == pytest.approx(by_name.high, abs=0.02)
    worst = stats.stratified_bootstrap(RAGGED, lambda s: min(np.mean(v) for v in s.values()), reps=500)
    assert worst.low <= worst.point <= worst.high
    vector = stats.stratified_bootstrap([1.0, 2.0, 4.0], np.ptp, reps=500)
    assert (vector.point, vector.low, vector.high) == (3, 0, 3)


def test_coverage_of_the_mean_on_gaussians():
    rng = np.random.default_rng(0)
    hits, normal = 0, 0
    for trial in range(300):
        scores = rng.normal(size=(30, 2))
        interval = stats.stratified_bootstrap(scores, "mean", reps=500, confidence=0.9, seed=trial)
        hits += interval.low <= 0 <= interval.high
        normal += abs(scores.mean()) <= scipy.stats.norm.ppf(0.95) * np.sqrt(scores.var(axis=0).sum() / 30) / 2
    assert 0.82 <= hits / 300 <= 0.94  # percentile intervals are a little short
    assert abs(hits - normal) / 300 <= 0.02  # the interval that the central limit theorem gives for the same scores


def test_seeded_by_argument_only():
    np.random.seed(0)  # noqa: NPY002
    first = stats.stratified_bootstrap(SCORES, reps=500, seed=3)
    np.random.seed(1)  # noqa: NPY002
    assert stats.stratified_bootstrap(SCORES, reps=500, seed=3) == first
    assert stats.stratified_bootstrap(SCORES, reps=500, seed=4) != first
    assert stats.stratified_bootstrap(SCORES, stats.iqm, reps=50, seed=3) == stats.stratified_bootstrap(
        SCORES, stats.iqm, reps=50, seed=3
    )


def test_one_run_gives_the_point_as_its_interval():
    assert stats.stratified_bootstrap([[0.2, 0.8]], "mean") == (0.5, 0.5, 0.5)
    assert stats.stratified_bootstrap([0.7], lambda s: float(np.max(s))) == (0.7, 0.7, 0.7)
    assert stats.probability_of_improvement([[1.0, 0.0]], [[0.0, 0.0]]) == (0.75, 0.75, 0.75)
    curve = stats.curve_interval([[0.1, 0.2]])
    np.testing.assert_array_equal(curve.low, curve.high)


def test_a_task_with_one_run_among_others_keeps_it():
    interval = stats.stratified_bootstrap({"a": [1.0], "b": [0.0, 2.0]}, "mean", reps=2_000)
    assert (interval.low, interval.point, interval.high) == (0.5, 1.0, 1.5)


def test_equal_scores_give_a_point():
    assert stats.stratified_bootstrap(np.full((4, 3), 0.5)) == pytest.approx((0.5, 0.5, 0.5))


def test_probability_of_improvement_is_mann_whitney_with_ties_half():
    u = [scipy.stats.mannwhitneyu(x, y).statistic / 40 for x, y in zip(SCORES.T, OTHER.T, strict=True)]
    assert stats.probability_of_improvement(SCORES, OTHER, reps=10).point == pytest.approx(np.mean(u), abs=1e-12)
    rounded = [np.round(s, 0) for s in (SCORES, OTHER)]
    u = [scipy.stats.mannwhitneyu(x, y).statistic / 40 for x, y in zip(*(r.T for r in rounded), strict=True)]
    assert stats.probability_of_improvement(*rounded, reps=10).point == pytest.approx(np.mean(u), abs=1e-12)
    x, y = [[1, 2], [2, 2], [1, 1], [2, 1]], [[1, 1], [2, 2], [3, 3]]
    assert stats.probability_of_improvement(x, y).point == pytest.approx(1 / 3)
    assert stats.probability_of_improvement(x, x).point == pytest.approx(0.5)


def test_interval_of_the_probability_of_improvement_agrees_with_scipy():
    ours = stats.probability_of_improvement(SCORES[:, :2], OTHER[:, :2], reps=20_000)

    def statistic(x0, x1, y0, y1):
        return np.mean([(a[:, None] > b).mean() + 0.5 * (a[:, None] == b).mean() for a, b in ((x0, y0), (x1, y1))])

    theirs = scipy.stats.bootstrap(
        (*SCORES[:, :2].T, *OTHER[:, :2].T), statistic, n_resamples=2_000, method="percentile", vectorized=False,
        rng=np.random.default_rng(0),
    ).confidence_interval  # fmt: skip
    assert ours.low == pytest.approx(theirs.low, abs=0.03)
    assert ours.high == pytest.approx(theirs.high, abs=0.03)


def test_tasks_are_matched_by_name():
    x, y = {"a": [1.0, 1.0], "b": [0.0]}, {"b": [5.0, 5.0], "a": [0.0]}
    assert stats.probability_of_improvement(x, y).point == 0.5
    with pytest.raises(UserError, match="c is in one of them only"):
        stats.probability_of_improvement(x, {**y, "c": [1.0]})
    with pytest.raises(UserError, match="x has 26 and y has 2"):
        stats.probability_of_improvement(SCORES, OTHER[:, :2])


def test_a_curve_over_thresholds_is_a_performance_profile():
    taus = np.linspace(-1, 3, 9)
    profile = stats.curve_interval(SCORES[:, :, None] > taus, "mean")
    np.testing.assert_allclose(profile.point, [(tau < SCORES).mean() for tau in taus])
    # strata make the count a sum of binomials
    p = (SCORES[:, :, None] > taus).mean(axis=0)
    deviation = np.sqrt((p * (1 - p)).sum(axis=0) * 5) / SCORES.size
    np.testing.assert_allclose(profile.high - profile.low, 2 * 1.96 * deviation, atol=0.02)
    assert profile.point[0] == profile.low[0] == profile.high[0] == 1


def test_curve_interval_equals_the_interval_of_each_step():
    curves = np.random.default_rng(2).normal(size=(7, 3, 4)).cumsum(axis=2)
    band = stats.curve_interval(curves, reps=20_000)
    for step in range(4):
        one = stats.stratified_bootstrap(curves[:, :, step], reps=20_000)
        assert band.point[step] == pytest.approx(one.point)
        assert band.low[step] == pytest.approx(one.low, abs=0.03 * (one.high - one.low))
        assert band.high[step] == pytest.approx(one.high, abs=0.03 * (one.high - one.low))
    flat = stats.curve_interval(curves[:, 0], "mean", reps=200)
    np.testing.assert_allclose(flat.point, curves[:, 0].mean(axis=0))


def test_cvar():
    assert stats.cvar([4, 1, 3, 2], 0.5) == 1.5
    assert stats.cvar([4, 1, 3, 2], 1) == 2.5
    assert stats.cvar([4, 1, 3, 2], 0.25) == 1
    assert stats.cvar([4, 1, 3, 2], 0.375) == pytest.approx((1 + 0.5 * 2) / 1.5)  # the second value counts half
    np.testing.assert_allclose(stats.cvar([[1, 2], [5, 3]], 0.5), [1, 3])
    uniform = np.random.default_rng(0).random(200_000)
    assert stats.cvar(uniform, 0.1) == pytest.approx(0.05, abs=1e-3)  # alpha / 2 for a uniform variable


def test_cvar_by_an_independent_ranking_is_unbiased():
    rng = np.random.default_rng(0)
    first, second = rng.random((2, 100_000))  # two measurements that share nothing
    assert stats.cvar(second, 0.1, rank_by=first) == pytest.approx(0.5, abs=0.01)
    assert stats.cvar([1.0, 3.0, 10.0], 1 / 3, rank_by=[0, 0, 5]) == pytest.approx(2.0)  # a tie shares the weight


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: stats.iqm([[1, 2], [3, np.nan]]), r"scores\[1, 1\] is nan"),
        (lambda: stats.iqm([[1, np.inf], [3, np.nan]]), r"scores\[0, 1\] is inf \(2 such values\)"),
        (lambda: stats.mean({"maze": [1, np.nan]}), r"scores\['maze'\]\[1\] is nan"),
        (lambda: stats.curve_interval([[1.0, np.nan]]), r"values\[0, 1\] is nan"),
        (lambda: stats.cvar([np.nan], 0.5), r"values\[0\] is nan"),
        (lambda: stats.probability_of_improvement([1.0], [np.nan]), r"y\[0\] is nan"),
        (lambda: stats.iqm(np.zeros((2, 2, 2))), r"shape \(runs, tasks\)"),
        (lambda: stats.iqm([]), "at least one run"),
        (lambda: stats.iqm({}), "empty"),
        (lambda: stats.iqm([[1, 2], [3]]), "rows of equal length"),
        (lambda: stats.iqm({"a": [[1]]}), "vector"),
        (lambda: stats.stratified_bootstrap([1, 2], "trimmed"), "one of iqm, mean, median"),
        (lambda: stats.stratified_bootstrap([1, 2], reps=0), "reps is 0"),
        (lambda: stats.stratified_bootstrap([1, 2], reps=1.5), "reps is 1.5"),
        (lambda: stats.stratified_bootstrap([1, 2], confidence=95), "confidence is 95"),
        (lambda: stats.stratified_bootstrap([1, 2], seed=-1), "seed"),
        (lambda: stats.curve_interval([1, 2]), r"\(runs, steps\)"),
        (lambda: stats.cvar([1, 2], 0), r"\(0, 1\]"),
        (lambda: stats.cvar([1, 2], 0.5, rank_by=[1]), "rank_by"),
    ],
)
def test_bad_input_is_one_clear_sentence(call, message):
    with pytest.raises(UserError, match=message):
        call()


def test_an_interval_reads_well():
    assert str(stats.Interval(0.8765, 0.8, 0.95123)) == "0.876 [0.8, 0.951]"
