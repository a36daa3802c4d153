from __future__ import annotations

import numpy as np
import pytest

from otr import label
from otr.episodes.demonstrations import best_episodes, episode_scores, load_demonstrations
from paperloop.errors import UserError


def test_best_by_return(small):
    order = np.argsort(-small.returns(), kind="stable")
    got = load_demonstrations("top:2", small)
    np.testing.assert_array_equal(got.observations, small.select(order[:2]).observations)


def test_antmaze_fragments_are_passed_over(rng, dataset):
    # A run from the origin with return 5, and one-step pieces at the goal, (8, 8), with a reward of 1 each.
    run = np.cumsum(np.full((12, 4), 0.1), axis=0) - 0.1 + 1e-3
    pieces = [np.full((1, 4), 8.0) + 0.01 * rng.normal(size=(1, 4)) for _ in range(5)]
    rewards = np.concatenate([np.r_[np.zeros(11), 1.0], np.ones(5)])
    data = dataset([run, *pieces], rewards=rewards)
    assert best_episodes(data, 1).lengths[0] == 12  # all returns are equal here; the earlier wins
    swapped = data.select([1, 2, 0, 3])
    assert best_episodes(swapped, 1).lengths[0] == 1
    assert best_episodes(swapped, 1, "antmaze").lengths[0] == 12
    np.testing.assert_allclose(episode_scores(swapped, "antmaze")[2], 1 / (1e-4 + np.sqrt(2) * 1e-3), rtol=1e-3)


def test_file(small, tmp_path):
    small.select([3, 0]).save(tmp_path / "demos.npz")
    assert load_demonstrations(tmp_path / "demos.npz", small).lengths.tolist() == [40, 12]


def test_what_was_labelled_is_chosen_by_its_true_rewards(small, tmp_path):
    true = small.replace(rewards=-small.rewards)  # of which the best are others than those that are long
    labelled = label(true, small.select([3]), "constant").dataset
    assert int(np.argmax(labelled.returns())) != int(np.argmax(true.returns()))
    for score in ("return", "antmaze"):
        np.testing.assert_array_equal(episode_scores(labelled, score), episode_scores(true, score))
        got, wanted = load_demonstrations("top:2", labelled, score=score), best_episodes(true, 2, score)
        np.testing.assert_array_equal(got.observations, wanted.observations)
        np.testing.assert_array_equal(got.rewards, wanted.rewards)
    labelled.save(tmp_path / "demos.npz")
    np.testing.assert_array_equal(load_demonstrations(tmp_path / "demos.npz", small).rewards, true.rewards)
    bare = label(small.replace(rewards=np.zeros(small.num_steps)), small.select([3]), "constant").dataset
    with pytest.raises(UserError, match="every reward is 0"):  # it never had rewards to choose by
        best_episodes(bare, 1)


def test_file_without_rewards(small, tmp_path):
    np.savez(
        tmp_path / "demos.npz",
        **{"episode_0/observations": small.observations[:5], "episode_0/actions": small.actions[:5]},
    )
    assert load_demonstrations(tmp_path / "demos.npz", small).num_steps == 5


def test_messages(small, tmp_path, rng, dataset, walk):
    with pytest.raises(UserError, match="top:8 of 7 episodes; take 1 to 7"):
        load_demonstrations("top:8", small)
    with pytest.raises(UserError, match="top:0 of 7"):
        load_demonstrations("top:0", small)
    with pytest.raises(UserError, match=r"a file or top:K with a whole number K, such as top:1; got 'top:1.5'"):
        load_demonstrations("top:1.5", small)
    with pytest.raises(UserError, match="every reward is 0: give a file"):
        load_demonstrations("top:1", small.replace(rewards=np.zeros(small.num_steps)))
    with pytest.raises(UserError, match="'return' or 'antmaze'; got 'best'"):
        episode_scores(small, "best")
    dataset([walk(rng, 5, 4)]).save(tmp_path / "other.npz")
    with pytest.raises(UserError, match=r"other.npz: the demonstrations have observations of shape \(4,\)"):
        load_demonstrations(tmp_path / "other.npz", small)
    with pytest.raises(UserError, match="nowhere"):
        load_demonstrations(tmp_path / "nowhere.npz", small)
