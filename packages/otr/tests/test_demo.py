from __future__ import annotations

import json
import math

import numpy as np
import pytest

from otr.commands.demo import LABELLERS, cart_pole_data, pendulum_data, run_demo
from paperloop_data import EpisodeDataset


def test_pendulum_is_gymnasiums(rng):
    gymnasium = pytest.importorskip("gymnasium", reason="gymnasium, to compare with")
    data = pendulum_data(rng, episodes=3, steps=30)
    assert data.final_observations is not None
    env = gymnasium.make("Pendulum-v1").unwrapped
    env.reset(seed=0)
    for row in range(0, 90, 7):
        cosine, sine, speed = data.observations[row].astype(np.float64)
        env.state = np.array([math.atan2(sine, cosine), speed])
        _, reward, *_ = env.step(data.actions[row].astype(np.float64))
        after = data.final_observations[row // 30] if row % 30 == 29 else data.observations[row + 1]
        np.testing.assert_allclose([math.cos(env.state[0]), math.sin(env.state[0]), env.state[1]], after, atol=1e-5)
        assert reward == pytest.approx(data.rewards[row], abs=1e-4)


def test_cart_pole_is_gymnasiums(rng):
    gymnasium = pytest.importorskip("gymnasium", reason="gymnasium, to compare with")
    data = cart_pole_data(rng, episodes=10, steps=60)
    env = gymnasium.make("CartPole-v1").unwrapped
    env.reset(seed=0)
    for episode in data:
        assert episode.next_observations is not None
        for t in range(len(episode.rewards)):
            env.reset()
            env.state = episode.observations[t].astype(np.float64)
            _, reward, terminated, *_ = env.step(int(episode.actions[t, 0] > 0))
            np.testing.assert_allclose(env.state, episode.next_observations[t], atol=1e-5)
            assert (reward, terminated) == (1.0, bool(episode.terminated[t]))


def test_good_controllers_are_better(rng):
    swing, pole = pendulum_data(rng, episodes=20), cart_pole_data(rng, episodes=20)
    assert swing.returns()[:5].mean() > 0.6 * swing.returns()[-5:].mean()  # both negative
    assert (swing.lengths == 200).all()
    upright = swing.observations.reshape(20, 200, 3)[:, -50:, 0].mean(axis=1)
    assert upright[0] > 0.95
    assert (pole.returns() == pole.lengths).all()
    assert pole.lengths[0] == 200
    assert pole.lengths[-5:].mean() < 60


def test_demo(tmp_path, capsys):
    found = run_demo(tmp_path / "demo", episodes=12)
    assert found["pendulum"]["otr"].by_episode > 0.8
    assert math.isnan(found["pendulum"]["constant"].by_episode)
    assert found["cart-pole"]["constant"].by_episode == pytest.approx(1.0)
    names = {p.name for p in (tmp_path / "demo").iterdir() if p.suffix != ".pdf"}
    tasks = ("pendulum", "cart-pole")
    assert names == {"labels.png", "plan.png", "diagnosis.json"} | {f"{t}.hdf5" for t in tasks} | {
        f"{t}-{name}.hdf5" for t in tasks for name in LABELLERS
    }
    report = json.loads((tmp_path / "demo" / "diagnosis.json").read_text())
    assert report["pendulum"]["otr"]["by_episode"] == found["pendulum"]["otr"].by_episode
    data = EpisodeDataset.load(tmp_path / "demo" / "pendulum-otr.hdf5")
    assert data.attributes["otr"]["labeller"] == "otr"
    assert "labels.png" in capsys.readouterr().out
