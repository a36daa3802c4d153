"""`replay-data`: a training run's replay buffer as a dataset."""

import dataclasses

import h5py
import numpy as np
import pytest

import paperloop
import policy_finetune.cli as cli
from paperloop_data import EpisodeDataset
from policy_finetune.config import DropReplay, NetworkConfig, OnlineConfig, SwitchConfig, TD3Config
from policy_finetune.trainers.sessions import load_trainer, online_trainer


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of two agents that stopped after 250 steps, just before its first update."""
    folder = tmp_path_factory.mktemp("runs") / "two"
    config = OnlineConfig(
        env_id="Pendulum-v1", seeds=2, env_steps=300, random_env_steps=250,
        learner=TD3Config(network=NetworkConfig(hidden=(8,)), batch_size=16),
        switch=SwitchConfig(warmup_env_steps=0),
    )  # fmt: skip
    trainer, _ = online_trainer(config)
    paperloop.run(trainer, folder, steps=5, progress=False)
    return folder


def make(run, out, *arguments):
    return cli.main(["replay-data", str(run), "--out", str(out), "--quiet", *arguments])


def test_each_agents_buffer_is_written_as_it_is(run, tmp_path):
    trainer, _ = load_trainer(run)
    state = paperloop.restore(trainer, run)
    for agent in (0, 1):
        out = tmp_path / f"{agent}.hdf5"
        assert make(run, out, *(["--agent", str(agent)] if agent else [])) == 0
        data = EpisodeDataset.load(out)
        expected = trainer.replay_data(state, agent)
        np.testing.assert_array_equal(data.observations, expected["observations"])
        np.testing.assert_array_equal(data.rewards, expected["rewards"].astype(np.float32))
        assert data.lengths.tolist() == [200, 50]
        assert data.provenance[0]["agent"] == agent
    first, second = (EpisodeDataset.load(tmp_path / f"{agent}.hdf5").observations for agent in (0, 1))
    assert not np.array_equal(first, second)


def test_a_buffer_that_has_wrapped_says_what_it_has_lost(run, tmp_path, capsys):
    assert make(run, tmp_path / "whole.hdf5") == 0
    assert "note:" not in capsys.readouterr().err
    small = tmp_path / "small"
    config = dataclasses.replace(load_trainer(run)[0].config, replay=DropReplay(capacity=100))
    trainer, _ = online_trainer(config)
    paperloop.run(trainer, small, steps=5, progress=False)
    assert make(small, tmp_path / "small.hdf5") == 0
    assert (
        "note: the replay buffer holds 100 transitions and has lost the 150 before them: the dataset begins there, "
        "perhaps in the middle of an episode" in capsys.readouterr().err
    )
    whole, last = (EpisodeDataset.load(tmp_path / f"{name}.hdf5") for name in ("whole", "small"))
    assert last.lengths.tolist() == [50, 50]  # 150 of the first episode's 200 steps are gone
    np.testing.assert_array_equal(last.observations, whole.observations[150:])
    np.testing.assert_array_equal(last.rewards, whole.rewards[150:])


def test_steps_and_compression_are_honoured(run, tmp_path):
    assert make(run, tmp_path / "plain.hdf5", "--steps", "150") == 0
    assert make(run, tmp_path / "small.hdf5", "--steps", "150", "--compress") == 0
    with h5py.File(tmp_path / "plain.hdf5") as plain, h5py.File(tmp_path / "small.hdf5") as small:
        assert plain["observations"].compression is None
        assert small["observations"].compression == "gzip"
        np.testing.assert_array_equal(plain["observations"][()], small["observations"][()])
        assert len(plain["observations"]) == 150


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--agent", "2"], "--agent is 2, but {run} has 2 agents, numbered from 0."),
        (["--agent", "-1"], "--agent is -1; it must be at least 0"),
        (["--steps", "0"], "--steps is 0; it must be at least 1."),
    ],
)
def test_what_is_not_there_is_refused(run, tmp_path, capsys, arguments, says):
    out = tmp_path / "out.hdf5"
    assert make(run, out, *arguments) == 2
    assert says.format(run=run) in capsys.readouterr().err
    assert not out.exists()
