"""The test mazes of the older code, against networkx and the generators of MiniGrid."""

import dataclasses
import functools
from collections import Counter

import jax
import networkx as nx
import numpy as np
import pytest
from scipy import stats

from benchmarks.minimax_dcd_mazes import DCD_MAZES, OOD_MAZES_DCD, four_rooms_in_doors
from minimax_ued import PRESETS, OODMazes, StudentConfig, UEDTrainer
from minimax_ued.config import LSTMConfig, MazeConfig
from minimax_ued.envs.maze import check_level, paths
from minimax_ued.levels.suite import OOD_MAZES, TEST_MAZES


@functools.partial(jax.jit, static_argnums=(0, 1))
def draw(sample, n, key):
    levels = jax.vmap(sample)(jax.random.split(key, n))
    return levels, jax.vmap(paths.shortest_path)(levels)


def same_distribution(ours, theirs):
    """The p-value of a chi-square test that two samples of small integers are from one distribution."""
    values = sorted(set(ours) | set(theirs))
    table = np.array([[Counter(sample)[value] for value in values] for sample in (ours, theirs)])
    rare = table.sum(0) < 20
    table = np.concatenate([table[:, ~rare], table[:, rare].sum(1, keepdims=True)], axis=1)
    return stats.chi2_contingency(table[:, table.sum(0) > 0]).pvalue


def kruskal(rng, size):
    """A perfect maze by networkx: the spanning tree of least weight, with random weights."""
    graph = nx.grid_2d_graph(size // 2 + 1, size // 2 + 1)
    for edge in graph.edges:
        graph.edges[edge]["weight"] = rng.random()
    tree = nx.minimum_spanning_tree(graph, algorithm="kruskal")
    free = {(2 * x, 2 * y) for x, y in tree} | {(a[0] + b[0], a[1] + b[1]) for a, b in tree.edges}
    return walls_of(free, size)


def walls_of(free, size):
    walls = np.ones((size, size), bool)
    for x, y in free:
        walls[y, x] = False
    return walls


def free_cells(walls):
    graph = nx.grid_2d_graph(*walls.shape)
    graph.remove_nodes_from([(int(y), int(x)) for y, x in np.argwhere(walls)])
    return graph


def path_length(walls, agent, goal):
    return nx.shortest_path_length(free_cells(walls.T), agent, goal)


def count_dead_ends(walls):
    open_ = np.pad(~np.asarray(walls), ((0, 0), (1, 1), (1, 1)))
    around = sum(np.roll(open_, shift, axis) for shift in (1, -1) for axis in (1, 2))
    return ((around == 1) & open_).sum((1, 2))


@pytest.mark.slow
def test_perfect_mazes_are_those_of_kruskal():
    levels, _ = jax.device_get(draw(TEST_MAZES["PerfectMazeSmallDCD"].sample_level, 600, jax.random.key(15)))
    for walls in levels.wall_map[:50]:  # a spanning tree: all free cells are joined, by as few as can be
        assert nx.is_tree(free_cells(walls))
    rng = np.random.default_rng(0)
    ours, theirs = count_dead_ends(levels.wall_map), count_dead_ends(np.stack([kruskal(rng, 9) for _ in range(600)]))
    assert stats.ttest_ind(ours, theirs).pvalue > 1e-4


@pytest.mark.slow
def test_kruskal_mazes_go_from_corner_to_corner():
    maze = TEST_MAZES["PerfectMazeSmallDCD"]
    levels, lengths = jax.device_get(draw(maze.sample_level, 600, jax.random.key(15)))
    corners = {(x, y): i for i, (x, y) in enumerate([(0, 0), (8, 0), (0, 8), (8, 8)])}
    agents, goals = ([corners[tuple(pos)] for pos in poses.tolist()] for poses in (levels.agent_pos, levels.goal_pos))
    pairs = np.array([4 * agent + goal for agent, goal in zip(agents, goals, strict=True)])
    assert set(pairs) == set(range(16)) - {0, 5, 10, 15}
    assert stats.chisquare(np.unique(pairs, return_counts=True)[1]).pvalue > 1e-4
    assert (levels.agent_dir == 0).all()
    # Paths are as long as in networkx's trees, between the same corners.
    rng = np.random.default_rng(1)
    theirs = []
    for agent, goal in zip(levels.agent_pos.tolist(), levels.goal_pos.tolist(), strict=True):
        walls = kruskal(rng, 9)
        theirs.append(path_length(walls, tuple(agent), tuple(goal)))
    assert same_distribution(lengths.tolist(), theirs) > 1e-4


@pytest.mark.slow
def test_agent_and_goal_stand_in_doors_too():
    levels, _ = jax.device_get(draw(four_rooms_in_doors, 2000, jax.random.key(16)))
    for pos in (levels.agent_pos, levels.goal_pos):  # 4 of the 260 free cells are doors
        assert stats.binomtest(int((pos == 8).any(1).sum()), 2000, 4 / 260).pvalue > 1e-4


@pytest.mark.slow
def test_variants_keep_their_own_rules():
    """FourRooms of dcd ends after 100 steps instead of 250, and its walls hide what is behind them."""
    config = dataclasses.replace(
        PRESETS["small"], student=StudentConfig(core=LSTMConfig(features=4), head_width=4, conv_filters=2)
    )
    trainer = UEDTrainer(config)
    mazes = OODMazes(trainer, ["FourRooms", "FourRoomsDCD"], n_episodes=20)
    lengths = {name: int(episodes.lengths.max()) for name, episodes in mazes.episodes(trainer.init(0), 0).items()}
    assert lengths == {"FourRooms": 250, "FourRoomsDCD": 100}


@pytest.fixture(scope="module")
def minigrid_levels():
    """Maps, agents and goals of MiniGrid's own generators, without the outer wall: name -> lists."""
    envs = pytest.importorskip("minigrid.envs", reason="the oracle is the package minigrid (extra: test)")
    from minigrid.core.world_object import Goal, Wall

    def levels(env, n):
        for _ in range(n):
            env.reset()
            size = env.grid.width - 2
            cells = [[env.grid.get(x + 1, y + 1) for x in range(size)] for y in range(size)]
            walls = np.array([[isinstance(cell, Wall) for cell in row] for row in cells])
            ((goal_y, goal_x),) = np.argwhere([[isinstance(cell, Goal) for cell in row] for row in cells])
            agent = tuple(int(value) - 1 for value in env.agent_pos)
            yield walls, agent, (int(goal_x), int(goal_y)), int(env.agent_dir)

    crossing = envs.CrossingEnv(size=11, num_crossings=5, obstacle_type=Wall)
    crossing.reset(seed=0)
    rooms = envs.FourRoomsEnv()
    rooms.reset(seed=0)
    return {"CrossingDCD": list(levels(crossing, 1500)), "FourRoomsDCD": list(levels(rooms, 400))}


@pytest.mark.slow
def test_crossings_by_room_are_minigrids(minigrid_levels):
    maze = TEST_MAZES["CrossingDCD"]
    levels, lengths = jax.device_get(draw(maze.sample_level, 4000, jax.random.key(18)))
    theirs = minigrid_levels["CrossingDCD"]
    assert {(agent, goal, direction) for _, agent, goal, direction in theirs} == {((0, 0), (8, 8), 0)}
    assert (levels.agent_pos == 0).all()
    assert (levels.goal_pos == 8).all()
    assert (levels.agent_dir == 0).all()
    their_walls = np.stack([walls for walls, *_ in theirs])

    # Which lines are walls (each has one opening), how many walls there are, where each cell is wall, and how long the
    # shortest path is.
    ours, other = lines_of(levels.wall_map), lines_of(their_walls)
    assert {code.bit_count() for code in ours + other} == {5}
    assert same_distribution(ours, other) > 1e-4
    assert not levels.wall_map[:, ::2, ::2].any()
    ours, other = levels.wall_map.sum((1, 2)), their_walls.sum((1, 2))
    assert same_distribution(ours.tolist(), other.tolist()) > 1e-4
    shares = levels.wall_map.mean(0), their_walls.mean(0)
    error = np.sqrt(np.maximum(shares[1] * (1 - shares[1]), 1e-4) * (1 / 4000 + 1 / 1500))
    assert (np.abs(shares[0] - shares[1]) < 4.5 * error).all()
    their_lengths = [path_length(walls, (0, 0), (8, 8)) for walls in their_walls[:1000]]
    assert same_distribution(lengths.tolist(), their_lengths) > 1e-4
    assert (lengths > 16).any()  # unlike the generator of minimax


def lines_of(walls):
    """Codes of the odd rows and columns that are walls."""
    rows, columns = (walls[:, 1::2].sum(2) == 8).astype(int), (walls[:, :, 1::2].sum(1) == 8).astype(int)
    return (rows @ (1, 2, 4, 8) + columns @ (16, 32, 64, 128)).tolist()


@pytest.mark.slow
def test_four_rooms_of_the_older_code_are_minigrids(minigrid_levels):
    levels, _ = jax.device_get(draw(TEST_MAZES["FourRoomsDCD"].sample_level, 2000, jax.random.key(19)))
    theirs = minigrid_levels["FourRoomsDCD"]
    their_walls = np.stack([walls for walls, *_ in theirs])
    assert (their_walls.sum((1, 2)) == 29).all()
    shares = levels.wall_map.mean(0), their_walls.mean(0)
    assert np.array_equal(shares[0] == 0, shares[1] == 0)  # doors are in the same places
    error = np.sqrt(np.maximum(shares[0] * (1 - shares[0]), 1e-4) * (1 / 2000 + 1 / 400))
    assert (np.abs(shares[0] - shares[1]) < 4.5 * error).all()
    for i, poses in ((1, levels.agent_pos), (2, levels.goal_pos)):
        ours = [int(x) for x in poses[:, 0]]
        assert same_distribution(ours, [level[i][0] for level in theirs]) > 1e-4
    assert same_distribution(levels.agent_dir.tolist(), [level[3] for level in theirs]) > 1e-4


def test_the_variants_of_the_older_code_have_its_rules():
    rules = {
        # size, T and whether walls are transparent, as in the older code
        "FourRoomsDCD": (17, 100, False),
        "CrossingDCD": (9, 484, False),
        "PerfectMazeSmallDCD": (9, 242, True),
        "PerfectMazeMediumDCD": (19, 882, True),
        "PerfectMazeLargeDCD": (49, 5202, True),
        "PerfectMazeXLDCD": (99, 20402, True),
    }
    training = MazeConfig(view_size=7)
    for name, (size, max_steps, see_through) in rules.items():
        config = TEST_MAZES[name].environment(training)
        assert (config.height, config.width, config.max_steps, config.view_size) == (size, size, max_steps, 7)
        assert config.see_through_walls is see_through
    assert [*rules] == [*DCD_MAZES]
    assert len(set(OOD_MAZES_DCD) - set(OOD_MAZES)) == 3


def test_the_largest_maze_can_be_drawn():
    levels, lengths = jax.device_get(draw(TEST_MAZES["PerfectMazeXLDCD"].sample_level, 1, jax.random.key(20)))
    check_level(jax.tree.map(lambda leaf: leaf[0], levels), 99, 99)
    assert levels.wall_map.sum() == 99 * 99 - (2500 + 2499)  # rooms and passages are free
    assert lengths[0] >= 98
