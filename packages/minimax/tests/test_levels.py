"""Levels as data: drawings, checks of what comes from outside, and packing."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minimax_ued.envs.maze import Level, check_level, pack_levels, pad_level, stack_levels, unpack_levels
from minimax_ued.levels.suite import get_test_maze
from paperloop.errors import UserError

DRAWING = """\
>.#.
..#.
#..G"""


def equal(a, b):
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


@st.composite
def levels(draw):
    height, width = draw(st.integers(1, 20)), draw(st.integers(2, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    walls = rng.random((height, width)) < draw(st.floats(0, 1))
    cells = rng.permutation(height * width)[:2]
    walls.reshape(-1)[cells] = False
    goal, agent = (np.array([cell % width, cell // width]) for cell in cells)
    return check_level(Level(wall_map=walls, goal_pos=goal, agent_pos=agent, agent_dir=np.array(rng.integers(4))))


def test_a_drawing_means_what_it_shows():
    level = Level.from_text(DRAWING)
    assert level.wall_map.tolist() == [[False, False, True, False], [False, False, True, False], [True, *[False] * 3]]
    assert level.goal_pos.tolist() == [3, 2]
    assert level.agent_pos.tolist() == [0, 0]
    assert level.agent_dir == 0
    assert level.to_text() == DRAWING
    assert [int(Level.from_text(f"G{mark}").agent_dir) for mark in ">v<^"] == [0, 1, 2, 3]


@settings(max_examples=50, deadline=None)
@given(levels())
def test_text_and_bytes_round_trip(level):
    height, width = level.wall_map.shape
    assert equal(Level.from_text(level.to_text()), level)
    packed = pack_levels(level)
    assert packed.dtype == np.uint8
    assert packed.shape == (-(-height * width // 8) + 5,)
    assert equal(unpack_levels(packed, height, width), level)


def test_many_levels_stack_pad_and_pack():
    small = Level.from_text(DRAWING)
    padded = pad_level(small, 5, 6)
    assert padded.to_text().splitlines() == [">.#.##", "..#.##", "#..G##", "######", "######"]
    many = stack_levels([padded, padded.replace(agent_dir=np.int32(2))])
    assert many.wall_map.shape == (2, 5, 6)
    assert equal(unpack_levels(pack_levels(many), 5, 6), many)
    with pytest.raises(UserError, match="different sizes"):
        stack_levels([small, padded])
    with pytest.raises(UserError, match="no levels"):
        stack_levels([])
    with pytest.raises(UserError, match="cannot be padded to 2 by 9"):
        pad_level(small, 2, 9)
    with pytest.raises(UserError, match="uint8 with 7 bytes each"):
        unpack_levels(np.zeros(8, np.uint8), 3, 4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"goal_pos": np.array([0, 0])}, r"goal lies on the agent at \(x, y\) = \(0, 0\)"),
        ({"goal_pos": np.array([2, 1])}, r"goal_pos \(x, y\) = \(2, 1\) lies on a wall"),
        ({"agent_pos": np.array([2, 0])}, r"agent_pos \(x, y\) = \(2, 0\) lies on a wall"),
        ({"goal_pos": np.array([4, 0])}, "out of range; x runs from 0 to 3 and y from 0 to 2"),
        ({"agent_pos": np.array([0, -1])}, "out of range"),
        ({"agent_pos": np.array([0.0, 1.0])}, "pair of integers"),
        ({"agent_pos": np.array([0, 1, 2])}, "pair of integers"),
        ({"agent_dir": np.array(4)}, "agent_dir is 0"),
        ({"agent_dir": np.array(-1)}, "agent_dir is 0"),
        ({"wall_map": np.ones((3, 4), bool)}, "has 0 free"),
        ({"wall_map": np.zeros((3, 4))}, "boolean"),
        ({"wall_map": np.zeros((2, 3, 4), bool)}, r"shape \(height, width\)"),
        ({"wall_map": np.zeros((4, 3), bool)}, r"3 rows by 4 columns, but the level's wall_map has shape \(4, 3\)"),
    ],
)
def test_what_is_wrong_with_a_level_is_said_in_one_sentence(change, message):
    with pytest.raises(UserError, match=message) as error:
        check_level(Level.from_text(DRAWING).replace(**change), 3, 4)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("  \n ", "empty"),
        (">.G\n..", "Row 1 of the drawing of a maze has 2 cells"),
        (">.x", "'x' at x=2, y=0"),
        (">..", "0 cells with the goal"),
        (">G<", "2 cells with the agent"),
    ],
)
def test_a_bad_drawing_is_refused(text, message):
    with pytest.raises(UserError, match=message):
        Level.from_text(text)


def test_an_unknown_maze_is_answered_with_the_nearest():
    with pytest.raises(UserError, match='did you mean "Labyrinth2"'):
        get_test_maze("Labirinth2")
