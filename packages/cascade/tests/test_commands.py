"""The command line."""

import pytest

from paperloop.conformance import check_help


@pytest.mark.parametrize("command", ["train", "label", "tabular", "demo"])
def test_help_waits_for_no_array_library(command):
    check_help("cascade-explore", command)


def test_every_wrong_value_is_refused_in_the_words_that_were_typed():
    from cascade_explore.cli import app
    from paperloop.cli.testing import check_command_errors

    assert check_command_errors(app) > 50


def test_tasks_are_refused_in_the_words_that_were_typed(capsys):
    from cascade_explore.cli import main

    for typed, message in ((["--task"], "--task is"), (["--task", "a", "a"], "--task is"),
                           (["--horizon", "1"], "--horizon is 1")):  # fmt: skip
        assert main(["label", "run", *typed]) == 2
        assert message in capsys.readouterr().err
