"""Runs used from elsewhere than they were made, and without what they were made from."""

import json
import shutil

import numpy as np
import pytest

import paperloop
import policy_finetune.cli as cli
from paperloop.errors import CheckpointError, UserError
from policy_finetune.config import (
    ActorNetwork,
    BCConfig,
    NetworkConfig,
    OfflineConfig,
    OnlineConfig,
    SwitchConfig,
    TD3Config,
)
from policy_finetune.data.make import make_dataset
from policy_finetune.data.saved_policies import load_policies, saved_environment
from policy_finetune.envs.rollouts import evaluate
from policy_finetune.trainers.loading import load_run
from policy_finetune.trainers.runs import environment_of_run, load_start
from policy_finetune.trainers.sessions import load_trainer, offline_trainer, online_trainer

TINY = NetworkConfig(hidden=(8,))
HEAVY = {"id": "Pendulum-v1", "kwargs": {"g": 2.0}, "max_episode_steps": 50}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with d/heavy.npz and, made from it by relative paths, the runs r/before (two agents) and r/after."""
    home = tmp_path_factory.mktemp("home")
    (home / "d").mkdir()
    data = make_dataset("Pendulum-v1", "random", 400)
    data.replace(attributes={"env_spec": HEAVY}).save(home / "d" / "heavy.npz")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        bc = BCConfig(network=ActorNetwork(hidden=(8,)), batch_size=16)
        config = OfflineConfig(learner=bc, data=("d/heavy.npz",), updates=4, updates_per_step=4, seeds=2)
        paperloop.run(offline_trainer(config)[0], "r/before", steps=1, progress=False)
        online = OnlineConfig(
            start="r/before", env_steps=100, block=50, switch=SwitchConfig(warmup_env_steps=50),
            learner=TD3Config(network=TINY, batch_size=16),
        )  # fmt: skip
        paperloop.run(online_trainer(online)[0], "r/after", steps=1, progress=False)
    return home


@pytest.mark.parametrize("run", ["before", "after"])
def test_saved_policies_are_those_of_the_state(home, run):
    trainer, spec = load_trainer(home / "r" / run)  # from another working folder than the one that it was made in
    policy, labels = load_policies(home / "r" / run)
    assert policy.spec.to_json() == spec.to_json()
    assert (policy.spec.kwargs, policy.spec.max_episode_steps) == ({"g": 2.0}, 50)
    assert labels == trainer.agents
    assert json.loads((home / "r" / run / "run.json").read_text())["agents"] == list(labels)  # what reports group by
    rows = np.random.default_rng(0).normal(size=(2, 5, 3)).astype(np.float32)
    expected = trainer.canonical_policy(paperloop.restore(trainer, home / "r" / run))(rows)
    np.testing.assert_array_equal(policy.canonical(rows), expected)
    assert saved_environment(home / "r" / run).to_json() == environment_of_run(home / "r" / run).to_json()


def test_evaluation_needs_neither_data_nor_working_folder(home, tmp_path, monkeypatch, capsys):
    shutil.copytree(home / "r", tmp_path / "r")
    monkeypatch.chdir(tmp_path / "r")
    assert cli.main(["evaluate", "before", "after", "--episodes", "2"]) == 0
    table = capsys.readouterr().out
    assert table.count("random policy") == 2
    assert "after - before" in table
    assert "each agent and the one that it started from" in " ".join(table.split())
    found = json.loads((tmp_path / "r" / "after" / "evaluation.json").read_text())
    policy, _ = load_policies("after")
    assert found["returns"] == evaluate(policy, policy.spec, episodes=2, seed=0).returns.tolist()
    assert found["env_spec"] == HEAVY
    before = json.loads((tmp_path / "r" / "before" / "evaluation.json").read_text())
    assert "differences" not in before
    (difference,) = [value for name, value in found["differences"].items() if name != "from"]
    gained = np.mean(found["returns"]) - np.mean(before["returns"])
    assert difference["point"] == pytest.approx(gained)
    assert difference["low"] <= gained <= difference["high"]
    assert found["differences"]["from"] == "before"
    assert next(iter(before["means"].values()))["point"] == pytest.approx(np.mean(before["returns"]))
    with pytest.raises(UserError, match=r"d/heavy\.npz"):  # which a trainer needs
        load_trainer("before")
    run = load_run("before")  # which needs none
    assert run.pretrained.num_agents == len(run.policies) == 2
    with pytest.raises(UserError, match=r"d/heavy\.npz"):
        _ = run.trainer
    moved = load_run("before", data=[home / "d" / "heavy.npz"])
    assert moved.trainer.progress(moved.state) == {"updates": 4}


def test_what_a_run_was_made_from_is_found_from_the_run(home, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    start, spec, config = load_start(home / "r" / "before")
    assert start.num_agents == 2
    assert spec.kwargs == {"g": 2.0}
    assert config.data == ("d/heavy.npz",)  # as it was typed: the run's configuration is what it was
    trainer, _ = load_trainer(home / "r" / "after")
    assert trainer.replay.digest == load_trainer(home / "r" / "before")[0].data.digest


def test_folders_that_hold_no_policies_are_one_sentence(home, tmp_path):
    with pytest.raises(UserError, match="nope is not a run folder"):
        load_policies("nope")
    assert saved_environment("nope") is None
    shutil.copytree(home / "r" / "before", tmp_path / "run")
    (file,) = (tmp_path / "run").glob("checkpoints/*/payload/policies.npz")
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(CheckpointError, match=r"policies\.npz"):
        load_policies(tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    with pytest.raises(CheckpointError, match="no checkpoint yet"):
        load_policies(tmp_path / "run")


def test_a_trainer_that_knows_no_environment_saves_what_it_knows(tmp_path, make_dataset):
    from policy_finetune.trainers.offline import OfflineTrainer

    bc = BCConfig(network=ActorNetwork(hidden=(8,)), batch_size=16)
    trainer = OfflineTrainer(OfflineConfig(learner=bc, updates=4, updates_per_step=4), make_dataset())
    paperloop.run(trainer, tmp_path / "run", steps=1, progress=False)
    assert saved_environment(tmp_path / "run") is None
    with pytest.raises(UserError, match="does not say in which environment its agents act"):
        load_policies(tmp_path / "run")
