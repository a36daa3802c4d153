"""From configurations to trainers: paths as str or Path, notes on data, the scale of the guard."""

import dataclasses
from pathlib import Path

import pytest

import policy_finetune.trainers.sessions as sessions
from paperloop.errors import UserError
from paperloop.settings import save_config
from policy_finetune.config import SCHEMA, GuardConfig, NetworkConfig, OfflineConfig, OnlineConfig, TD3Config
from policy_finetune.data.make import make_dataset
from policy_finetune.trainers.runs import environment_of_run, load_start, run_config, seen_from

LEARNER = TD3Config(network=NetworkConfig(hidden=(8,)), batch_size=16)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A dataset with actions out of bounds, which is worth a note."""
    data = make_dataset("Pendulum-v1", "random", 200)
    path = tmp_path_factory.mktemp("data") / "big.npz"
    dataclasses.replace(data, actions=data.actions * 1.5).save(path)
    return path


def test_notes_on_data_are_said_and_not_said_again(file, tmp_path, capsys):
    config = OfflineConfig(learner=LEARNER, data=(str(file),), env_id="Pendulum-v1", updates=10, updates_per_step=10)
    sessions.offline_trainer(config)
    assert "outside the bounds of Pendulum-v1" in capsys.readouterr().err
    save_config(config, tmp_path / "config.json", SCHEMA)
    for folder in (tmp_path, str(tmp_path)):
        trainer, spec = sessions.load_trainer(folder)
        assert trainer.config == config
        assert spec.env_id == environment_of_run(folder) == "Pendulum-v1"
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("kind", [str, lambda path: path])
def test_a_folder_without_a_run_is_named(tmp_path, kind):
    with pytest.raises(UserError, match="is not a run folder"):
        sessions.load_trainer(kind(tmp_path / "none"))
    with pytest.raises(UserError, match="is not a run folder"):
        load_start(kind(tmp_path / "none"))


def test_only_the_guard_asks_what_a_random_policy_gets(monkeypatch):
    asked = []
    monkeypatch.setattr(sessions, "random_return", lambda spec: asked.append(spec.env_id) or -1200.0)
    config = OnlineConfig(learner=LEARNER, env_id="Pendulum-v1")
    assert sessions.online_trainer(config)[0]._guard.random_return == 0.0
    assert asked == []
    watched = dataclasses.replace(config, guard=GuardConfig())
    assert sessions.online_trainer(watched)[0]._guard.random_return == -1200.0
    assert asked == ["Pendulum-v1"]


def test_paths_of_a_run_are_found_from_above_it(tmp_path, monkeypatch):
    (tmp_path / "runs" / "pre").mkdir(parents=True)
    (tmp_path / "runs" / "tuned").mkdir()
    run = tmp_path / "runs" / "tuned"
    assert seen_from(run, "runs/pre") == tmp_path / "runs" / "pre"
    assert seen_from(run, "runs/none") == Path("runs/none")  # whoever opens it says so
    monkeypatch.chdir(tmp_path)
    assert seen_from(run, "runs/pre") == tmp_path / "runs" / "pre"
    assert seen_from(None, "runs/pre") == Path("runs/pre")  # what has no run is as it is typed
    assert seen_from(run, str(tmp_path / "runs" / "none")) == tmp_path / "runs" / "none"


def test_a_run_of_an_older_schema_is_refused_with_the_reason(tmp_path):
    save_config(OfflineConfig(), tmp_path / "config.json", SCHEMA - 1)
    with pytest.raises(UserError, match=r"has schema 1, and OfflineConfig of this version has schema 2: use"):
        run_config(tmp_path)
