"""Weights, draws and the buffer: closed forms, axioms and frequencies."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from generalized_exploration import Buffer, Evidence, Selector, criterion, top_k, without_replacement
from generalized_exploration.samplers import weights
from paperloop.errors import UserError

ALL = np.ones(3, bool)
score_lists = st.lists(st.integers(-20, 20), min_size=3, max_size=12)


def test_rank_weights_at_hand_values():
    s = np.array([3.0, 1.0, 2.0])
    np.testing.assert_allclose(weights.rank(s, ALL, temperature=1.0), np.array([6, 2, 3]) / 11, rtol=1e-6)
    sharp = np.array([1.0, 3.0**-10, 2.0**-10])
    np.testing.assert_allclose(weights.rank(s, ALL, temperature=0.1), sharp / sharp.sum(), rtol=1e-6)


def test_staleness_at_hand_values():
    np.testing.assert_allclose(weights.staleness(10, np.array([10, 5, 0]), ALL), [0, 1 / 3, 2 / 3])
    np.testing.assert_allclose(weights.staleness(4, np.array([4, 4, 4]), ALL), np.ones(3) / 3)


@hypothesis_settings(max_examples=40, deadline=None)
@given(score_lists, st.integers(1, 9), st.integers(-9, 9), st.sampled_from([0.1, 1.0, 5.0]))
def test_a3_rank_weights_ignore_affine_rescaling(values, scale, shift, temperature):
    s, valid = np.array(values, float), np.ones(len(values), bool)
    expected = weights.rank(s, valid, temperature=temperature)
    np.testing.assert_allclose(weights.rank(scale * s + shift, valid, temperature=temperature), expected)
    np.testing.assert_array_equal(top_k(scale * s + shift, 2), top_k(s, 2))


@hypothesis_settings(max_examples=40, deadline=None)
@given(score_lists, st.data())
def test_a4_weights_are_probabilities_on_filled_slots(values, data):
    n = len(values)
    s = np.array(values, float)
    valid = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    stale = weights.staleness(9, np.arange(n) % 10, valid)
    made = [
        weights.rank(s, valid, temperature=0.3), weights.proportional(s, valid, temperature=0.3),
        weights.greedy(s, valid), weights.top_k_softmax(s, valid, k=2), stale,
    ]  # fmt: skip
    for p in [*made, *(weights.mix(p, stale, rho=0.3) for p in made)]:
        assert (p >= 0).all()
        assert (p[~valid] == 0).all()
        assert p.sum() == pytest.approx(float(valid.any()))
    assert (weights.mix(made[0], stale, rho=0.3) >= 0.3 * stale - 1e-12).all()


def test_a5_rho_at_its_ends():
    p, q = np.array([0.7, 0.3]), np.array([0.2, 0.8])
    np.testing.assert_array_equal(weights.mix(p, q, rho=0.0), p)
    np.testing.assert_array_equal(weights.mix(p, q, rho=1.0), q)


def test_a6_temperature_at_its_ends():
    s = np.array([0.1, 5.0, 2.0])
    np.testing.assert_allclose(weights.rank(s, ALL, temperature=1e6), np.ones(3) / 3, atol=1e-5)
    np.testing.assert_allclose(weights.rank(s, ALL, temperature=1e-3), weights.greedy(s, ALL), atol=1e-12)


def test_what_is_not_a_number_ranks_last_among_filled_slots():
    s = np.array([np.nan, -5.0, np.nan, np.inf, -np.inf])
    valid = np.array([True, True, False, True, True])
    assert weights.ranks(s, valid).tolist() == [3, 2, 5, 1, 4]
    assert top_k(s, 4, valid).tolist() == [3, 1, 0, 4]


def test_all_zero_weights_are_uniform_over_filled_slots():
    valid = np.array([True, False, True])
    np.testing.assert_allclose(weights.proportional(np.zeros(3), valid, temperature=1.0), [0.5, 0, 0.5])
    assert weights.rank(np.ones(3), np.zeros(3, bool), temperature=1.0).sum() == 0


def test_draws_without_replacement_have_the_frequencies_of_sequential_draws():
    p = np.array([0.5, 0.3, 0.2, 0.0])
    drawn = jax.vmap(lambda key: without_replacement(jax.random.uniform(key, (4,)), jnp.asarray(p), 2))(
        jax.random.split(jax.random.key(0), 20_000)
    )
    pairs = np.zeros((4, 4))
    np.add.at(pairs, (np.asarray(drawn)[:, 0], np.asarray(drawn)[:, 1]), 1 / 20_000)
    expected = np.where(np.eye(4, dtype=bool), 0, p[:, None] * p[None, :] / (1 - p[:, None]))
    np.testing.assert_allclose(pairs, expected, atol=5 * np.sqrt(0.25 / 20_000))
    assert set(map(int, without_replacement(np.random.default_rng(0).random(4), p, 4))) == {0, 1, 2, 3}


def test_the_selector_takes_tensors_and_returns_the_best():
    rng = np.random.default_rng(0)
    loss, reference = rng.random(50), rng.random(50)
    chosen = Selector(criterion("reducible_loss"), keep=8).select(Evidence(loss=loss, reference_loss=reference))
    assert set(chosen) == set(np.argpartition(reference - loss, 8)[:8])
    assert (np.diff((loss - reference)[chosen]) <= 0).all()


@pytest.mark.torch
def test_the_selector_drops_into_a_torch_loop():
    torch = pytest.importorskip("torch")
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(512, 5, generator=generator)
    y = (x[:, 0] > 0).long()
    model = torch.nn.Linear(5, 2)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.5)
    selector = Selector(criterion("loss"), keep=16)
    losses = []
    for start in range(0, 512, 64):
        pool = slice(start, start + 64)
        with torch.no_grad():
            scored = torch.nn.functional.cross_entropy(model(x[pool]), y[pool], reduction="none")
        chosen = torch.as_tensor(selector.select(Evidence(loss=scored))) + start
        loss = torch.nn.functional.cross_entropy(model(x[chosen]), y[chosen])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(scored.mean()))
    assert losses[-1] < losses[0]


@pytest.mark.parametrize(
    ("select", "words"),
    [
        (lambda s: s.select(Evidence(loss=np.array([1.0, np.nan, 2.0]))), r"loss\[1\] is nan.*valid"),
        (lambda s: s.select(Evidence(loss=np.array([1.0, np.inf, 2.0]))), r"loss\[1\] is inf"),
        (lambda s: s.select(Evidence(loss=np.ones(1))), "keep is 2, and only 1 items are valid"),
        (lambda s: s.select(Evidence(loss=np.ones(3)), [True, False, False]), "only 1 items"),
        (lambda s: s.select(Evidence(loss=np.ones(3)), [True]), r"valid has shape \(1,\)"),
        (lambda s: s.select(Evidence(visits=np.ones(3))), "criterion loss needs loss"),
        (lambda s: Selector(criterion("loss"), keep=0), "keep is 0"),
        (lambda s: Buffer(4, rho=1.5), "rho is 1.5"),
        (lambda s: Buffer(0), "capacity is 0"),
        (lambda s: Buffer(2).sample(jax.random.key(0), Buffer(2).init(0.0), 3), "3 items are asked for"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(select, words):
    with pytest.raises(UserError, match=words):
        select(Selector(criterion("loss"), keep=2))


def test_ties_go_to_the_lower_index():
    assert top_k(np.array([1.0, 2.0, 2.0, 1.0]), 3).tolist() == [1, 2, 0]


BUFFER = Buffer(4, temperature=0.5, rho=0.25, min_fill=1.0)


def filled() -> object:
    state = BUFFER.init({"level": jnp.zeros(2)})
    return BUFFER.insert(state, {"level": jnp.arange(8.0).reshape(4, 2)}, jnp.array([1.0, 4.0, 2.0, 3.0]))


def test_the_buffer_fills_and_then_replaces_what_is_replayed_least():
    state = filled()
    assert state.valid.all()
    worst = int(jnp.argmin(BUFFER.weights(state)))
    assert worst == 0
    new = {"level": jnp.full((1, 2), 9.0)}
    assert float(BUFFER.insert(state, new, jnp.array([0.5])).scores[0]) == 1.0  # scores less: not taken
    assert float(BUFFER.insert(state, new, jnp.array([jnp.nan])).scores[0]) == 1.0
    after = BUFFER.insert(state, new, jnp.array([5.0]))
    assert after.items["level"][0].tolist() == [9.0, 9.0]
    assert after.scores.tolist() == [5.0, 4.0, 2.0, 3.0]
    at_once = BUFFER.insert_batch(state, new, jnp.array([5.0]))
    assert jax.tree.all(jax.tree.map(jnp.array_equal, after, at_once))


def test_insertion_at_once_fills_empty_slots_first():
    state = BUFFER.init(jnp.zeros(()))
    state = BUFFER.insert_batch(state, jnp.arange(3.0), jnp.array([1.0, jnp.nan, 2.0]))
    assert sorted(state.scores[state.valid].tolist()) == [1.0, 2.0]


def test_sampling_marks_visits_and_draws_each_slot_once():
    state, slots = BUFFER.sample(jax.random.key(0), filled(), 3)
    assert len(set(slots.tolist())) == 3
    assert (state.last_visit[slots] == state.clock).all()
    state, slots = BUFFER.sample_in_turn(jax.random.key(0), filled(), 5)
    assert int(state.clock) == 5


def test_replay_waits_until_the_buffer_is_full_enough():
    keys = jax.random.split(jax.random.key(0), 400)
    assert not jax.vmap(lambda k: BUFFER.replays(k, BUFFER.init(0.0)))(keys).any()
    share = jax.vmap(lambda k: BUFFER.replays(k, filled()))(keys).mean()
    assert 0.9 < share < 0.99
