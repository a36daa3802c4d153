"""Levels in files: what goes in comes out, and what is wrong is said of the level that is wrong."""

import io

import numpy as np
import pytest

from minimax_ued.data import held_out_levels
from minimax_ued.level_files import load_levels, save_levels
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
        (b"PK\x03\x04rubbish", "no intact .npz"),
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


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match=r"none\.txt cannot be read"):
        load_levels(tmp_path / "none.txt")
