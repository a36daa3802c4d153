"""Without the steps that time out, as D4RL's loader has it."""

from __future__ import annotations

import numpy as np
import pytest

from otr import OTRConfig, Parity, SinkhornConfig, label, preset, transport
from otr.labels.time_outs import kept_rows, without_time_outs

CONFIG = OTRConfig(solver=SinkhornConfig(backend="reference", mode=Parity(iterations=20)))


@pytest.fixture
def timed(small):
    """Seven episodes; those of 1, 25 and 40 steps, and the last, time out, the others terminate."""
    last = small.episode_ends - 1
    truncated, terminated = np.zeros(small.num_steps, bool), np.zeros(small.num_steps, bool)
    out = np.array([False, True, True, True, False, True, True])
    truncated[last[out]], terminated[last[~out]] = True, True
    return small.replace(truncated=truncated, terminated=terminated)


def test_the_rows_are_those_of_d4rls_loader(timed):
    whole = timed.select(slice(2, None))  # without the episode of one step, which would be left out whole
    np.testing.assert_array_equal(kept_rows(whole), whole.transitions("d4rl").rows)
    assert without_time_outs(timed).lengths.tolist() == [12, 1, 24, 39, 2, 24, 6]


def test_what_follows_a_step_stays(timed):
    short = without_time_outs(timed)
    for e in (0, 2, 3):
        wanted = timed.episode(e).next_observations[: short.lengths[e]]
        np.testing.assert_array_equal(short.episode(e).next_observations, wanted)
    np.testing.assert_array_equal(without_time_outs(short).observations, short.observations)  # twice is as once


def test_labels_are_of_shorter_episodes_and_scaled_by_their_returns(timed):
    demos = timed.select([3])
    result = label(timed, demos, CONFIG, drop_time_outs=True)
    short = without_time_outs(timed)
    episodes, demo = [e.observations for e in short], demos.observations[:-1]
    costs = transport(episodes, [demo], solver=CONFIG.solver).expected_costs[0]
    rewards = 5 * np.exp(-costs.astype(np.float64))  # beta 5 over five dimensions
    kept = kept_rows(timed)
    np.testing.assert_allclose(result.labels.rewards[kept], rewards, rtol=2e-6)
    returns = np.add.reduceat(rewards, short.episode_starts)
    assert result.scale.factor == pytest.approx(1000 / (returns.max() - returns.min()), rel=1e-5)
    left_out = np.setdiff1d(np.arange(timed.num_steps), kept)
    assert len(left_out) == 4
    np.testing.assert_array_equal(result.labels.rewards[left_out], result.labels.rewards[left_out - 1])
    assert result.dataset.num_steps == timed.num_steps
    assert result.dataset.attributes["otr"]["drop_time_outs"] is True
    assert result.dataset.attributes["otr"]["demonstration_lengths"] == [39]
    assert abs(result.labels.rewards - label(timed, demos, CONFIG).labels.rewards).max() > 1e-4


def test_labellers_that_compare_next_observations(timed):
    demos = timed.select([3])
    short = label(timed, demos, preset("seabo"), drop_time_outs=True).labels.rewards
    whole = label(timed, demos, preset("seabo")).labels.rewards
    own = kept_rows(timed)[timed.episode_of_row[kept_rows(timed)] == 3]
    np.testing.assert_array_equal(short[own], 1.0)  # nearest to themselves
    assert (short <= whole)[kept_rows(timed)].all()  # one step fewer to be near to


def test_without_time_outs_nothing_changes(small):
    small = small.select(slice(1, None))
    np.testing.assert_array_equal(
        label(small, small.select([2]), CONFIG, drop_time_outs=True).dataset.rewards,
        label(small, small.select([2]), CONFIG).dataset.rewards,
    )
