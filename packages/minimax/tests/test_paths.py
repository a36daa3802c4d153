"""Shortest paths against networkx, over cells and over poses."""

import jax
import networkx as nx
import numpy as np
import pytest

from minimax_ued.envs.maze import Level, check_level, pad_level, paths
from minimax_ued.envs.maze.random_levels import sample_level
from minimax_ued.levels.fixed import FIXED_MAZES
from minimax_ued.levels.suite import TEST_MAZES

MOVES = [(1, 0), (0, 1), (-1, 0), (0, -1)]


def distances_by_networkx(level):
    """Distances to the goal: over cells {(x, y)}, and in actions over poses {(x, y, direction)}."""
    height, width = level.wall_map.shape
    goal = tuple(level.goal_pos.tolist())
    free = {(x, y) for x in range(width) for y in range(height) if not level.wall_map[y, x]}
    cells, poses = nx.Graph(), nx.DiGraph()
    cells.add_nodes_from(free)
    poses.add_node("goal")
    for x, y in free:
        for direction, (dx, dy) in enumerate(MOVES):
            ahead = (x + dx, y + dy)
            if ahead in free:
                cells.add_edge((x, y), ahead)
            if (x, y) == goal:
                continue  # the episode is over there
            for turned in ((direction + 1) % 4, (direction - 1) % 4):
                poses.add_edge((x, y, turned), (x, y, direction))
            if ahead in free:
                poses.add_edge("goal" if ahead == goal else (*ahead, direction), (x, y, direction))
    # Edges of `poses` lead backwards, so that one search from the goal serves every pose.
    return nx.single_source_shortest_path_length(cells, goal), nx.single_source_shortest_path_length(poses, "goal")


@pytest.mark.parametrize(
    ("height", "width", "n_walls", "n"),
    [
        pytest.param(13, 13, 60, 1000, marks=pytest.mark.slow),
        (7, 7, 20, 300),
        pytest.param(5, 40, 60, 100, marks=pytest.mark.slow),
    ],
)
def test_equals_networkx_on_random_mazes(height, width, n_walls, n):
    @jax.jit
    @jax.vmap
    def both(key):
        level = sample_level(key, height=height, width=width, n_walls=n_walls)
        single = paths.shortest_path(level), paths.solvable(level), paths.min_actions(level)
        return level, single, paths.optimal_return(level, 40)

    results = jax.device_get(both(jax.random.split(jax.random.key(n), n)))
    unsolvable = 0
    for i in range(n):
        level, (shortest, solvable, actions), best = jax.tree.map(lambda leaf: leaf[i], results)  # noqa: B023
        by_cell, by_pose = distances_by_networkx(level)
        cell = tuple(level.agent_pos.tolist())
        assert shortest == by_cell.get(cell, -1)
        assert solvable == (shortest >= 0)
        assert actions == by_pose.get((*cell, int(level.agent_dir)), -1)
        in_time = 0 < actions <= 40
        assert best == pytest.approx(1 - 0.9 * actions / 40 if in_time else 0, abs=1e-6)
        unsolvable += not solvable
    assert 0 < unsolvable < n


@jax.jit
def solve(level, max_steps=100):
    best = paths.optimal_return(level, max_steps)
    return paths.shortest_path(level), paths.min_actions(level), paths.solvable(level), best


def test_turns_are_counted_by_hand():
    # Two moves right, a turn down, two moves down.
    level = Level.from_text(">..\n##.\n##G")
    assert solve(level, 10)[:3] == (4, 5, True)
    assert solve(level, 10)[3] == pytest.approx(0.55)
    assert solve(level, 5)[3] == pytest.approx(0.1)
    assert solve(level, 4)[3] == 0
    # The same, but facing left: two more turns to turn around.
    assert solve(level.replace(agent_dir=np.int32(2)))[1] == 7
    closed = Level.from_text(">#G\n##.\n...")
    assert solve(closed) == (-1, -1, False, 0)


#: name -> walls, T and the lengths of the shortest paths: the published mazes.
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


@pytest.mark.parametrize("name", FIXED_MAZES)
def test_fixed_mazes_are_the_published_ones_and_solved_as_networkx_does(name):
    n_walls, max_steps, lengths = TABLE[name]
    levels, test = FIXED_MAZES[name].levels, TEST_MAZES[name]
    assert levels.wall_map[0].sum() == n_walls
    assert test.max_steps == max_steps
    shortest, actions, solvable, best = jax.vmap(solve, (0, None))(levels, max_steps)
    assert set(shortest.tolist()) == lengths
    assert solvable.all()
    for i in range(len(levels.agent_dir)):
        level = check_level(jax.tree.map(lambda leaf: leaf[i], levels), test.height, test.width)  # noqa: B023
        by_cell, by_pose = distances_by_networkx(level)
        assert shortest[i] == by_cell[tuple(level.agent_pos.tolist())]
        assert actions[i] == by_pose[(*level.agent_pos.tolist(), int(level.agent_dir))]
        assert best[i] == pytest.approx(1 - 0.9 * int(actions[i]) / max_steps, abs=1e-6)


@pytest.mark.slow
def test_corridors_draw_each_goal_and_no_other():
    for name, columns in (("SmallCorridor", range(2, 11, 2)), ("LargeCorridor", range(2, 17, 2))):
        maze = TEST_MAZES[name]
        middle = maze.height // 2
        drawn = jax.jit(jax.vmap(maze.sample_level))(jax.random.split(jax.random.key(0), 200))
        goals = {tuple(goal) for goal in np.asarray(drawn.goal_pos).tolist()}
        assert goals == {(x, y) for x in columns for y in (middle - 1, middle + 1)}


@pytest.mark.slow
def test_labyrinth_and_padding():
    level = jax.tree.map(lambda leaf: leaf[0], FIXED_MAZES["Labyrinth"].levels)
    assert paths.min_actions(level) == 113  # 96 moves and 17 turns
    assert paths.min_actions(pad_level(level, 15, 33)) == 113
