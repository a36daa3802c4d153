"""The chunks of a labelling on disk: what is not exactly what was written is made again."""

from __future__ import annotations

import os

import numpy as np
import pytest

from otr import OTRConfig, Parity, SinkhornConfig, label
from paperloop.errors import UserError

CONFIG = OTRConfig(solver=SinkhornConfig(backend="reference", mode=Parity(iterations=5)))


@pytest.fixture
def stored(small, tmp_path):
    """(demonstrations, result, folder of its four chunks)."""
    demos = small.select([3])
    result = label(small, demos, CONFIG, chunk_steps=15, store=tmp_path)
    chunks = list(tmp_path.glob("*/chunk-*.labels"))
    assert result.computed == len(chunks) == 4
    return demos, result, chunks[0].parent


def flip(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


def again(small, stored, computed: int, warned: str | None) -> None:
    """Label once more, which must compute so many chunks, warn, and give the same."""
    demos, wanted, folder = stored
    if warned is None:
        got = label(small, demos, CONFIG, chunk_steps=15, store=folder.parent)
    else:
        with pytest.warns(UserWarning, match=warned):
            got = label(small, demos, CONFIG, chunk_steps=15, store=folder.parent)
    assert got.computed == computed
    np.testing.assert_array_equal(got.dataset.rewards, wanted.dataset.rewards)
    assert got.dataset.attributes["otr"] == wanted.dataset.attributes["otr"]
    assert label(small, demos, CONFIG, chunk_steps=15, store=folder.parent).computed == 0


@pytest.mark.parametrize("at", [0, 31, 32, 40, 60, 200, 500, -40, -22, -1])
def test_a_flipped_bit_anywhere(small, stored, at):
    path = stored[2] / "chunk-000001.labels"
    content = path.read_bytes()
    path.write_bytes(flip(content, at % len(content)))
    again(small, stored, 1, r"chunk-000001.labels is damaged: its labels are made again")


@pytest.mark.slow
def test_a_flipped_bit_everywhere(small, stored):
    path = stored[2] / "chunk-000001.labels"
    content = path.read_bytes()
    for at in range(len(content)):
        path.write_bytes(flip(content, at))
        again(small, stored, 1, "chunk-000001.labels is damaged")


@pytest.mark.parametrize("size", [0, 31, 32, 50, -1])
def test_a_chunk_cut_short(small, stored, size):
    path = stored[2] / "chunk-000002.labels"
    path.write_bytes(path.read_bytes()[:size])
    again(small, stored, 1, "chunk-000002.labels is damaged")


def test_a_chunk_in_the_place_of_another(small, stored):
    folder = stored[2]
    (folder / "chunk-000000.labels").write_bytes((folder / "chunk-000001.labels").read_bytes())
    again(small, stored, 1, "chunk-000000.labels is damaged")


def test_something_else_in_the_place_of_a_chunk(small, stored):
    path = stored[2] / "chunk-000003.labels"
    path.unlink()
    os.mkfifo(path)  # reading it would wait for ever
    again(small, stored, 1, "chunk-000003.labels is damaged")


def test_what_killed_processes_left_is_removed(small, stored):
    left = stored[2] / ".chunk-000000.labels.99999999.tmp"  # no process has that number
    left.write_bytes(b"half")
    again(small, stored, 0, None)
    assert not left.exists()


def test_store_that_cannot_be_used(small, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"The store .* cannot be used"):
        label(small, small.select([3]), CONFIG, store=tmp_path / "file")
    with pytest.raises(UserError, match="chunk_steps is at least 1"):
        label(small, small.select([3]), CONFIG, chunk_steps=0)


def test_a_method_that_fails_at_once_leaves_no_folder(small, tmp_path, monkeypatch):
    other = small.replace(observations=np.ones((small.num_steps, 3), np.float32), final_observations=None)
    with pytest.raises(UserError, match="the same environment"):
        label(small, other, CONFIG, store=tmp_path / "new" / "store")
    monkeypatch.setattr("otr.labellers.transport.FittedTransport.label", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        label(small, small.select([3]), CONFIG, store=tmp_path / "new" / "store")
    assert list(tmp_path.iterdir()) == []
