"""Levels as data: drawings, checks of what comes from outside, packing, and the stored sets."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minimax_ued.data import HELD_OUT, held_out_levels
from minimax_ued.data.make import draw
from minimax_ued.envs.maze import Level, check_level, pack_levels, pad_level, paths, stack_levels, unpack_levels
from minimax_ued.envs.maze.fixed import FIXED_MAZES
from minimax_ued.envs.maze.suite import TEST_MAZES, get_test_maze
from outerloop.errors import UserError

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
    assert pack_levels(jax.tree.map(lambda leaf: leaf[0], held_out_levels("maze13"))).nbytes == 27
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


path_lengths = jax.jit(jax.vmap(paths.shortest_path))

#: name -> walls, T and the lengths of the shortest paths.
TABLE = {
    "SixteenRooms": (46, 450, {20}),
    "SixteenRooms2": (53, 450, {22}),
    "Labyrinth": (72, 450, {96}),
    "LabyrinthFlipped": (72, 450, {96}),
    "Labyrinth2": (72, 450, {96}),
    "StandardMaze": (73, 450, {40}),
    "StandardMaze2": (72, 450, {56}),
    "StandardMaze3": (71, 450, {39}),
    "SmallCorridor": (71, 450, set(range(13, 22, 2))),
    "LargeCorridor": (161, 882, set(range(19, 34, 2))),
}


@pytest.mark.parametrize("name", TABLE)
def test_fixed_mazes_are_the_published_ones(name):
    n_walls, max_steps, lengths = TABLE[name]
    levels, test = FIXED_MAZES[name].levels, TEST_MAZES[name]
    for i in range(len(levels.agent_dir)):
        check_level(jax.tree.map(lambda leaf: leaf[i], levels), test.height, test.width)  # noqa: B023
    assert levels.wall_map[0].sum() == n_walls
    assert test.max_steps == max_steps
    assert set(np.asarray(path_lengths(levels)).tolist()) == lengths


def test_corridors_draw_each_goal_and_no_other():
    for name, columns in (("SmallCorridor", range(2, 11, 2)), ("LargeCorridor", range(2, 17, 2))):
        maze = TEST_MAZES[name]
        middle = maze.height // 2
        drawn = jax.jit(jax.vmap(maze.sample_level))(jax.random.split(jax.random.key(0), 200))
        goals = {tuple(goal) for goal in np.asarray(drawn.goal_pos).tolist()}
        assert goals == {(x, y) for x in columns for y in (middle - 1, middle + 1)}


def test_an_unknown_maze_is_answered_with_the_nearest():
    with pytest.raises(UserError, match="did you mean 'Labyrinth2'"):
        get_test_maze("Labirinth2")


@pytest.mark.parametrize(("name", "n", "size"), [("maze7", 600, 7), ("maze13", 1000, 13)])
def test_held_out_levels_are_solvable_different_and_the_hard_ones_the_longest(name, n, size):
    levels, hard = held_out_levels(name), held_out_levels(f"{name}-hard")
    assert levels.wall_map.shape == (n, size, size)
    assert hard.wall_map.shape == (100, size, size)
    for i in range(0, n, 25):
        check_level(jax.tree.map(lambda leaf: leaf[i], levels))  # noqa: B023
    assert len(np.unique(pack_levels(levels), axis=0)) == n
    fewest = jax.jit(jax.vmap(paths.min_actions))
    actions, hard_actions = np.asarray(fewest(levels)), np.asarray(fewest(hard))
    assert actions.min() > 0
    assert hard_actions.tolist() == np.sort(actions)[::-1][:100].tolist()
    # Drawn from the generator's distribution: occupancy of n_walls draws, agent and goal cells kept free.
    cells, draws = size * size, HELD_OUT[name].n_walls
    assert abs(levels.wall_map.sum((1, 2)).mean() - cells * (1 - (1 - 1 / cells) ** draws)) < 0.35


def test_the_stored_levels_can_be_drawn_again_in_kind():
    entry = HELD_OUT["maze7"]
    levels, hard = draw(entry)
    assert levels.wall_map.shape == (entry.n, 7, 7)
    assert hard.shape == (entry.n_hard,)
    assert np.asarray(path_lengths(levels)).min() > 0


def test_an_unknown_set_is_answered_with_the_nearest():
    with pytest.raises(UserError, match="did you mean 'maze7-hard'"):
        held_out_levels("maze7-hrad")
