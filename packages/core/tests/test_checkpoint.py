"""Checkpoints: complete or absent, and never damaged unnoticed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from paperloop import CheckpointError
from paperloop.files import sha256
from paperloop.loop.checkpoint import Checkpoints, verify


def write(payload: Path) -> None:
    (payload / "deep").mkdir()
    (payload / "a.bin").write_bytes(bytes(range(200)))
    (payload / "deep" / "b.txt").write_text("wert")


def save(folder: Path, *steps: int, keep: int = 3) -> Checkpoints:
    checkpoints = Checkpoints(folder, keep)
    for step in steps:
        checkpoints.save(step, write, {"wall": 0.5})
    return checkpoints


def test_save_and_find(tmp_path):
    checkpoints = save(tmp_path / "c", 10, 20)
    assert checkpoints.find() == 20
    assert checkpoints.manifest(20)["wall"] == 0.5
    assert (checkpoints.path(20) / "payload" / "deep" / "b.txt").read_text() == "wert"
    assert (tmp_path / "c" / "latest").read_text() == "0000000020\n"


def test_only_the_newest_are_kept(tmp_path):
    assert save(tmp_path, *range(1, 8), keep=2).steps() == [6, 7]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["0000000006", "0000000007", "latest"]


def test_every_single_flipped_byte_is_found_and_named(tmp_path):
    checkpoints = save(tmp_path, 5)
    folder = checkpoints.path(5)
    files = [p for p in folder.rglob("*") if p.is_file()]
    assert {p.name for p in files} == {"a.bin", "b.txt", "manifest.json", "DONE"}
    for file in files:
        original = file.read_bytes()
        for position in range(len(original)):
            damaged = bytearray(original)
            damaged[position] ^= 1 << (position % 8)
            file.write_bytes(damaged)
            with pytest.raises(CheckpointError) as error:
                verify(folder)
            assert file.name in str(error.value)
        file.write_bytes(original)
    verify(folder)


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda f: (f / "payload" / "a.bin").write_bytes(b"short"), "payload/a.bin has 5 bytes instead of 200"),
        (lambda f: (f / "payload" / "deep" / "b.txt").unlink(), "payload/deep/b.txt is missing"),
        (lambda f: (f / "payload" / "new.txt").write_text("x"), "payload/new.txt is not in its manifest"),
        (lambda f: (f / "manifest.json").unlink(), "manifest.json is missing"),
        (lambda f: shutil.rmtree(f / "payload"), "is missing"),
    ],
)
def test_damage_is_refused_by_name_with_the_way_to_the_one_before(tmp_path, damage, complaint):
    checkpoints = save(tmp_path, 10, 20, 30)
    damage(checkpoints.path(30))
    with pytest.raises(CheckpointError, match=complaint) as error:
        checkpoints.find()
    assert f"to resume from step 20, remove {checkpoints.path(30)} and {tmp_path / 'latest'}." in str(error.value)
    shutil.rmtree(checkpoints.path(30))
    (tmp_path / "latest").unlink()
    assert checkpoints.find() == 20


def test_damage_of_the_only_checkpoint_advises_nothing(tmp_path):
    checkpoints = save(tmp_path, 10)
    (checkpoints.path(10) / "payload" / "a.bin").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"has 0 bytes instead of 200\.$"):
        checkpoints.find()


def test_a_pointer_to_nowhere_is_refused(tmp_path):
    checkpoints = save(tmp_path, 10)
    (tmp_path / "latest").write_text("0000000011\n")
    with pytest.raises(CheckpointError, match=r"latest names '0000000011'.*steps \[10\]: .* remove .*latest to resume"):
        checkpoints.find()
    (tmp_path / "latest").unlink()
    assert checkpoints.find() == 10


def test_another_format_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("paperloop.loop.checkpoint.FORMAT", 99)
    checkpoints = save(tmp_path, 10)
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="format 99"):
        checkpoints.find()


def test_a_save_that_fails_leaves_the_old_one_and_no_rubbish(tmp_path):
    checkpoints = save(tmp_path, 10)

    def fail(payload):
        write(payload)
        raise OSError(28, "No space left on device")

    with pytest.raises(CheckpointError, match=r"No space left on device.*step 10 is intact"):
        checkpoints.save(20, fail, {})
    assert checkpoints.find() == 10
    assert sorted(p.name for p in tmp_path.iterdir()) == ["0000000010", "latest"]


def test_what_a_killed_save_left_is_garbage(tmp_path):
    checkpoints = save(tmp_path, 10)
    shutil.copytree(checkpoints.path(10), checkpoints.path(20))
    (checkpoints.path(20) / "DONE").unlink()
    (tmp_path / ".tmp-0000000030-1").mkdir()
    assert checkpoints.find() == 10
    checkpoints.save(40, write, {})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["0000000010", "0000000040", "latest"]


def test_a_renamed_checkpoint_is_refused(tmp_path):
    checkpoints = save(tmp_path, 10, 20)
    checkpoints.path(10).rename(checkpoints.path(30))
    with pytest.raises(CheckpointError, match=r"was renamed: its manifest\.json is of step 10"):
        checkpoints.find()


def test_a_file_that_cannot_be_read_is_damage(tmp_path, monkeypatch):
    checkpoints = save(tmp_path, 10, 20)

    def bad_sector(path):
        if "0000000020" in str(path) and path.name == "a.bin":
            raise OSError(5, "Input/output error", str(path))
        return sha256(path)

    monkeypatch.setattr("paperloop.loop.checkpoint.sha256", bad_sector)
    with pytest.raises(CheckpointError, match=r"cannot be read \(Input/output error: a.bin\)"):
        checkpoints.find()


def test_a_kill_between_done_and_latest_loses_nothing(tmp_path):
    checkpoints = save(tmp_path, 10, 20)
    (tmp_path / "latest").write_text("0000000010\n")
    assert checkpoints.find() == 20


def test_a_full_disk(tmp_path):
    """The kernel itself refuses the write: a file-size limit stands in for the full disk."""
    code = f"""
import resource, signal
from pathlib import Path
from paperloop import CheckpointError
from paperloop.loop.checkpoint import Checkpoints
checkpoints = Checkpoints(Path({str(tmp_path)!r}))
small = lambda p: (p / "a").write_bytes(b"x" * 1000)
checkpoints.save(1, small, {{}})
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
try:
    checkpoints.save(2, lambda p: (p / "a").write_bytes(b"x" * 20_000), {{}})
except CheckpointError as error:
    print(error)
assert checkpoints.find() == 1
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "step 1 is intact" in result.stdout
    assert sorted(os.listdir(tmp_path)) == ["0000000001", "latest"]


@pytest.mark.parametrize(
    "manifest", ["[]", "{}", '{"format": 2, "step": 1, "files": {"payload/a": 5}}', "[" * 10_000, "5"]
)
def test_a_manifest_that_is_whole_and_yet_none(tmp_path, manifest):
    checkpoints = Checkpoints(tmp_path)
    folder = checkpoints.save(1, lambda p: (p / "a").write_bytes(b"x"), {})
    (folder / "manifest.json").write_text(manifest)
    (folder / "DONE").write_text(sha256(folder / "manifest.json") + "\n")
    with pytest.raises(CheckpointError, match="is not a manifest"):
        verify(folder)
