"""What the commands take over by themselves: the network of the start, local Minari datasets, whole dispatches."""

import dataclasses

import pytest

import policy_finetune.cli as cli
from paperloop.loop.runner import restore
from paperloop.settings import load_config, save_config
from policy_finetune.commands.start import with_network_of_start
from policy_finetune.config import SCHEMA, NetworkConfig, OfflineConfig, OnlineConfig, SwitchConfig, TD3Config
from policy_finetune.data.make import make_dataset
from policy_finetune.presets import online_presets
from policy_finetune.trainers.sessions import load_trainer


@pytest.fixture
def start(tmp_path):
    """A run folder whose agents have small networks with LayerNorm."""
    network = NetworkConfig(hidden=(8,), critics=3, layer_norm=True)
    save_config(OfflineConfig(learner=TD3Config(network=network)), tmp_path / "config.json", SCHEMA)
    return tmp_path


def test_the_network_is_that_of_the_start(start):
    config, notes = with_network_of_start(OnlineConfig(start=str(start)), ())
    assert config.learner.network == NetworkConfig(hidden=(8,), critics=3, layer_norm=True)
    assert "hidden=(8,)" in notes[0]
    assert "layer_norm=True" in notes[0]
    assert with_network_of_start(config, ()) == (config, [])


def test_what_was_typed_or_chosen_by_a_preset_stays(start):
    typed = OnlineConfig(start=str(start))
    config, _ = with_network_of_start(typed, {"learner.network.hidden", "learner.network.critics"})
    assert config.learner.network == NetworkConfig(layer_norm=True)
    rlpd = online_presets()["rlpd"]
    assert (
        with_network_of_start(dataclasses.replace(rlpd, start=str(start)), ())[0].learner.network.critics
        == rlpd.learner.network.critics
    )
    fresh = OnlineConfig(start=str(start), switch=SwitchConfig(allow_new=True))
    assert with_network_of_start(fresh, ()) == (fresh, [])
    critics = OnlineConfig(start=str(start), switch=SwitchConfig(critic_reinit=True))
    assert with_network_of_start(critics, ())[0].learner.network == NetworkConfig(hidden=(8,))


def test_from_a_local_minari_dataset_to_fine_tuning(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    monkeypatch.chdir(tmp_path)
    make_dataset("Pendulum-v1", "random", 200).save(tmp_path / "minari" / "mine" / "swing-v0")
    small = ["--learner.network.hidden", "8", "--learner.batch-size", "16", "--eval-episodes", "1", "--device", "cpu"]
    pretrain = ["pretrain", "--preset", "td3", "--data", "mine/swing-v0", "--updates", "3", "--updates-per-step", "2"]
    assert cli.main([*pretrain, *small, "--out", "r/pre"]) == 0
    said = capsys.readouterr()
    assert "note: 3 updates are rounded up to 4: --updates-per-step is 2" in said.err
    finetune = ["finetune", "--preset", "td3", "--start", "r/pre", "--env-steps", "100", "--out", "r/tuned"]
    finetune += ["--switch.warmup-env-steps", "50", *small[2:]]
    assert cli.main(finetune) == 0
    assert "note: the networks are those of r/pre: --learner.network.hidden 8" in capsys.readouterr().err
    assert load_config(OnlineConfig, tmp_path / "r" / "tuned" / "config.json", SCHEMA).learner.network.hidden == (8,)
    trainer, spec = load_trainer("r/pre")
    assert spec.env_id == "Pendulum-v1"
    assert trainer.progress(restore(trainer, "r/pre")) == {"updates": 4}


def test_an_id_that_is_not_here_says_how_to_get_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    for command in (["pretrain"], ["train", "--preset", "td3", "--env-id", "Pendulum-v1"], ["diagnose"]):
        data = ["none/swing-v0"] if command == ["diagnose"] else ["--data", "none/swing-v0", "--out", "x"]
        assert cli.main([*command, *data]) == 2
        *notes, line = capsys.readouterr().err.strip().splitlines()
        assert all(note.startswith("note: ") for note in notes)
        assert "no Minari dataset of that id" in line
        assert "`minari download none/swing-v0`" in line
