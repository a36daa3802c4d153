"""On real demonstrations: expert MuJoCo episodes (CS285, MIT licence) and human door openings (hand_dapg, Apache)."""

from __future__ import annotations

import numpy as np
import pytest

from otr import FeatureConfig, OTRConfig, Parity, SinkhornConfig, label, preset
from otr.diagnosis.diagnose import diagnose
from paperloop_data import EpisodeDataset


def expected(result):
    """Expected costs, from rewards 5 exp(-(5/D) cost)."""
    return -np.log(result.labels.rewards.astype(np.float64) / 5) * result.dataset.observations.shape[1] / 5


@pytest.mark.parametrize(("name", "width"), [("hopper", 11), ("walker2d", 17)])
def test_one_expert_episode_labels_the_other(demonstrations, name, width):
    pytest.importorskip("numba", reason="extra numba")
    data = EpisodeDataset.load(demonstrations / f"{name}-v4-expert.npz")
    assert data.observations.shape == (2000, width)
    result = label(data, data.select([0]), OTRConfig(solver=SinkhornConfig(backend="numba")))
    ebar = expected(result)
    own, other = ebar[:1000].mean(), ebar[1000:].mean()
    assert own < other < 0.1  # the other expert episode is close, itself closer
    wanted = label(data.select([1]), data.select([0]), OTRConfig(solver=SinkhornConfig(backend="jax")))
    assert abs(ebar[1000:] - expected(wanted)).max() < 5e-6
    rng = np.random.default_rng(0)
    noise = data.replace(observations=(data.observations + rng.normal(size=data.observations.shape)).astype(np.float32))
    far = label(noise, data.select([0]), OTRConfig(solver=SinkhornConfig(backend="numba")))
    assert expected(far).mean() > 1.5 * other


def test_one_door_opening_labels_all(demonstrations):
    pytest.importorskip("numba", reason="extra numba")
    data = EpisodeDataset.load(demonstrations / "adroit-door-human.npz")
    assert data.num_episodes == 25
    config = preset("otr", "adroit")
    result = label(data, data.select([0]), config)
    rewards = result.labels.rewards
    assert rewards.min() > 3.8  # 5 exp(-(5/39) 2), the end of the reachable range
    returns = np.add.reduceat(rewards, data.episode_starts) / data.lengths
    assert returns.argmax() == 0  # the demonstration itself
    exact = label(
        data, data.select([0]), OTRConfig(solver=SinkhornConfig(backend="reference", mode=Parity(iterations=100)))
    )
    some = slice(0, 300)
    assert abs(exact.labels.rewards[some] - rewards[some]).max() < 1e-4
    assert diagnose(result.dataset).episodes == 25


def test_seabo_on_the_door(demonstrations):
    data = EpisodeDataset.load(demonstrations / "adroit-door-human.npz")
    config = preset("seabo", "adroit")
    config = type(config)(
        features=FeatureConfig(inputs="state_next", missing_next="repeat"), squash=config.squash, scale=config.scale
    )
    rewards = label(data, data.select([0]), config).labels.rewards
    np.testing.assert_allclose(rewards[:300], 1.0)
    assert (rewards[300:] < 1.0).all()
