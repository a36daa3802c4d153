"""Levels in files: what goes in comes out, and what is wrong is said of the level that is wrong."""

import io
import os
import re
import zipfile

import numpy as np
import pytest

from minimax_ued.levels.files import load_levels, save_levels
from minimax_ued.levels.held_out import held_out_levels
from paperloop.errors import UserError

TWO = """
>..#
.#.G

  v.#
  ..G
"""


def test_drawings(tmp_path):
    path = tmp_path / "levels.txt"
    path.write_text(TWO)
    levels = load_levels(path)
    assert levels.wall_map.shape == (2, 2, 4)
    assert levels.wall_map[1, :, 3].all()  # padded with walls to the size of the other
    assert levels.goal_pos.tolist() == [[3, 1], [2, 1]]
    assert levels.agent_dir.tolist() == [0, 1]


def test_npz_round_trip(tmp_path):
    levels = held_out_levels("maze7")
    path = save_levels(tmp_path / "new" / "levels.npz", levels)
    again = load_levels(path)
    for name in ("wall_map", "goal_pos", "agent_pos", "agent_dir"):
        np.testing.assert_array_equal(getattr(levels, name), getattr(again, name))
    assert [file.name for file in path.parent.iterdir()] == ["levels.npz"]


def npz(**changes):
    arrays = {
        "wall_map": np.zeros((2, 3, 3), bool),
        "goal_pos": np.array([[0, 0], [1, 1]]),
        "agent_pos": np.array([[2, 2], [2, 2]]),
        "agent_dir": np.array([0, 3]),
    }
    content = io.BytesIO()
    np.savez(content, **{name: array for name, array in (arrays | changes).items() if array is not None})
    return content.getvalue()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\n \n", "are empty"),
        (b">G\n\n>.", "Level 2 of .* 0 cells with the goal"),
        (b">G\n\n>G\n...", "Level 2 of .* Row 1 .* has 3 cells"),
        (b">G?", "Level 1 of .* has '\\?'"),
        (b"\xff\xfe\x00", "neither an .npz file nor text"),
        (b"PK\x03\x04rubbish", "not an intact .npz"),
        (npz(goal_pos=None), "lack the array 'goal_pos'"),
        (npz(agent_dir=np.array([0])), "arrays of one length"),
        (npz(wall_map=np.zeros((2, 3, 3))), "Level 1 of .* boolean"),
        (npz(agent_pos=np.array([[2, 2], [1, 1]])), "Level 2 of .* goal lies on the agent"),
        (npz(goal_pos=np.array([[0, 0], [3, 1]])), "Level 2 of .* out of range"),
        (npz(agent_dir=np.array([0, 4])), "Level 2 of .* agent_dir"),
    ],
)
def test_what_is_wrong_is_one_sentence(tmp_path, content, words):
    path = tmp_path / "levels"
    path.write_bytes(content)
    with pytest.raises(UserError, match=words) as error:
        load_levels(path)
    assert "\n" not in str(error.value)


def test_a_path_of_the_wrong_kind(tmp_path):
    with pytest.raises(UserError, match=r"none\.txt does not exist"):
        load_levels(tmp_path / "none.txt")
    with pytest.raises(UserError, match="is a folder"):
        load_levels(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="is a named pipe"):  # and does not wait for somebody to write
        load_levels(tmp_path / "pipe")


def member(header, data=b"", version=b"\x01\x00"):
    text = header.encode() + b"\n"
    size = len(text).to_bytes(4 if version == b"\x02\x00" else 2, "little")
    return b"\x93NUMPY" + version + size + text + data


HEADER = "{'descr': '%s', 'fortran_order': False, 'shape': %s}"


@pytest.mark.parametrize(
    ("name", "array", "words"),
    [
        ("wall_map", member(HEADER % ("|b1", "(2, 3, 3)"), b"\0" * 17), "not an intact"),
        ("goal_pos", member(HEADER % ("|O", "(2, 2)"), b"x" * 32), "not an intact"),  # never pickle
        ("goal_pos", member("{'descr': [[[[", b""), "not an intact"),
        ("agent_dir", b"", "one length"),
        ("agent_dir", member(HEADER % ("<c16", "(2,)"), b"\0" * 32), "agent_dir"),
        ("wall_map", member(HEADER % ("|b1", "()"), b"\0"), "one length"),
        ("wall_map", member(HEADER % ("|b1", "(2, 0, 3)")), "Level 1 of"),
    ],
)
def test_odd_arrays_are_refused(tmp_path, name, array, words):
    path, plain = tmp_path / "levels.npz", zipfile.ZipFile(io.BytesIO(npz()))
    with zipfile.ZipFile(path, "w") as archive:
        for other in plain.namelist():
            archive.writestr(other, array if other == f"{name}.npy" else plain.read(other))
    with pytest.raises(UserError, match=re.escape(words)) as error:
        load_levels(path)
    assert "\n" not in str(error.value)
