"""The command `paperloop`: its help loads no back end, and it looks into run folders."""

import json
import subprocess
import sys

import pytest

from paperloop_lab import cli

HELP = """
import sys
from paperloop_lab.cli import main
code = main({argv!r})
heavy = [m for m in ("jax", "jaxlib", "torch", "scipy", "matplotlib", "h5py", "submitit", "ray") if m in sys.modules]
assert code == 0, code
assert not heavy, heavy
"""


@pytest.mark.parametrize("argv", [["--help"], ["--version"], *([name, "--help"] for name in cli.app.commands)])
def test_help_imports_no_back_end(argv):
    done = subprocess.run([sys.executable, "-c", HELP.format(argv=argv)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_verify_and_show(tmp_path, capsys):
    from paperloop.checkpoint import Checkpoints

    checkpoints = Checkpoints(tmp_path / "run" / "checkpoints")
    for step in (1, 2):
        checkpoints.save(step, lambda folder: (folder / "data.bin").write_bytes(b"x" * 100), {})
    run = str(tmp_path / "run")
    assert cli.main(["verify", run]) == 0
    assert capsys.readouterr().out.count("intact") == 2
    data = checkpoints.path(2) / "payload" / "data.bin"
    data.write_bytes(b"x" * 50 + b"y" + b"x" * 49)
    assert cli.main(["verify", run]) == 2
    out = capsys.readouterr().out
    assert out.count("intact") == 1
    assert "data.bin" in out
    assert cli.main(["verify", str(checkpoints.path(2))]) == 2
    assert cli.main(["verify", str(checkpoints.path(1))]) == 0
    assert cli.main(["verify", str(tmp_path / "nothing")]) == 2
    (tmp_path / "run" / "run.json").write_text(json.dumps({"status": "complete", "seed": 3}))
    (tmp_path / "run" / "config.json").write_text(json.dumps({"schema": 1, "config": {"ppo": {"lr": 0.5}}}))
    capsys.readouterr()
    assert cli.main(["show", run]) == 0
    out = capsys.readouterr().out
    assert "complete" in out
    assert "config.ppo.lr" in out
