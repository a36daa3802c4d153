"""The place of an output: one process at a time, the right kind, recognised when it is finished."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from otr.cli import main
from otr.labels.output import hold, save_dataset
from paperloop.errors import UserError
from paperloop_data import EpisodeDataset

FAST = ["--labeller.solver.backend", "reference", "--labeller.solver.mode.iterations", "5"]


@pytest.fixture
def file(small, tmp_path):
    return small.save(tmp_path / "data.npz")


def run(capsys, *arguments):
    code = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def refused(capsys, *arguments) -> str:
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    return err


# One process at a time


@pytest.fixture
def in_use(tmp_path):
    """(output, number of the process that holds it)."""
    context = multiprocessing.get_context("spawn")
    out, held, release = tmp_path / "out.npz", context.Event(), context.Event()
    process = context.Process(target=_hold_elsewhere, args=(str(out), held, release))
    process.start()
    assert held.wait(60)
    yield out, process.pid
    release.set()
    process.join()


def _hold_elsewhere(out: str, held, release) -> None:
    from otr.labels.output import hold

    with hold(Path(out)):
        held.set()
        release.wait()


def test_the_second_process_is_told_who_works_there(file, in_use, capsys):
    out, number = in_use
    said = refused(capsys, "label", file, "--demos", "top:1", "--out", out, *FAST)
    assert f"{out} is in use by process {number} on " in said
    assert not out.exists()


def test_a_lock_goes_with_its_process_and_leaves_nothing(tmp_path):
    out = tmp_path / "new" / "folder" / "out.npz"
    with hold(out) as folder:
        assert folder == tmp_path / "new" / "folder" / ".out.npz.labels"
        with pytest.raises(UserError, match=f"is in use by process {os.getpid()} on "), hold(out):
            pass
        assert (folder / ".lock").exists()
    assert list(tmp_path.iterdir()) == []
    with hold(out) as folder:
        (folder / "chunk").write_text("finished")
    assert [path.name for path in folder.iterdir()] == ["chunk"]
    (folder / ".lock").write_text("process 1 on elsewhere\n")  # as a killed process leaves it
    with hold(out):
        pass


# The right kind


@pytest.mark.parametrize(
    ("make", "out", "options", "words"),
    [
        (Path.mkdir, "x.npz", (), "is a folder, and what is written is a file (npz)"),
        (Path.mkdir, "x.hdf5", (), "is a folder, and what is written is a file (HDF5)"),
        (Path.mkdir, "x", (), "is a folder, but not a Minari folder"),
        (Path.touch, "x", (), "is a file, and what is written is a folder (Minari)"),
        (os.mkfifo, "x.npz", (), "is neither file nor folder"),
        (lambda path: path.symlink_to("nowhere"), "x.npz", (), "cannot be replaced (No such file or directory)"),
        (lambda path: path.symlink_to(path), "x.npz", (), "cannot be replaced (Too many levels of symbolic links)"),
        (lambda path: None, "..", (), "is a folder that is there already: name the data"),
    ],
)
def test_what_cannot_be_replaced_is_refused_before_labelling(
    file, tmp_path, capsys, monkeypatch, make, out, options, words
):
    monkeypatch.setattr("otr.commands.label.label", lambda *_, **__: pytest.fail("it was labelled"))
    out = tmp_path / out
    make(out)
    before = sorted(tmp_path.iterdir())
    assert words in refused(capsys, "label", file, "--demos", "top:1", "--out", out, "--overwrite", *FAST, *options)
    assert sorted(tmp_path.iterdir()) == before


def test_what_a_writer_refuses_is_refused_before_labelling(small, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("otr.commands.label.label", lambda *_, **__: pytest.fail("it was labelled"))
    source = small.replace(extras={"metadata/mine": np.zeros(small.num_steps)}).save(tmp_path / "data.npz")
    said = refused(capsys, "label", source, "--demos", "top:1", "--out", tmp_path / "x.hdf5", *FAST)
    assert "the extra 'metadata/mine' has a name that D4RL files use otherwise" in said
    assert [path.name for path in tmp_path.iterdir()] == ["data.npz"]


@pytest.mark.parametrize("source", ["missing/dataset-v0", "missing.hdf5", "missing"])
@pytest.mark.parametrize("out", ["labelled", "labelled.npz"])
def test_data_that_is_not_there(tmp_path, capsys, source, out):
    said = refused(capsys, "label", tmp_path / source, "--demos", "top:2", "--out", tmp_path / out)
    assert source in said
    assert list(tmp_path.iterdir()) == []


def test_half_a_rehearsal_is_no_obstacle(small, tmp_path, capsys):
    source = small.save(tmp_path / "data.npz")
    (tmp_path / ".out.labels" / "out" / "data").mkdir(parents=True)  # killed while the rehearsal was removed
    arguments = ["label", source, "--demos", "top:1", "--out", tmp_path / "out", *FAST]
    assert run(capsys, *arguments)[0] == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data.npz", "out"]


# Finished


@pytest.mark.parametrize("name", ["out.npz", "out.hdf5", "out"])
def test_called_again_a_finished_output_is_recognised(small, tmp_path, capsys, name):
    source = small.save(tmp_path / "data-v0", format="minari") if name == "out" else small.save(tmp_path / "data.npz")
    out = tmp_path / name
    arguments = ["label", source, "--demos", "top:1", *FAST, "--out"]
    assert run(capsys, *arguments, out)[0] == 0
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for left in (f".{name}.labels/0123/chunk-000000.labels", f".{name}.99999999.old/x", f".{name}.99999999.tmp/x"):
        (tmp_path / left).parent.mkdir(parents=True)
        (tmp_path / left).write_text("left by a killed process")
    code, text, err = run(capsys, *arguments, out)
    assert code == 0
    assert f"{out} is finished already" in err
    assert "by episode" in text
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert not list(tmp_path.glob(".*"))
    assert run(capsys, *arguments, out, "--quiet") == (0, "", "")


@pytest.mark.parametrize(
    ("change", "options"),
    [
        ("settings", ("--labeller.solver.mode.iterations", "6")),
        ("score", ("--demo-score", "antmaze")),
        ("time-outs", ("--drop-time-outs",)),
        ("demonstrations", ("--demos", "top:2")),
        ("data", ()),
        ("true rewards", ()),
        ("labels", ()),
        ("foreign", ()),
    ],
)
def test_another_output_is_not_taken_for_it(small, file, tmp_path, capsys, change, options):
    out = tmp_path / "out.npz"
    first = ["--demos", "top:1"] if change != "demonstrations" else []
    arguments = ["label", file, "--out", out, "--labeller.solver.backend", "reference"]
    assert run(capsys, *arguments, "--demos", "top:1")[0] == 0
    labelled = EpisodeDataset.load(out)
    if change == "data":
        small.replace(observations=small.observations + 1).save(file, overwrite=True)
    elif change == "true rewards":
        small.replace(rewards=small.rewards * 2).save(file, overwrite=True)
    elif change == "labels":
        labelled.replace(rewards=labelled.rewards + 1).save(out, overwrite=True)
    elif change == "foreign":
        out.write_bytes(b"PK\x03\x04 mine")
    before = out.read_bytes()
    options = (*options, *first)
    assert "exists already: choose another --out, or give --overwrite" in refused(capsys, *arguments, *options)
    assert out.read_bytes() == before
    assert run(capsys, *arguments, *options, "--overwrite")[0] == 0


# Killed at any touch of the disk

CASES = {
    "npz": ("out.npz", (), False),
    "d4rl": ("out.hdf5", (), False),
    "minari": ("out", (), False),
    "npz over another": ("out.npz", ("--overwrite",), True),
    "minari over another": ("out", ("--overwrite",), True),
}


def attempts(small, tmp_path, case: str, first: int, every: int) -> list[dict]:
    name, options, over = CASES[case]
    folder = tmp_path / "begin"
    folder.mkdir()
    small.save(folder / "data.npz")
    if over:
        save_dataset(small, folder / name)
    arguments = ["label", "data.npz", "--demos", "top:1", "--out", name, "--chunk-steps", "50", *FAST, *options]
    script = [sys.executable, str(Path(__file__).with_name("crash_points.py")), str(folder), str(first), str(every)]
    done = subprocess.run([*script, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    shutil.rmtree(folder)
    return [json.loads(line) for line in done.stdout.splitlines()]


def check(found: list[dict], least: int) -> None:
    whole = found[-1]
    assert (whole["touch"], whole["code"]) == (None, 0), whole
    assert not any(name.split("/")[0].startswith(".") for name in whole["files"])
    assert len(found) > least
    for one in found[:-1]:
        assert one["code"] == 0, one
        # HDF5 files of the Minari layout hold no times either, so that equal content is equal bytes.
        assert one["files"] == whole["files"], (one["touch"], one["said"])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform cannot fork")
@pytest.mark.parametrize("case", ["npz", "minari over another"])
def test_killed_at_some_touches_of_the_disk(small, tmp_path, case):
    check(attempts(small, tmp_path, case, 3, 7), 4)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform cannot fork")
@pytest.mark.parametrize("case", CASES)
def test_killed_at_every_touch_of_the_disk(small, tmp_path, case):
    check(attempts(small, tmp_path, case, 0, 1), 30)
