from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from otr import (
    ConstantConfig,
    EuclideanCost,
    FeatureConfig,
    FixedScale,
    Labels,
    LinearSquash,
    MinimumDistanceConfig,
    NearestNeighbourConfig,
    ORILConfig,
    OTRConfig,
    PWILConfig,
    SegmentMatchingConfig,
    SinkhornConfig,
    UDSConfig,
    add_labeller,
    fit_labeller,
    label,
    preset,
)  # fmt: skip
from otr.labellers.matching import segments
from otr.labellers.pwil import greedy_costs
from otr.labellers.registry import LABELLERS
from paperloop.errors import UserError
from paperloop_data import EpisodeDataset


def raw(config, data, demos):
    return fit_labeller(config, demos, data).label(data)


def following(data):
    rows = np.concatenate([data.observations[1:], data.observations[-1:]])
    rows[data.episode_ends - 1] = data.final_observations
    return rows


@pytest.mark.parametrize("name", ["seabo", "seabo-state"])
def test_seabo_against_a_loop(small, name):
    demos = small.select([3, 0])
    got = raw(preset(name), small, demos)

    def vectors(data):
        parts = [data.observations, data.actions, following(data)]
        return np.concatenate(parts if name == "seabo" else [parts[0], parts[2]], axis=1)

    targets = vectors(demos)
    for row, vector in enumerate(vectors(small)):
        distance = min(math.dist(vector, target) for target in targets)
        assert got.rewards[row] == pytest.approx(math.exp(-0.5 * distance / 3), rel=2e-5)  # three action dimensions
    np.testing.assert_array_equal(got.episodes["demonstration"][[3, 0]], [0, 1])


def test_several_neighbours(small):
    config = NearestNeighbourConfig(features=FeatureConfig(), squash=LinearSquash(), neighbours=3)
    got = raw(config, small, small.select([3]))
    wanted = np.sort(cdist(small.observations, small.select([3]).observations), axis=1)[:, :3].mean(axis=1)
    np.testing.assert_allclose(got.rewards, -wanted, atol=1e-5)
    with pytest.raises(UserError, match="neighbours is 3, and the demonstrations have 1 steps"):
        raw(config, small, small.select([1]))


def test_minimum_distance(small):
    config = MinimumDistanceConfig(squash=LinearSquash())
    demos = small.select([3, 2])
    got = raw(config, small, demos)
    costs = [cdist(small.observations, d.observations, "cosine").min(axis=1) for d in demos]
    sums = np.array([np.add.reduceat(-c, small.episode_starts) for c in costs])
    chosen = sums.argmax(axis=0)
    np.testing.assert_array_equal(got.episodes["demonstration"][[0, 2, 3, 5]], chosen[[0, 2, 3, 5]])
    wanted = np.stack(costs)[chosen[small.episode_of_row], np.arange(small.num_steps)]
    np.testing.assert_allclose(got.rewards, -wanted, atol=2e-6)


@pytest.mark.parametrize(("T", "M"), [(3, 7), (7, 3), (5, 5), (1, 4), (4, 1)])
def test_segments(T, M):
    first, last = segments(T, M)
    for t in range(T):
        inside = [j for j in range(M) if t * M <= j * T + T - 1 and j * T < (t + 1) * M]
        assert set(range(first[t], last[t] + 1)) <= set(inside)
        assert last[t] >= first[t]
    if T <= M:  # a partition
        np.testing.assert_array_equal(first[1:], last[:-1] + 1)
        assert (first[0], last[-1]) == (0, M - 1)
    wide = segments(T, M, 100)
    np.testing.assert_array_equal(wide, (np.zeros(T), np.full(T, M - 1)))


def test_segment_matching(small):
    costs = EuclideanCost()
    demos = small.select([3])
    tight = raw(SegmentMatchingConfig(cost=costs, squash=LinearSquash()), small, demos)
    wide = raw(SegmentMatchingConfig(cost=costs, squash=LinearSquash(), half_width=99), small, demos)
    nearest = raw(MinimumDistanceConfig(cost=costs, squash=LinearSquash()), small, demos)
    np.testing.assert_array_equal(wide.rewards, nearest.rewards)
    assert (tight.rewards <= wide.rewards).all()
    own = slice(int(small.episode_starts[3]), int(small.episode_ends[3]))
    np.testing.assert_array_equal(tight.rewards[own], 0.0)  # equal lengths: step against step
    C = cdist(small.episode(2).observations, demos.observations)  # 25 steps against 40
    rows = slice(int(small.episode_starts[2]), int(small.episode_ends[2]))
    wanted = [C[t, t * 40 // 25 : (t + 1) * 40 // 25].min() for t in range(25)]
    np.testing.assert_allclose(-tight.rewards[rows], wanted, atol=1e-5)


def pwil_loop(C, horizon):
    """Algorithm 1 of PWIL with fractions as floats, by sorting."""
    T, M = C.shape
    weights = [1.0 / M] * M
    out = []
    for t in range(T):
        need, cost = 1.0 / horizon, 0.0
        for j in sorted(range(M), key=lambda j: (C[t, j], j)):
            if need <= 1e-12:
                break
            taken = min(need, weights[j])
            cost += taken * C[t, j]
            need -= taken
            weights[j] -= taken
        out.append(cost)
    return np.array(out)


@pytest.mark.parametrize(("T", "M", "horizon"), [(6, 4, 6), (4, 9, 10), (9, 9, 9), (1, 3, 1), (5, 1, 7)])
def test_pwil_against_a_loop(rng, T, M, horizon):
    C = rng.uniform(size=(T, M))
    got = greedy_costs(C, horizon)
    np.testing.assert_allclose(got, pwil_loop(C, horizon), atol=1e-9)
    if horizon == T:  # all mass is used, and no coupling is cheaper than the best
        from otr.optimal_transport.solvers.exact import exact_plan

        assert got.sum() >= (exact_plan(C) * C).sum() - 1e-9


def test_pwil_rewards(small):
    demos = small.select([3, 2])
    got = raw(PWILConfig(horizon=40), small, demos)
    vectors = [np.concatenate([d.observations, d.actions], axis=1).astype(np.float64) for d in (small, demos)]
    mean, std = vectors[1].mean(axis=0), vectors[1].std(axis=0)
    C = cdist((vectors[0] - mean) / std, (vectors[1] - mean) / std)
    for e in range(small.num_episodes):
        rows = slice(int(small.episode_starts[e]), int(small.episode_ends[e]))
        wanted = 5 * np.exp(-5 * 40 / math.sqrt(8) * pwil_loop(C[rows], 40))
        np.testing.assert_allclose(got.rewards[rows], wanted, rtol=2e-3, atol=1e-5)
    short = raw(PWILConfig(horizon=2), small, demos)  # episodes above the horizon are their own
    assert np.isfinite(short.rewards).all()


@pytest.mark.parametrize("share", [None, 0.3])
def test_oril_tells_demonstrations_apart(rng, dataset, share):
    good, bad = rng.normal(size=(60, 4)) + 2, rng.normal(size=(120, 4)) - 2
    data = dataset([good[:30], bad[:60], bad[60:]])
    demos = dataset([good[30:]])
    config = ORILConfig(hidden=(16,), steps=300, batch=32, learning_rate=1e-2, positive_unlabelled=share)
    got = raw(config, data, demos)
    assert ((got.rewards >= 0) & (got.rewards <= 1)).all()
    assert got.rewards[:30].mean() > got.rewards[30:].mean() + 0.3
    np.testing.assert_array_equal(got.rewards, raw(config, data, demos).rewards)
    other = raw(dataclasses.replace(config, seed=1), data, demos)
    assert (got.rewards != other.rewards).any()


def test_oril_loss_in_numbers():
    from otr.labellers.oril import discriminator_loss

    expert, unlabelled = np.array([2.0, -1.0], np.float32), np.array([0.5], np.float32)
    d = 1 / (1 + np.exp(-expert))
    yes, no, other = -np.log(d).mean(), -np.log(1 - d).mean(), -np.log(1 - 1 / (1 + np.exp(-0.5)))
    assert float(discriminator_loss(expert, unlabelled, None)) == pytest.approx(yes + other, rel=1e-5)
    assert float(discriminator_loss(expert, unlabelled, 0.5)) == pytest.approx(0.5 * yes + other - 0.5 * no, rel=1e-5)


def test_uds(small):
    demos = small.select([3])
    got = raw(UDSConfig(), small, demos)
    rows = small.episode_of_row == 3
    np.testing.assert_array_equal(got.rewards[rows], small.rewards[rows])
    assert (got.rewards[~rows] == 0).all()
    lowest = raw(UDSConfig(fill="min"), small, demos)
    assert (lowest.rewards[~rows] == demos.rewards.min()).all()
    with pytest.raises(UserError, match="no demonstration is among its episodes"):
        raw(UDSConfig(), small.select([0, 1]), demos)
    joined = EpisodeDataset.concatenate([small.select([0, 1]), demos])
    assert raw(UDSConfig(), joined, demos).episodes["is_demonstration"].tolist() == [False, False, True]


@pytest.mark.parametrize("fill", ["zero", "min"])
def test_uds_of_labelled_data_keeps_the_true_rewards(small, fill):
    labelled = label(small, small.select([3]), ConstantConfig()).dataset
    got = raw(UDSConfig(fill=fill), labelled, labelled.select([3]))
    np.testing.assert_array_equal(got.rewards, raw(UDSConfig(fill=fill), small, small.select([3])).rewards)


def test_constant(small):
    result = label(small, small.select([0]), ConstantConfig())
    assert (result.labels.rewards == 1).all()
    # The control: scaled as all others, an episode is worth its length.
    np.testing.assert_allclose(result.dataset.returns(), small.lengths * 1000 / 39, rtol=1e-5)


FIXED = FixedScale()


def test_own_labeller(small):
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class First:
        scale: FixedScale = FIXED

    class Mine:
        def __init__(self, config, demos, data):
            self.config = config

        def label(self, data):
            return Labels(data.observations[:, 0])

    add_labeller("first", First, Mine)
    try:
        np.testing.assert_array_equal(label(small, small, "first").dataset.rewards, small.observations[:, 0])
        with pytest.raises(UserError, match="a labeller named 'otr' already"):
            add_labeller("otr", First, Mine)
        with pytest.raises(UserError, match="of the labeller 'second' is a dataclass with a field scale"):
            add_labeller("second", Mine, Mine)
    finally:
        del LABELLERS["first"]
    with pytest.raises(UserError, match="no labeller 'seebo'; did you mean \"seabo\""):
        label(small, small, "seebo")
    with pytest.raises(UserError, match="No labeller takes a int"):
        fit_labeller(3, small, small)


@pytest.mark.parametrize("aggregate", ["best", "mean"])
def test_otr_is_transport_squashed(small, aggregate):
    from otr import transport

    demos = small.select([3, 2])
    config = OTRConfig(solver=SinkhornConfig(backend="reference"), aggregate=aggregate)
    got = raw(config, small, demos)
    episodes = [e.observations for e in small]
    ebar = transport(episodes, [d.observations for d in demos], solver=config.solver).expected_costs
    rewards = 5 * np.exp(-ebar.astype(np.float64))  # beta 5 over five dimensions
    sums = np.add.reduceat(rewards, small.episode_starts, axis=1)
    best = rewards[sums.argmax(axis=0)[small.episode_of_row], np.arange(small.num_steps)]
    np.testing.assert_allclose(got.rewards, best if aggregate == "best" else rewards.mean(axis=0), rtol=2e-6)
    np.testing.assert_array_equal(got.episodes["demonstration"], sums.argmax(axis=0))
