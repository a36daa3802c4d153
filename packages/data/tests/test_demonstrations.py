"""Real demonstrations that nobody here recorded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from paperloop_data import EpisodeDataset, normalised_score


def demonstrations() -> Path | None:
    """`shared/data/demonstrations` next to the repository, looked for above this file and above the working folder."""
    for start in (Path(__file__).resolve(), Path.cwd() / "here"):
        for folder in start.parents:
            if (folder / "shared" / "data" / "demonstrations").is_dir():
                return folder / "shared" / "data" / "demonstrations"
    return None


@pytest.fixture
def folder() -> Path:
    found = demonstrations()
    if found is None:
        pytest.skip("shared/data/demonstrations is not next to the repository")
    return found


@pytest.mark.parametrize(
    ("name", "returns", "shape", "score"),
    [
        ("hopper-v4-expert", [3717, 3718], (2000, 11), 114.8),
        ("walker2d-v4-expert", [5329, 5437], (2000, 17), 117.2),
    ],
)
def test_locomotion_experts(folder, tmp_path, name, returns, shape, score):
    data = EpisodeDataset.load(folder / f"{name}.npz")
    assert data.observations.shape == shape
    assert data.lengths.tolist() == [1000, 1000]
    np.testing.assert_allclose(data.returns(), returns, atol=1)
    assert normalised_score(data.returns().mean(), name) == pytest.approx(score, abs=0.1)
    assert any("with_time_limit(1000)" in said for said in data.findings())
    assert any("action values lie outside" in said for said in data.findings(action_low=-1, action_high=1))

    limited = data.with_time_limit(1000)
    assert limited.cut.tolist() == [False, False]
    assert limited.transitions("d4rl").rows.size == 2 * 999
    assert limited.transitions("exact").rows.size == 2 * 1000
    with np.load(folder / f"{name}.npz") as archive:
        np.testing.assert_array_equal(data.episode(1).next_observations, archive["episode_1/next_observation"])

    here = limited
    for target in ("a.hdf5", "a-v0", "a.npz"):
        here = EpisodeDataset.load(here.save(tmp_path / target))
        assert here.equals(limited)


def test_human_door_demonstrations(folder, tmp_path):
    data = EpisodeDataset.load(folder / "adroit-door-human.npz")
    assert (data.num_episodes, data.observations.shape[1:], data.actions.shape[1:]) == (25, (39,), (28,))
    assert (data.lengths.min(), data.lengths.max(), data.num_steps) == (223, 300, 6729)
    assert data.cut.all()
    assert data.transitions("d4rl").rows.size == 6729 - 25
    best = data.top(3)
    assert best.returns().tolist() == sorted(data.returns().tolist(), reverse=True)[:3]
    again = EpisodeDataset.load(data.save(tmp_path / "a.hdf5"))
    assert again.lengths.tolist() == data.lengths.tolist()
    assert again.transitions("d4rl").rows.tolist() == data.transitions("d4rl").rows.tolist()
