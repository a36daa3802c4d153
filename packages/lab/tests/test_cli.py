"""The command `paperloop`: its help loads no back end, and it looks into run folders."""

import hashlib
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


def test_verify(tmp_path, capsys):
    from paperloop.loop.checkpoint import Checkpoints

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


def finished_run(folder, *, seed=0, status="complete"):
    """A run folder with two checkpoints, each with the mark of the rows that were there."""
    from paperloop.loop.checkpoint import Checkpoints

    folder.mkdir(parents=True)
    checkpoints, content = Checkpoints(folder / "checkpoints"), b""
    for step in (1, 2):
        content += json.dumps({"step": step, "wall": 1.0, "split": "train", "loss": float(seed)}).encode() + b"\n"
        mark = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        meta = {"method": "M", "seed": seed, "config": "c0ffee", "metrics": mark}
        checkpoints.save(step, lambda payload: (payload / "data.bin").write_bytes(b"x"), meta)
    (folder / "metrics.jsonl").write_bytes(content)
    record = {"status": status, "step": 2, "method": "M", "seed": seed, "resume_hash": "c0ffee"}
    (folder / "run.json").write_text(json.dumps(record))
    return folder


def test_a_run_of_which_all_fits_is_intact(tmp_path, capsys):
    run = finished_run(tmp_path / "run")
    assert cli.main(["verify", str(run)]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["intact"] * 3
    record = json.loads((run / "run.json").read_text())
    del record["resume_hash"]  # of a run that did not record it
    (run / "run.json").write_text(json.dumps(record))
    assert cli.main(["verify", str(run)]) == 0


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("seed", 1, "it is of seed 0, not 1: it was copied from another run"),
        ("method", "N", "it is of M, not N"),
        ("resume_hash", "beef", "it is of configuration c0ffee, not beef"),
    ],
)
def test_checkpoints_of_another_run_are_foreign(tmp_path, capsys, name, value, told):
    run = finished_run(tmp_path / "run")
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**record, name: value}))
    assert cli.main(["verify", str(run)]) == 2
    out = capsys.readouterr().out
    assert out.count(f"foreign  {run}") == 2
    assert told in out


@pytest.mark.parametrize(
    ("status", "change", "told"),
    [
        ("complete", lambda rows: rows.replace(b"0.0", b"9.0", 1), "written with (its rows have changed since)"),
        ("running", lambda rows: rows.replace(b"0.0", b"9.0", 1), "written with (its rows have changed since)"),
        ("complete", lambda rows: rows + rows[:57], "written with (rows were added to it since)"),
        ("complete", lambda rows: rows[:-1], "bytes instead of at least"),
        ("complete", lambda rows: None, "metrics.jsonl is missing"),
        ("running", lambda rows: rows + rows[:57], ""),
    ],
)
def test_metrics_that_the_last_checkpoint_was_not_written_with(tmp_path, capsys, status, change, told):
    from paperloop_lab.report import report

    run = finished_run(tmp_path / "run", status=status)
    rows = (run / "metrics.jsonl").read_bytes()
    changed = change(rows)
    (run / "metrics.jsonl").unlink()
    if changed is not None:
        (run / "metrics.jsonl").write_bytes(changed)
    assert cli.main(["verify", str(run)]) == (2 if told else 0)
    out = capsys.readouterr().out
    assert (f"changed  {run / 'metrics.jsonl'}" in out, told in out) == (bool(told), True)
    if changed is not None:  # and a report says so too
        notes = report([run], metrics=["loss"], reps=50).notes
        assert [told in note for note in notes] == ([True] if told else [])


def test_verify_names_a_record_that_is_none(tmp_path, capsys):
    run = finished_run(tmp_path / "run")
    (run / "run.json").write_text("[]")
    assert cli.main(["verify", str(run)]) == 2
    assert "run.json is not the record of a run" in capsys.readouterr().err
