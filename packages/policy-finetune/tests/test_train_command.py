"""What `train`, `finetune` and `pretrain` refuse or say before they begin."""

import pytest

import policy_finetune.cli as cli
from policy_finetune.config import OnlineConfig
from policy_finetune.presets import offline_presets, online_presets


@pytest.fixture
def begun(monkeypatch):
    """The configurations that got as far as training."""
    configs = []
    monkeypatch.setattr(cli, "learn_online", lambda options, config, **_: configs.append(config))
    return configs


def train(*arguments):
    return cli.main(["train", "--env-id", "Hopper-v5", "--out", "unused", *arguments])


@pytest.mark.parametrize(
    ("arguments", "steps"),
    [
        ((), 10_000),
        (("--block", "64", "--switch.warmup-env-steps", "64"), 10_048),
        (("--random-env-steps", "0"), 0),
        (("--random-env-steps", "300"), 300),
        (("--preset", "rlpd", "--data", "x.hdf5"), 5000),
    ],
)
def test_random_steps_are_what_was_asked_for(begun, capsys, arguments, steps):
    assert train(*arguments) == 0
    config = begun[0]
    assert config.random_env_steps == steps
    given = "--random-env-steps" in arguments
    assert ("actions are uniform" in capsys.readouterr().err) != given
    assert train(*arguments, "--quiet") == 0
    assert ("actions are uniform" in capsys.readouterr().err) != given  # quiet is about bars and tables


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["finetune", "--preset", "bc"], "bc learns from data only: use it with pretrain"),
        (["train", "--preset=bc"], "bc learns from data only: use it with pretrain"),
        (["pretrain", "--preset", "wsrl"], "wsrl learns online only: use it with finetune or train"),
        (["finetune", "--preset", "nonesuch"], 'there is no preset "nonesuch"'),
        (["finetune", "--start", "nope"], "nope is not a run folder (no config.json)"),
        (["pretrain", "--data", "nope.hdf5"], "There is no dataset at nope.hdf5"),
        (["train", "--env-id", "Hopper-v5", "--data", "nope.hdf5"], "There is no dataset at nope.hdf5"),
    ],
)
def test_what_no_other_option_can_cure_is_said_first(capsys, tmp_path, arguments, says):
    assert cli.main([*arguments, "--out", str(tmp_path / "run")]) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_the_list_of_learners_says_who_is_for_one_phase_only(capsys):
    assert cli.main(["learners"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert lines.keys() == online_presets().keys() | offline_presets().keys()
    for name, line in lines.items():
        assert line.endswith("[pretrain only]") == (name not in online_presets())
        assert line.endswith("[finetune and train only]") == (name not in offline_presets())


def test_replay_is_not_changed_in_silence(begun, capsys):
    assert train() == 0
    assert begun[0].replay == OnlineConfig().replay
    assert train("--preset", "rlpd") == 2
    assert "Replay 'symmetric' needs offline data: name a dataset with --data" in capsys.readouterr().err
    assert train("--preset", "rlpd", "--replay.type", "drop") == 0
    assert train("--preset", "rlpd", "--data", "x.hdf5") == 0
    assert begun[-1].replay == online_presets()["rlpd"].replay
    assert len(begun) == 3


def test_a_run_without_updates_is_refused(begun, capsys):
    assert train("--env-steps", "9000") == 2
    assert (
        "--env-steps is 9000; it must be above 10000, because the first 10000 steps have no updates"
        in capsys.readouterr().err
    )
    assert begun == []
