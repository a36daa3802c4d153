"""`--help` of every command and sub-command answers without loading jax or torch."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from paperloop.conformance import check_help
from tools.workspace import members

COMMANDS = [command for member in members() for command in member.scripts]


@pytest.mark.parametrize("command", COMMANDS)
def test_help(command):
    check_help(command)
    script = Path(sys.executable).parent / command
    text = subprocess.run([script, "--help"], capture_output=True, text=True, check=True).stdout
    listing = re.search(r"(?m)^commands:\n((?:  .*\n)+)", text)
    assert listing, f"{command} --help lists no commands:\n{text}"
    names = re.findall(r"(?m)^  (\S+)", listing[1])
    assert names
    for name in names:
        check_help(command, name)
