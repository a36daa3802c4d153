"""The command line: every field answers in the words typed; help is quick and short."""

import subprocess
import sys

import pytest

import policy_finetune.cli as cli
from paperloop.cli.testing import check_command_errors


def test_every_field_of_every_command_is_refused_in_the_words_typed():
    assert check_command_errors(cli.app) > 250


@pytest.mark.parametrize("command", ["pretrain", "finetune", "train"])
def test_help_shows_what_most_people_need_and_the_rest_on_request(command, capsys):
    assert cli.main([command, "--help"]) == 0
    short = capsys.readouterr().out
    assert "--learner.bc-weight" not in short
    assert "--data" in short
    assert cli.main([command, "--help-all"]) == 0
    whole = capsys.readouterr().out
    assert "--learner.bc-weight" in whole
    assert "--loading.observation-keys" in whole


def test_help_starts_neither_jax_nor_gymnasium():
    code = (
        "import sys, policy_finetune.cli as cli; cli.main(['finetune', '--help']); "
        "assert not {'jax', 'gymnasium', 'torch', 'tyro'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_advice_is_in_the_words_of_whoever_runs(tmp_path, capsys):
    """No text is rewritten: what looks like a setting stays as it is."""
    assert cli.main(["train", "--out", str(tmp_path / "run")]) == 2
    assert "name it with --env-id, or a pre-trained run with --start" in capsys.readouterr().err


def test_settings_of_another_member_are_unknown(capsys):
    train = ["train", "--out", "x", "--env-id", "Pendulum-v1"]
    assert cli.main([*train, "--learner.expectile", "0.8"]) == 2
    assert "--learner.expectile" in capsys.readouterr().err
    assert cli.main([*train, "--replay.type", "drop", "--replay.rho", "0.3"]) == 2
    assert "--replay.rho" in capsys.readouterr().err


def test_control_characters_in_names_do_not_reach_the_terminal(tmp_path, capsys):
    bad = str(tmp_path / "a\x1b[31mb.hdf5")
    assert cli.main(["pretrain", "--data", bad, "--out", str(tmp_path / "run")]) == 2
    assert cli.main(["evaluate", bad]) == 2
    assert cli.main(["diagnose", bad]) == 2
    said = capsys.readouterr().err
    assert "\x1b" not in said
    assert said.count("a\\x1b[31mb") == 3
