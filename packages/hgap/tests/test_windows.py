"""Windows, scales, and bad data."""

import numpy as np
import pytest

from hgap.data.windows import gather, load_windows, window_starts
from paperloop import UserError
from paperloop_data import EpisodeDataset

ASKED = {"steps": 3, "clip": 10.0, "constant": 1e-5, "held_out": 0.0}


def dataset(lengths, states=None):
    n = sum(lengths)
    ends = np.zeros(n, bool)
    ends[np.cumsum(lengths) - 1] = True
    states = np.arange(2.0 * n).reshape(n, 2) if states is None else states
    return EpisodeDataset(
        observations=states, actions=np.linspace(-1, 1, n)[:, None], rewards=np.zeros(n),
        terminated=np.zeros(n, bool), truncated=ends,
    )  # fmt: skip


def test_windows_lie_within_episodes():
    starts = window_starts(np.array([0, 4, 6]), np.array([4, 2, 3]), 3)
    np.testing.assert_array_equal(starts, [0, 1, 6])


def test_gathered_windows_are_slices():
    data = load_windows(dataset([5, 2, 6]), **ASKED)
    windows = gather(data.states, data.train, 3)
    for window, start in zip(windows, data.train, strict=True):
        np.testing.assert_array_equal(window, data.states[start : start + 3])


def test_scales_are_those_of_numpy_and_invert():
    raw = dataset([20, 20])
    data = load_windows(raw, **ASKED)
    expected = (raw.observations - raw.observations.mean(0)) / raw.observations.std(0)
    np.testing.assert_allclose(data.states, expected, atol=1e-5)
    np.testing.assert_allclose(data.state_scale.restore(data.states), raw.observations, atol=1e-4)


def test_constant_dimensions_are_masked_and_outliers_clipped():
    states = np.random.default_rng(0).standard_normal((400, 2))
    states[:, 0] = 7.0
    states[0, 1] = 1e4
    data = load_windows(dataset([400], states), **ASKED)
    assert float(abs(data.states).max()) == 10.0
    assert not data.states[:, 0].any()
    unseen = data.state_scale.normalise(np.array([8.0, 0.0], np.float32))
    assert unseen[0] == 0.0
    assert data.state_scale.restore(np.array([3.0, 0.0], np.float32))[0] == 7.0


def test_held_out_episodes_are_not_learned_from_nor_measured():
    raw = dataset([10] * 10)
    data = load_windows(raw, **ASKED | {"held_out": 0.2})
    assert int(data.train.max()) < 80 <= int(data.held_out.min())
    np.testing.assert_allclose(data.state_scale.mean, raw.observations[:80].mean(0), rtol=1e-6)
    tenth = load_windows(raw, **ASKED | {"held_out": 0.2}, fraction=0.1)
    assert int(tenth.train.max()) < 10


def test_data_without_a_window_are_refused():
    with pytest.raises(UserError, match="none has 3 steps, the longest has 2"):
        load_windows(dataset([2, 2, 1]), **ASKED)
