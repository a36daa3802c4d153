"""Criteria at values worked out by hand, and the axioms that they claim."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from generalized_exploration import CRITERIA, Evidence, criterion, filtered, product, weighted_ranks
from generalized_exploration.criteria import scores
from generalized_exploration.criteria.combine import quantile_ranks
from paperloop.errors import UserError

N, C, T = 7, 4, 5


def some_evidence(seed: int = 0) -> Evidence:
    """Evidence of every kind about N items."""
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.ones(C), (3, N))
    return Evidence(
        loss=rng.gamma(1.0, size=N), reference_loss=rng.gamma(0.5, size=N), previous_loss=rng.gamma(1.0, size=N),
        elapsed=1.0 + rng.integers(5, size=N), logits=rng.normal(size=(N, C)), labels=rng.integers(C, size=N),
        probabilities=p, success_rate=rng.random(N), reference_success_rate=rng.random(N),
        mean_return=rng.random(N), reference_return=1.0 + rng.random(N), best_return=1.0 + rng.random(N),
        advantages=rng.normal(size=(N, T)), values=rng.normal(size=(N, T)),
        mask=(np.arange(T) < rng.integers(1, T + 1, (N, 1))).astype(float), features=rng.normal(size=(N, 2)),
        memory=rng.normal(size=(6, 2)), exemplars=rng.normal(size=(3, 2)), visits=rng.integers(9, size=N),
    )  # fmt: skip


def mastered_and_not() -> Evidence:
    """Item 0 has nothing left to learn, the others do."""
    certain = np.array([[30.0, 0.0], [0.2, 0.0], [-1.0, 0.0]])
    members = np.stack([np.array([[1.0, 0.0], [0.9, 0.1], [0.2, 0.8]]), np.array([[1.0, 0.0], [0.4, 0.6], [0.7, 0.3]])])
    return Evidence(
        loss=np.array([0.0, 0.6, 1.3]), reference_loss=np.array([0.0, 0.1, 0.2]),
        previous_loss=np.array([0.0, 0.8, 1.5]), elapsed=np.ones(3), logits=certain, labels=np.zeros(3, int),
        probabilities=members, success_rate=np.array([1.0, 0.5, 0.2]), reference_success_rate=np.ones(3),
        mean_return=np.array([1.0, 0.5, 0.2]), reference_return=np.ones(3), best_return=np.array([1.0, 0.9, 1.0]),
        advantages=np.array([[0.0, 0.0], [0.4, -0.2], [0.3, 0.1]]),
        values=np.array([[1.0, 1.0], [0.5, 0.5], [0.0, 0.4]]),
    )  # fmt: skip


@pytest.mark.parametrize("name", CRITERIA)
def test_a1_permuting_items_permutes_scores(name):
    evidence = some_evidence()
    order = np.random.default_rng(1).permutation(N)
    moved = {
        field: value if field in ("memory", "exemplars") else np.take(value, order, axis=int(field == "probabilities"))
        for field, value in evidence.given().items()
    }
    np.testing.assert_allclose(criterion(name)(Evidence(**moved)), np.asarray(criterion(name)(evidence))[order])


@pytest.mark.parametrize("name", [one.name for one in CRITERIA.values() if one.mastered])
def test_a2_what_is_mastered_scores_lowest(name):
    first, *others = criterion(name)(mastered_and_not())
    assert all(first < other for other in others)
    assert first == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("name", CRITERIA)
def test_numpy_and_jax_agree(name):
    evidence = some_evidence()
    on_device = Evidence(**{field: jnp.asarray(value) for field, value in evidence.given().items()})
    found = jax.jit(lambda: criterion(name)(on_device))()
    assert isinstance(found, jax.Array)
    np.testing.assert_allclose(found, criterion(name)(evidence), rtol=2e-5, atol=2e-6)


@given(st.floats(0, 1))
def test_a7_a_level_as_an_example_has_the_same_learnability(p):
    level = criterion("learnability")(Evidence(success_rate=np.array([p])))
    example = criterion("learnability")(Evidence(success_rate=np.exp(-np.array([-math.log(p) if p else np.inf]))))
    np.testing.assert_allclose(level, example, atol=1e-12)


def test_values_worked_out_by_hand():
    assert scores.gradient_norm(np.zeros((1, 2)), np.array([1]))[0] == pytest.approx(math.sqrt(0.5))
    members = np.array([[[1.0, 0.0]], [[0.0, 1.0]]])
    assert scores.disagreement(members)[0] == pytest.approx(math.log(2))
    assert scores.disagreement(members[:1].repeat(3, axis=0))[0] == 0
    assert scores.entropy(np.zeros((1, 8)))[0] == pytest.approx(math.log(8))
    logits = np.log(np.array([[0.6, 0.3, 0.1]]))
    assert scores.margin(logits)[0] == pytest.approx(0.7)
    assert scores.least_confidence(logits)[0] == pytest.approx(0.4)
    advantages, mask = np.array([[1.0, -3.0, 100.0]]), np.array([[1.0, 1.0, 0.0]])
    assert scores.l1_value_loss(advantages, mask)[0] == 2.0
    assert scores.positive_value_loss(advantages, mask)[0] == 0.5
    assert scores.max_mc(np.array([1.0]), np.array([[0.2, 0.4]]))[0] == pytest.approx(0.7)
    assert scores.learning_progress(np.array([2.0]), np.array([0.5]), np.array([3.0]))[0] == 0.5
    assert scores.novelty_by_count(np.array([0, 3])).tolist() == [1.0, 0.5]
    there = np.array([[0.0, 0.0]])
    assert scores.novelty_by_distance(there, np.array([[3.0, 4.0], [0.0, 1.0], [9.0, 9.0]]), k=2)[0] == 3.0
    assert scores.grounding(there, there)[0] == 1.0


def test_a_coin_flip_has_the_highest_learnability_and_none_above_a_reference():
    rates = np.linspace(0, 1, 11)
    assert scores.learnability(rates).argmax() == 5
    assert scores.reducible_learnability(np.array([0.5]), np.array([0.5]))[0] == 0
    assert scores.reducible_learnability(np.array([0.5]), np.array([1.0]))[0] == 0.25


@hypothesis_settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(-50, 50), min_size=2, max_size=20))
def test_quantile_ranks_are_scipys_average_ranks(values):
    scipy_stats = pytest.importorskip("scipy.stats")
    values = np.array(values, float)
    expected = (scipy_stats.rankdata(values) - 1) / (len(values) - 1)
    np.testing.assert_allclose(quantile_ranks(values), expected)
    np.testing.assert_allclose(quantile_ranks(np.exp(values / 10)), expected)


def test_criteria_combine():
    evidence = Evidence(loss=np.array([1.0, 2.0, 3.0]), visits=np.array([0, 3, 8]), reference_loss=np.zeros(3))
    loss, novel = criterion("loss"), criterion("novelty_by_count")
    both = weighted_ranks({loss: 2.0, novel: 1.0})
    np.testing.assert_allclose(both(evidence), [1.0, 1.5, 2.0])
    assert both.needs == ("loss", "visits")
    np.testing.assert_allclose(product(loss, novel)(evidence), [1.0, 1.0, 1.0])
    np.testing.assert_allclose(filtered(loss, novel, quantile=0.5)(evidence), [1.0, 2.0, -np.inf])
    with pytest.raises(UserError, match="needs visits"):
        both(Evidence(loss=np.ones(2)))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: criterion("reducible_los"), "no criterion 'reducible_los'.*reducible_loss"),
        (
            lambda: criterion("reducible_loss")(Evidence(loss=np.ones(2))),
            "needs reference_loss, and the evidence has loss",
        ),
        (lambda: Evidence(loss=np.ones(3), reference_loss=np.ones(4)), "reference_loss is of 4 items, and loss of 3"),
        (lambda: Evidence(loss=1.0), r"shape \(\)"),
        (lambda: Evidence().n, "no evidence about any item"),
        (lambda: filtered(criterion("loss"), criterion("loss"), quantile=1.0), "quantile is 1.0"),
        (lambda: weighted_ranks({}), "at least one"),
        (lambda: product(), "at least one"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(make, words):
    with pytest.raises(UserError, match=words):
        make()
