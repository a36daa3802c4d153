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
