"""Packed rows: every number against a loop over the episodes."""

import numpy as np
import pytest

from paperloop.errors import UserError
from paperloop_data import EpisodeDataset
from policy_finetune.config import DataOptions, OfflineAgent, OfflineConfig, TD3Config
from policy_finetune.replay.packing import Layout, OfflineData, discounted_to_go


def test_rows_against_a_loop_best_episodes_first(make_dataset):
    data = make_dataset(3, episodes=7, length=5, act=2)
    packed = OfflineData.pack([data], discount=0.9, reward_scale=2.0, reward_bias=-0.5)
    mean, std = data.observations.mean(0), data.observations.std(0) + 1e-3
    np.testing.assert_allclose(packed.mean[0], mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(packed.std[0], std, rtol=1e-5)
    order = sorted(range(7), key=lambda e: -data.episode(e).rewards.sum())
    expected = []
    for e in order:
        episode = data.episode(e)
        rewards = episode.rewards * 2.0 - 0.5
        for t in range(5):
            following = episode.observations[t + 1] if t < 4 else episode.final_observation
            to_go = sum(0.9**k * r for k, r in enumerate(rewards[t:]))
            expected.append(
                [*(episode.observations[t] - mean) / std, *episode.actions[t], *(following - mean) / std, rewards[t],
                 0.0 if episode.terminated[t] else 1.0, to_go]
            )  # fmt: skip
    np.testing.assert_allclose(packed.rows, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(packed.returns[0], sorted(data.returns(), reverse=True))
    batch = packed.layout.split(np.asarray(packed.rows))
    assert batch.obs.shape == batch.next_obs.shape == (35, 3)
    assert batch.action.shape == (35, 2)
    np.testing.assert_array_equal(batch.mask, np.asarray(packed.rows)[:, -2])
    assert packed.layout == Layout(3, 2)


def test_a_time_limit_is_no_end():
    ends = np.array([0, 0, 1, 0, 0, 1], bool)
    data = EpisodeDataset(
        observations=np.arange(6.0)[:, None], actions=np.zeros((6, 1)), rewards=np.ones(6),
        terminated=ends & (np.arange(6) < 3), truncated=ends & (np.arange(6) >= 3),
        next_observations=np.arange(6.0)[:, None] + 0.5,
    )  # fmt: skip
    packed = OfflineData.pack([data], normalize_observations=False)
    batch = packed.layout.split(np.asarray(packed.rows))
    np.testing.assert_array_equal(batch.mask, [1, 1, 0, 1, 1, 1])
    np.testing.assert_array_equal(batch.next_obs[:, 0], np.arange(6) + 0.5)  # what is stored, not the next row


def test_returns_to_go_of_episodes_of_any_lengths():
    rng = np.random.default_rng(0)
    rewards, starts = rng.normal(size=30), np.array([0, 1, 8, 9, 25])
    expected = np.zeros(30)
    for begin, end in zip(starts, [*starts[1:], 30], strict=True):
        running = 0.0
        for t in reversed(range(begin, end)):
            running = expected[t] = rewards[t] + 0.97 * running
    np.testing.assert_allclose(discounted_to_go(rewards, starts, 0.97), expected, rtol=1e-12)


def test_the_best_fraction_is_a_prefix(make_dataset):
    lengths = [4, 1, 3, 2]  # episodes with returns 4, 10, 3, 2
    starts = np.cumsum([0, *lengths[:-1]])
    rewards = np.ones(10)
    rewards[4] = 10.0
    data = make_dataset(
        0, episodes=1, length=10, rewards=rewards, episode_starts=starts, terminated=np.zeros(10),
        truncated=np.zeros(10), final_observations=np.zeros((4, 3)),
    )  # fmt: skip
    packed = OfflineData.pack([make_dataset(1), data])
    assert [packed.rows_of_top(1, f) for f in (0.01, 0.25, 0.26, 0.5, 0.75, 1.0)] == [1, 1, 5, 5, 8, 10]
    np.testing.assert_array_equal(packed.offset, [0, 60])
    np.testing.assert_array_equal(packed.size, [60, 10])
    first = np.asarray(packed.rows)[packed.offset[1]]
    assert first[-3] == 10.0


def test_each_dataset_has_its_own_normaliser_or_a_frozen_one(make_dataset):
    shifted = make_dataset(1)
    shifted = shifted.replace(observations=shifted.observations * 3 + 5)
    packed = OfflineData.pack([make_dataset(0), shifted])
    for d in range(2):
        rows = np.asarray(packed.rows)[packed.offset[d] : packed.offset[d] + packed.size[d], :3]
        np.testing.assert_allclose(rows.mean(0), 0, atol=1e-5)
        np.testing.assert_allclose(rows.std(0), 1, atol=5e-3)
    mean, std = np.full((1, 3), 2.0, np.float32), np.full((1, 3), 4.0, np.float32)
    frozen = OfflineData.pack([shifted], mean=mean, std=std)
    obs = shifted.select(np.argsort(-shifted.returns(), kind="stable")).observations
    np.testing.assert_allclose(np.asarray(frozen.rows)[:, :3], (obs - 2) / 4, rtol=1e-5, atol=1e-6)
    constant = make_dataset(2)
    constant = constant.replace(observations=np.zeros_like(constant.observations))
    assert np.isfinite(OfflineData.pack([constant]).rows).all()


def test_rewards_scaled_by_the_range_of_returns(make_dataset):
    data = make_dataset(0)
    gains = data.returns()
    packed = OfflineData.of([data], OfflineConfig(normalize_rewards=True, reward_bias=-1.0))
    assert packed.scale[0] == pytest.approx(1000 / (gains.max() - gains.min()))
    rewards = np.asarray(packed.rows)[:, -3]
    assert rewards.sum() == pytest.approx(data.rewards.sum() * packed.scale[0] - 60, rel=1e-4)
    flat = data.replace(rewards=np.ones(60))
    with pytest.raises(UserError, match=r"all episodes have the return 10, .*normalize_rewards=False"):
        OfflineData.pack([flat], normalize_rewards=True)


def test_d4rls_semantics_without_next_observations(make_dataset):
    data = make_dataset(3, episodes=7, length=5, act=2).replace(final_observations=None)
    assert 0 < data.terminated.sum() < 7
    packed = OfflineData.of(
        [data], OfflineConfig(loading=DataOptions(semantics="d4rl"), normalize_observations=False, reward_bias=-0.5)
    )
    expected, ends = [], [0]
    for e in sorted(range(7), key=lambda e: -data.episode(e).rewards.sum()):
        episode, start = data.episode(e), data.episode_starts[e]
        rewards = episode.rewards - 0.5
        for t in range(5):
            row = start + t
            if row == 34 or (t == 4 and not episode.terminated[t]):  # the file's last row; a time-out
                continue
            to_go = sum(0.99**k * r for k, r in enumerate(rewards[t:]))  # with the reward of a step that is left out
            expected.append(
                [*episode.observations[t], *episode.actions[t], *data.observations[row + 1], rewards[t],
                 0.0 if episode.terminated[t] else 1.0, to_go]
            )  # fmt: skip
        ends.append(len(expected))
    np.testing.assert_allclose(packed.rows, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(packed.row_after[0], ends)
    assert packed.rows_of_top(0, 0.01) == ends[1]
    assert packed.size.tolist() == [ends[-1]]
    with pytest.raises(UserError, match=r"no next observations are stored: .*semantics=.d4rl."):
        OfflineData.pack([data])
    single = make_dataset(0, length=1, terminal=0.0, final_observations=None)
    with pytest.raises(UserError, match="no transition is left under the semantics 'd4rl'"):
        OfflineData.pack([single], semantics="d4rl")


def test_returns_to_go_have_the_discount_of_the_agents(make_dataset):
    learner = TD3Config(discount=0.5)
    data = make_dataset(0, episodes=2, length=2)
    packed = OfflineData.of([data], OfflineConfig(agents=(OfflineAgent(learner=learner),)))
    best = data.episode(int(np.argmax(data.returns()))).rewards
    assert packed.discount == 0.5
    np.testing.assert_allclose(packed.rows[0, -1], best[0] + 0.5 * best[1], rtol=1e-5)


def test_what_does_not_fit_is_refused(make_dataset):
    data = make_dataset(0)
    with pytest.raises(UserError, match=r"an action is 2, outside \[-1, 1\]: load the dataset for its environment"):
        OfflineData.pack([data.replace(actions=np.full((60, 1), 2.0))])
    with pytest.raises(UserError, match="observations of 4 and actions of 1 numbers, the first dataset 3 and 1"):
        OfflineData.pack([data, make_dataset(0, obs=4)])
    with pytest.raises(UserError, match="There is no dataset to pack"):
        OfflineData.pack([])
    with pytest.raises(UserError):
        OfflineData.pack([data.replace(final_observations=None)])
