"""The level buffer: weights, draws, insertion and copies, against closed forms and NumPy loops."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from minimax_ued.config import BufferConfig
from minimax_ued.replay.buffer import BufferState, LevelBuffer
from minimax_ued.replay.select import draw
from paperloop import UserError


def level_hash(level):
    number = level["number"].astype(jnp.uint32)
    return jnp.stack([number * jnp.uint32(2654435761), number ^ jnp.uint32(0x5BD1E995)])


def clashing_hash(level):
    """Every pair 2k, 2k + 1 shares a hash."""
    return level_hash({"number": level["number"] // 2})


def same_level(a, b):
    return a["number"] == b["number"]


def make(hash=level_hash, temperature=0.5, **config):
    return LevelBuffer(BufferConfig(temperature=temperature, **config), hash, same_level)


def levels_of(numbers):
    numbers = np.asarray(numbers, np.int32)
    return {"number": numbers, "map": np.stack([numbers, -numbers], axis=-1)}


EXAMPLE = {"number": np.int32(7), "map": np.zeros(2, np.int32)}

# Compiled once for each buffer and shape: op by op, these small tests would spend their time compiling.
hashes_of = jax.jit(lambda hash, levels: jax.vmap(hash)(levels), static_argnums=0)
init, weights, metrics, insert, age, find = (
    jax.jit(getattr(LevelBuffer, name), static_argnums=static)
    for name, static in (("init", 0), ("weights", 0), ("metrics", 0), ("insert", 0), ("age", (0, 2)), ("find", 0))
)
sample = jax.jit(LevelBuffer.sample, static_argnums=(0, 3))


def state_of(buffer, scores, ages=None, numbers=None):
    """A state whose first slots hold `scores`."""
    n, count = buffer.config.capacity, len(scores)
    pad = (0, n - count)
    filled = np.arange(n) < count
    levels = levels_of(np.pad(np.arange(count) if numbers is None else numbers, pad))
    return BufferState(
        levels=levels,
        hashes=np.asarray(hashes_of(buffer.level_hash, levels)),
        scores=np.pad(np.asarray(scores, np.float32), pad, constant_values=-np.inf),
        ages=np.pad(np.zeros(count) if ages is None else ages, pad).astype(np.int32),
        max_returns=np.where(filled, 0.5, -np.inf).astype(np.float32),
        filled=filled,
        n_mutations=np.zeros(n, np.int32),
        invalid_scores=np.int32(0),
    )


def offer(buffer, state, numbers, scores, indices=None, max_returns=None, n_mutations=None):
    """Insert; the batch is filled up with unfinished levels to the one size for which `insert` is compiled."""
    b = len(numbers)
    pad = (0, max(0, min(8, buffer.config.capacity) - b))

    def padded(values, default, dtype, end=0):
        values = np.full(b, default) if values is None else values
        return np.pad(np.asarray(values, dtype), pad, constant_values=end)

    return insert(
        buffer,
        state,
        levels_of(padded(numbers, 0, np.int32, 999)),
        padded(scores, 0, np.float32, -np.inf),
        padded(max_returns, 0, np.float32),
        padded(indices, -1, np.int32, -1),
        padded(n_mutations, 0, np.int32),
    )


def numpy_weights(config, scores, ages, filled):
    """P in float64, written from the paper's formulas."""
    scores, ages = np.asarray(scores, np.float64), np.asarray(ages, np.float64) * filled
    order = sorted(range(len(scores)), key=lambda i: (not filled[i], -scores[i], i))
    p_s = np.zeros(len(scores))
    for rank, i in enumerate(order, start=1):
        p_s[i] = filled[i] * rank ** (-1 / config.temperature)
    if not p_s.any():
        return p_s
    p_s /= p_s.sum()
    p_c = ages / ages.sum() if ages.any() else p_s
    return (1 - config.staleness_coef) * p_s + config.staleness_coef * p_c


# --- the replay distribution ---


@pytest.mark.parametrize(
    ("temperature", "rho", "ages", "expected"),
    [
        (1.0, 0.0, [0, 0, 0, 0], [0.48, 0.16, 0.24, 0.12]),
        (0.5, 0.0, [0, 0, 0, 0], np.array([1, 1 / 9, 1 / 4, 1 / 16]) / (1 + 1 / 9 + 1 / 4 + 1 / 16)),
        (1.0, 0.3, [0, 1, 2, 1], [0.336, 0.187, 0.318, 0.159]),
        (1.0, 0.3, [0, 0, 0, 0], [0.48, 0.16, 0.24, 0.12]),  # nothing is stale: P_C is P_S
        (1.0, 1.0, [0, 1, 2, 1], [0, 0.25, 0.5, 0.25]),
    ],
)
def test_weights_have_their_closed_form(temperature, rho, ages, expected):
    buffer = make(capacity=4, temperature=temperature, staleness_coef=rho)
    p = weights(buffer, state_of(buffer, [3, 1, 2, 0], ages))
    np.testing.assert_allclose(p, expected, rtol=1e-6)


def test_empty_slots_have_no_mass():
    buffer = make(capacity=8)
    p = weights(buffer, state_of(buffer, [0.5, 0.1, 0.2], [5, 0, 3]))
    assert (np.asarray(p[3:]) == 0).all()
    np.testing.assert_allclose(p.sum(), 1, rtol=1e-6)
    assert (np.asarray(weights(buffer, init(buffer, EXAMPLE))) == 0).all()


def test_ties_by_slot_and_shared():
    by_slot, shared = (make(capacity=5, temperature=1.0, staleness_coef=0.0, ties=t) for t in ("slot", "share"))
    scores = [1.0, 2.0, 1.0, 2.0]
    ranks = np.array([1, 1 / 2, 1 / 3, 1 / 4]) / (25 / 12)
    np.testing.assert_allclose(weights(by_slot, state_of(by_slot, scores))[:4], ranks[[2, 0, 3, 1]], rtol=1e-6)
    high, low = ranks[:2].mean(), ranks[2:].mean()
    np.testing.assert_allclose(weights(shared, state_of(shared, scores)), [low, high, low, high, 0], rtol=1e-6)
    np.testing.assert_allclose(weights(shared, state_of(shared, [0.0] * 3)), [1 / 3, 1 / 3, 1 / 3, 0, 0], rtol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, -np.inf])
def test_scores_that_are_no_number_rank_last_but_before_empty_slots(bad):
    buffer = make(capacity=6, temperature=1.0, staleness_coef=0.0)
    p = weights(buffer, state_of(buffer, [bad, -1e30, 5.0]))
    np.testing.assert_allclose(p, np.array([1 / 3, 1 / 2, 1, 0, 0, 0]) * 6 / 11, rtol=1e-6)
    p = weights(buffer, state_of(buffer, [bad, bad, bad]))
    np.testing.assert_allclose(p, np.array([1, 1 / 2, 1 / 3, 0, 0, 0]) * 6 / 11, rtol=1e-6)


def test_weights_equal_a_numpy_loop_on_random_states():
    buffer = make(capacity=40, temperature=0.35)
    rng = np.random.default_rng(0)
    for _ in range(100):
        filled = rng.random(40) < rng.random()
        scores = np.where(filled, np.round(rng.normal(size=40), 1), -np.inf).astype(np.float32)  # rounding makes ties
        ages = (rng.integers(0, 100, 40) * filled * (rng.random() < 0.9)).astype(np.int32)
        state = init(buffer, EXAMPLE).replace(
            scores=jnp.asarray(scores), ages=jnp.asarray(ages), filled=jnp.asarray(filled)
        )
        expected = numpy_weights(buffer.config, scores, ages, filled)
        np.testing.assert_allclose(weights(buffer, state), expected, atol=1e-6)


def test_the_smallest_temperature_allowed_leaves_every_level_reachable():
    for capacity in (2, 4000):
        lowest = np.ceil(np.log(capacity) / 87 * 1e4) / 1e4
        buffer = make(capacity=capacity, temperature=float(lowest), staleness_coef=0.0)
        p = np.asarray(weights(buffer, state_of(buffer, np.arange(capacity))))
        assert (p > 0).all()
        assert (np.diff(p) > 0).all()  # the order of the scores, down to the last one
        with pytest.raises(UserError, match=rf"temperature is .* underflows in float32: set it to at least {lowest:g}"):
            make(capacity=capacity, temperature=float(lowest) - 2e-4)


# --- when to replay ---


def test_replay_waits_for_the_fill_ratio():
    keys = jax.random.split(jax.random.key(0), 2000)
    buffer = make(capacity=10, min_fill=0.7, replay_prob=0.8)
    decide = jax.jit(jax.vmap(buffer.replay_decision, in_axes=(0, None)))
    assert not decide(keys, state_of(buffer, np.arange(6))).any()
    rate = decide(keys, state_of(buffer, np.arange(7))).mean()
    assert abs(rate - 0.8) < 4 * np.sqrt(0.8 * 0.2 / 2000)


def test_an_empty_buffer_never_replays():
    buffer = make(capacity=10, min_fill=0.0, replay_prob=1.0)
    empty = init(buffer, EXAMPLE)
    assert not buffer.replay_decision(jax.random.key(0), empty)
    assert buffer.replay_decision(jax.random.key(0), state_of(buffer, [0.0]))
    # Both branches of a `cond` run under vmap: sampling an empty buffer must stay harmless.
    state, indices, _ = sample(buffer, jax.random.key(0), empty, 8)
    assert ((np.asarray(indices) >= 0) & (np.asarray(indices) < 10)).all()
    jax.tree.map(np.testing.assert_array_equal, state, empty)


# --- drawing ---

DRAW_SCORES, DRAW_AGES = [0.3, 0.9, 0.1, 0.5, 0.7], [4, 0, 9, 1, 2]


def reference_sequences(config, scores, ages, batch):
    """Every sequence of draws with its probability under the sequential rule, by enumeration in float64."""
    n, filled = len(scores), np.ones(len(scores), bool)
    for sequence in itertools.product(range(n), repeat=batch):
        age, probability = np.array(ages), 1.0
        for i in sequence:
            probability *= numpy_weights(config, scores, age, filled)[i]
            age += 1
            age[i] = 0
        yield sequence, probability, age


@functools.partial(jax.jit, static_argnums=(0, 1))
def draw_keys(buffer, batch, state, keys):
    return jax.vmap(lambda key: buffer.sample(key, state, batch)[:2])(keys)


def draw_many(buffer, state, batch, draws):
    keys = jax.random.split(jax.random.key(11), draws)
    state, indices = draw_keys(buffer, batch, state, keys)
    return np.asarray(indices), np.asarray(state.ages)


@pytest.mark.slow
@pytest.mark.parametrize("ages", [DRAW_AGES, [0] * 5])
def test_one_draw_at_once_has_exactly_the_replay_distribution(ages):
    buffer = make(capacity=5, temperature=0.6, staleness_coef=0.5)
    state = state_of(buffer, DRAW_SCORES, ages)
    indices, _ = draw_many(buffer, state, 1, 20_000)
    expected = np.asarray(weights(buffer, state), np.float64) * 20_000
    assert stats.chisquare(np.bincount(indices[:, 0], minlength=5), expected / expected.sum() * 20_000).pvalue > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("ages", [DRAW_AGES, [0] * 5, [300, 100, 0, 200, 50]])
def test_a_batch_at_once_stays_close_to_the_sequential_distribution(ages):
    """Expected draws of each slot: nearer to the reference than independent draws from P, and near in itself."""
    batch = 4
    buffer = make(capacity=5, temperature=0.6, staleness_coef=0.5)
    state = state_of(buffer, DRAW_SCORES, ages)
    indices, _ = draw_many(buffer, state, batch, 20_000)
    ours = np.bincount(indices.ravel(), minlength=5) / indices.size
    reference, distinct = np.zeros(5), 0.0
    for sequence, probability, _ in reference_sequences(buffer.config, DRAW_SCORES, ages, batch):
        reference += probability * np.bincount(sequence, minlength=5) / batch
        distinct += probability * len(set(sequence))
    independent = np.asarray(weights(buffer, state), np.float64)

    def distance(p):
        return 0.5 * np.abs(p - reference).sum()

    assert distance(ours) < 0.05
    assert distance(ours) < 0.6 * distance(independent)
    ours_distinct = np.mean([len(set(row)) for row in indices])
    independent_distinct = (1 - (1 - independent) ** batch).sum()
    assert abs(ours_distinct - distinct) < 0.6 * abs(independent_distinct - distinct)


@pytest.mark.slow
def test_ages_after_a_batch_at_once_are_those_of_the_sequential_rule():
    buffer = make(capacity=12, staleness_coef=0.5)
    state = state_of(buffer, np.arange(9), np.arange(9) * 3)
    indices, ages = draw_many(buffer, state, 10, 200)
    for drawn, after in zip(indices, ages, strict=True):
        expected = np.arange(12) * 3 * (np.arange(12) < 9)
        for i in drawn:
            expected[:9] += 1
            expected[i] = 0
        np.testing.assert_array_equal(after, expected)
    assert indices.max() < 9  # never an empty slot


@pytest.mark.slow
def test_a_draw_never_falls_on_rounding_errors(monkeypatch):
    """The parallel prefix sum may rise by a last digit within a run of zeros, here the empty slots of a buffer."""
    rng = np.random.default_rng(0)
    rises = 0
    highest = np.float32(1 - 2**-24)
    monkeypatch.setattr(jax.random, "uniform", lambda key, shape: jnp.full(shape, highest))
    compiled = jax.jit(lambda w: (draw(jax.random.key(0), w), jnp.cumsum(w)))
    for _ in range(60):
        count = int(rng.integers(500, 1000))
        weights = np.where(np.arange(1000) < count, rng.random(1000), 0).astype(np.float32)
        index, upper = compiled(weights / weights.sum())
        rises += bool(upper[-1] > upper[count - 1])
        assert index < count
    assert rises > 0  # the case did occur


@pytest.mark.slow
def test_stale_levels_are_drawn_without_replacement():
    buffer = make(capacity=12, staleness_coef=1.0)
    ages = [1, 50, 2, 7, 3, 100, 1, 1, 9, 4]
    indices, _ = draw_many(buffer, state_of(buffer, np.arange(10), ages), 10, 200)
    assert all(len(set(row)) == 10 for row in indices)
    # More draws than levels: each comes round again before any is drawn a third time.
    indices, _ = draw_many(buffer, state_of(buffer, np.arange(5), [1, 50, 2, 7, 3]), 10, 200)
    assert all((np.bincount(row) == 2).all() for row in indices)


def test_drawn_levels_are_those_of_the_slots():
    buffer = make(capacity=12)
    state = state_of(buffer, np.arange(9), numbers=np.arange(9) * 10)
    after, indices, levels = sample(buffer, jax.random.key(0), state, 5)
    np.testing.assert_array_equal(levels["number"], np.asarray(indices) * 10)
    np.testing.assert_array_equal(levels["map"][:, 1], np.asarray(indices) * -10)
    jax.tree.map(np.testing.assert_array_equal, after.replace(ages=state.ages), state)  # nothing but ages changes


@pytest.mark.slow
def test_ages_stop_at_their_maximum():
    top = 2**31 - 1
    buffer = make(capacity=4)
    state = state_of(buffer, [1, 2, 3], [top - 5, top, 0])
    np.testing.assert_array_equal(age(buffer, state, 32).ages, [top, top, 32, 0])
    np.testing.assert_allclose(weights(buffer, age(buffer, state, 32)).sum(), 1, rtol=1e-6)
    rules = make(capacity=4)
    ages = np.asarray(sample(rules, jax.random.key(0), state, 4)[0].ages)
    assert (ages >= 0).all()
    assert ages[3] == 0


# --- insertion ---


class NumpyBuffer:
    """The reference's insertion, level by level, in plain Python."""

    def __init__(self, config, state):
        self.config = config
        self.numbers = np.asarray(state.levels["number"]).copy()
        self.scores, self.ages = np.asarray(state.scores).copy(), np.asarray(state.ages).copy()
        self.filled, self.max_returns = np.asarray(state.filled).copy(), np.asarray(state.max_returns).copy()

    def insert(self, numbers, scores, max_returns, indices):
        # Copies are resolved before the loop, as the reference does.
        slots, use = list(indices), [np.isfinite(s) for s in scores]
        for b, number in enumerate(numbers):
            if not use[b]:
                continue
            copies = [a for a in range(b) if use[a] and numbers[a] == number]
            if copies:
                use[b] = False
                max_returns[copies[0]] = max(max_returns[copies[0]], max_returns[b])  # here the reference forgets
            elif slots[b] < 0:
                (where,) = np.nonzero(self.filled & (self.numbers == number))
                slots[b] = where[0] if len(where) else -1
        for b, number in enumerate(numbers):
            if not use[b]:
                continue
            if slots[b] >= 0 and self.numbers[slots[b]] == number:
                self.scores[slots[b]] = scores[b]
                self.max_returns[slots[b]] = max(max_returns[b], self.max_returns[slots[b]])
                if indices[b] < 0:
                    self.ages[slots[b]] = 0
                continue
            if slots[b] >= 0:
                slot = slots[b]
            elif not self.filled.all():
                slot = int(np.argmin(self.filled))
            else:
                slot = int(np.argmin(numpy_weights(self.config, self.scores, self.ages, self.filled)))
            if not self.filled[slot] or scores[b] >= self.scores[slot]:
                self.numbers[slot], self.scores[slot], self.ages[slot] = number, scores[b], 0
                self.filled[slot], self.max_returns[slot] = True, max_returns[b]

    def check(self, state: BufferState):
        np.testing.assert_array_equal(state.filled, self.filled)
        np.testing.assert_array_equal(state.levels["number"], self.numbers)
        np.testing.assert_array_equal(state.scores, self.scores)
        np.testing.assert_array_equal(state.ages, self.ages)
        np.testing.assert_array_equal(state.max_returns, self.max_returns)
        stored = np.asarray(state.levels["map"])[self.filled]
        np.testing.assert_array_equal(stored[:, 1], -self.numbers[self.filled])


def random_batch(rng, state, size, known):
    """A batch with new levels, replayed ones, copies of both, and unfinished ones."""
    filled = np.nonzero(np.asarray(state.filled))[0]
    numbers = rng.integers(100, 130, size)
    indices = np.full(size, -1)
    for b in range(size):
        if len(filled) and rng.random() < known:
            slot = rng.choice(filled)
            numbers[b] = state.levels["number"][slot]
            indices[b] = slot if rng.random() < 0.6 else -1
    scores = np.where(rng.random(size) < 0.15, -np.inf, rng.normal(size=size)).astype(np.float32)
    return numbers, scores, rng.random(size).astype(np.float32), indices


def test_insertion_one_by_one_equals_a_python_loop():
    buffer = make(capacity=12)
    rng = np.random.default_rng(0)
    kept = 0
    for trial in range(60):
        count = [0, 6, 10, 12, 12, 12][trial % 6]
        # Distinct ages keep P free of ties, which float32 and float64 could break differently.
        ages = rng.permutation(30)[:count]
        state = state_of(buffer, rng.normal(size=count), ages, numbers=rng.permutation(40)[:count] + 90)
        oracle = NumpyBuffer(buffer.config, state)
        numbers, scores, max_returns, indices = random_batch(rng, state, 8, 0.5)
        after = state
        for b in range(8):
            one = slice(b, b + 1)
            oracle.insert(numbers[one], scores[one], max_returns[one].copy(), indices[one])
            after = offer(buffer, after, numbers[one], scores[one], indices[one], max_returns[one])
        oracle.check(after)
        kept += int((np.asarray(after.scores) != np.asarray(state.scores)).sum())
    assert kept > 100  # the trials did change buffers


def assert_same_content(a: BufferState, b: BufferState):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def both(state, numbers, scores, indices=None, **config):
    """The batch at once, and level by level, as the reference inserts."""
    buffer, after = make(**config), state
    for b in range(len(numbers)):
        one = slice(b, b + 1)
        after = offer(buffer, after, numbers[one], scores[one], None if indices is None else indices[one])
    return offer(buffer, state, numbers, scores, indices), after


@pytest.mark.slow
def test_at_once_equals_sequential_where_there_is_room_for_all():
    config = {"capacity": 12}
    state = state_of(make(**config), [0.5, 0.1, 0.9, 0.3], [4, 0, 2, 7])
    assert_same_content(*both(state, [20, 21, 22, 27, 23, 24, 25, 26], [3, -1, 9, 4, -np.inf, 0, 5, 1], **config))


@pytest.mark.slow
def test_at_once_equals_sequential_for_updates():
    config = {"capacity": 12}
    state = state_of(make(**config), [0.5, 0.1, 0.9, 0.3], [4, 0, 2, 7])
    numbers, scores, indices = [2, 0, 3, 1], [0.0, 3.0, -5.0, 0.1], [2, 0, -1, 1]
    at_once, sequential = both(state, numbers, scores, indices, **config)
    assert_same_content(at_once, sequential)
    np.testing.assert_allclose(at_once.scores[:4], [3.0, 0.1, 0.0, -5.0])  # overwritten, even by lower ones
    np.testing.assert_array_equal(at_once.ages[:4], [4, 0, 2, 0])  # slot 3 was found, not replayed


@pytest.mark.slow
def test_at_once_equals_sequential_when_all_are_better_than_all():
    config = {"capacity": 12, "staleness_coef": 0.0}
    state = state_of(make(**config), np.random.default_rng(5).random(12))
    assert_same_content(*both(state, [20, 21, 22, 23], [3, 1, 9, 4], **config))


@pytest.mark.slow
def test_at_once_equals_sequential_on_a_descending_batch_by_score_alone():
    """Distinct scores, rho = 0: the batch in descending order ends in the same content, slot by slot."""
    config = {"capacity": 12, "staleness_coef": 0.0}
    rng = np.random.default_rng(1)
    refused = 0
    for trial in range(40):
        count = [8, 12, 12, 12][trial % 4]
        state = state_of(make(**config), rng.normal(size=count))
        numbers, scores = 100 + rng.permutation(30)[:8], np.sort(rng.normal(size=8).astype(np.float32))[::-1]
        at_once, sequential = both(state, numbers, scores, **config)
        assert_same_content(at_once, sequential)
        refused += 8 - int(np.isin(numbers, np.asarray(at_once.levels["number"])).sum())
        # And for at-once insertion the order of the batch makes no difference to what is kept.
        shuffle = rng.permutation(8)
        shuffled = offer(make(**config), state, numbers[shuffle], scores[shuffle])
        assert set(np.asarray(shuffled.levels["number"])) == set(np.asarray(at_once.levels["number"]))
    assert refused > 40


def test_at_once_keeps_exactly_the_best_scores_when_staleness_is_off():
    buffer = make(capacity=12, staleness_coef=0.0)
    rng = np.random.default_rng(2)
    for _ in range(20):
        old, new = rng.normal(size=12).astype(np.float32), rng.normal(size=8).astype(np.float32)
        after = offer(buffer, state_of(buffer, old), np.arange(100, 108), new)
        np.testing.assert_array_equal(np.sort(after.scores), np.sort([*old, *new])[-12:])


def test_a_full_buffer_gives_up_the_slot_with_the_smallest_weight():
    buffer = make(capacity=4, temperature=1.0)
    state = state_of(buffer, [3, 1, 2, 0], [0, 1, 2, 1])  # P = (.336, .187, .318, .159)
    refused = offer(buffer, state, [9], [-0.1])
    assert_same_content(refused, state)
    after = offer(buffer, state, [9], [0.0], max_returns=[0.7], n_mutations=[3])  # equal is enough
    np.testing.assert_array_equal(after.levels["number"], [0, 1, 2, 9])
    np.testing.assert_array_equal(after.ages, [0, 1, 2, 0])
    assert after.n_mutations[3] == 3
    np.testing.assert_allclose(after.max_returns, [0.5, 0.5, 0.5, 0.7])


def test_levels_without_a_usable_score_are_left_aside_and_counted():
    buffer = make(capacity=12)
    state = state_of(buffer, [0.5, 0.1], numbers=[0, 1])
    after = offer(buffer, state, [20, 21, 22, 0, 1], [np.nan, np.inf, -np.inf, np.nan, 0.3], [-1, -1, -1, 0, 1])
    np.testing.assert_array_equal(after.filled, [True, True] + [False] * 10)
    np.testing.assert_allclose(after.scores[:2], [0.5, 0.3])
    assert after.invalid_scores == 3
    assert metrics(buffer, after)["invalid_scores"] == 3
    # The copy of an unfinished level is the level's first usable copy.
    after = offer(buffer, state, [20, 20, 20], [-np.inf, 2.0, 3.0])
    np.testing.assert_allclose(after.scores[:3], [0.5, 0.1, 2.0])
    assert after.filled.sum() == 3


def test_an_index_whose_slot_holds_another_level_counts_as_new():
    buffer = make(capacity=12)
    state = state_of(buffer, [0.5, 0.1])
    after = offer(buffer, state, [9, 8], [2.0, 3.0], [0, 77])
    np.testing.assert_array_equal(after.levels["number"][:4], [0, 1, 9, 8])
    np.testing.assert_allclose(after.scores[:4], [0.5, 0.1, 2.0, 3.0])


def test_the_maximal_return_never_falls():
    buffer = make(capacity=12)
    state = state_of(buffer, [0.5, 0.1])
    after = offer(buffer, state, [0, 1], [1.0, 1.0], [0, -1], max_returns=[0.2, 0.9])
    np.testing.assert_allclose(after.max_returns[:3], [0.5, 0.9, -np.inf])
    # Copies in a batch are one level; the return that any of them reached has been seen.
    after = offer(
        buffer, state, [0, 0, 9, 9, 9], [1, 1, 1, 2, -np.inf], [0, 0, -1, -1, -1], max_returns=[0.1, 0.8, 0.2, 0.6, 0.9]
    )
    np.testing.assert_allclose(after.max_returns[:4], [0.8, 0.5, 0.6, -np.inf])
    np.testing.assert_allclose(after.scores[:4], [1, 0.1, 1, -np.inf])  # the score is that of the first copy


def test_batches_that_do_not_fit_are_refused():
    buffer = make(capacity=4)
    state = init(buffer, EXAMPLE)
    with pytest.raises(UserError, match=r"5 levels.*capacity = 4"):
        sample(buffer, jax.random.key(0), state, 5)
    with pytest.raises(UserError, match=r"5 levels.*capacity = 4"):
        offer(buffer, state, range(5), np.zeros(5))
    with pytest.raises(UserError, match=r"max_returns of shape \(3,\)"):
        offer(buffer, state, range(3), np.zeros(3), max_returns=[0.0, 1.0])
    with pytest.raises(UserError, match=r"levels\['map'\] of shape \(3, 2\)"):
        buffer.insert(
            state, levels_of(range(3)) | {"number": jnp.zeros(2)}, *[jnp.zeros(2)] * 2, *[jnp.zeros(2, int)] * 2
        )


# --- copies ---


def test_no_level_is_kept_twice():
    buffer = make(capacity=12)
    rng = np.random.default_rng(3)
    state = init(buffer, EXAMPLE)
    for _ in range(20):
        state = offer(buffer, state, rng.integers(0, 30, 8), rng.normal(size=8))
        numbers = np.asarray(state.levels["number"])[np.asarray(state.filled)]
        assert len(set(numbers)) == len(numbers)
    assert state.filled.all()


@pytest.mark.slow
def test_levels_with_equal_hashes_are_told_apart():
    buffer = make(clashing_hash, capacity=8)
    state = state_of(buffer, [0.5], numbers=[4])
    after = offer(buffer, state, [5, 10, 11, 10, 4], [1, 2, 3, 4, 5])
    np.testing.assert_array_equal(after.levels["number"][:4], [4, 5, 10, 11])
    np.testing.assert_allclose(after.scores[:4], [5, 1, 2, 3])
    assert after.filled.sum() == 4


def test_an_empty_slot_is_nobodys_copy():
    """Slots are zeros before they are filled; a level of zeros must still be new."""
    buffer = make(capacity=12)
    state = init(buffer, EXAMPLE)
    assert (np.asarray(find(buffer, state, levels_of([0, 1, 2, 3]))) == -1).all()
    after = offer(buffer, state, [0, 0], [1.0, 2.0])
    np.testing.assert_array_equal(after.filled, [True] + [False] * 11)


def test_find_returns_the_slot():
    buffer = make(capacity=12)
    state = state_of(buffer, [0.5, 0.1, 0.2], numbers=[40, 50, 60])
    np.testing.assert_array_equal(find(buffer, state, levels_of([60, 7, 40, 60])), [2, -1, 0, 2])


@pytest.mark.slow
def test_what_was_seen_on_a_fresh_level_is_what_the_buffer_knows_of_it():
    buffer = make(capacity=12)
    state = state_of(buffer, [0.5, 0.1, 0.2], numbers=[40, 50, 60])
    state = state.replace(max_returns=np.where(state.filled, np.arange(12.0), -np.inf).astype(np.float32))
    fresh = levels_of([60, 7, 40, 60])
    np.testing.assert_array_equal(buffer.seen(state, fresh), [2, -np.inf, 0, 2])


# --- logging, seeds ---


def test_metrics():
    buffer = make(capacity=4, temperature=1.0)
    state = state_of(buffer, [3, 1, 2, 0], [0, 1, 2, 1]).replace(n_mutations=jnp.array([0, 1, 0, 4]))
    p = np.array([0.336, 0.187, 0.318, 0.159])
    expected = {
        "fill": 1.0,
        "score_mean": 1.5,
        "score_max": 3.0,
        "age_mean": 1.0,
        "weighted_score": p @ [3, 1, 2, 0],
        "weighted_age": p @ [0, 1, 2, 1],
        "weighted_n_mutations": p @ [0, 1, 0, 4],
        "effective_levels": np.exp(-(p * np.log(p)).sum()),
        "invalid_scores": 0.0,
    }
    logged = metrics(buffer, state)
    assert set(logged) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(logged[name], value, rtol=1e-5, err_msg=name)
    empty = metrics(buffer, init(buffer, EXAMPLE))
    assert all(value == 0 for value in empty.values())


@pytest.mark.slow
def test_seeds_by_vmap_equal_seeds_one_by_one():
    buffer = make(capacity=12)
    rng = np.random.default_rng(4)

    def run(key, fresh, scores):
        """Three cycles that play four levels of the buffer and four new ones each."""

        def cycle(state, now):
            key, fresh, scores = now
            state, indices, old = buffer.sample(key, buffer.age(state, 4), 4)
            levels = jax.tree.map(lambda *x: jnp.concatenate(x), old, fresh)
            indices = jnp.concatenate([indices, jnp.full(4, -1)])
            return buffer.insert(state, levels, scores, scores, indices, indices), None

        return jax.lax.scan(cycle, buffer.init(EXAMPLE), (jax.random.split(key, 3), fresh, scores))[0]

    keys = jax.random.split(jax.random.key(0), 3)
    fresh = levels_of(rng.integers(0, 9, (3, 3, 4)))
    scores = rng.normal(size=(3, 3, 8)).astype(np.float32)
    together = jax.jit(jax.vmap(run))(keys, fresh, scores)
    alone = jax.jit(run)
    for seed in range(3):
        expected = alone(keys[seed], *jax.tree.map(lambda x, s=seed: x[s], (fresh, scores)))
        jax.tree.map(lambda a, b, s=seed: np.testing.assert_array_equal(a[s], b), together, expected)
