"""Test mazes that are redrawn, against a textbook algorithm, networkx and the generators of MiniGrid."""

import functools
from collections import Counter

import jax
import networkx as nx
import numpy as np
import pytest
from scipy import stats

from minimax_ued.config import MazeConfig
from minimax_ued.envs.maze import check_level, paths
from minimax_ued.levels import procedural
from minimax_ued.levels.suite import TEST_MAZES


@functools.partial(jax.jit, static_argnums=(0, 1))
def draw(sample, n, key):
    levels = jax.vmap(sample)(jax.random.split(key, n))
    return levels, jax.vmap(paths.shortest_path)(levels)


def chi_square(values, n):
    return stats.chisquare(np.bincount(values, minlength=n)).pvalue


def same_distribution(ours, theirs):
    """The p-value of a chi-square test that two samples of small integers are from one distribution."""
    values = sorted(set(ours) | set(theirs))
    table = np.array([[Counter(sample)[value] for value in values] for sample in (ours, theirs)])
    rare = table.sum(0) < 20
    table = np.concatenate([table[:, ~rare], table[:, rare].sum(1, keepdims=True)], axis=1)
    return stats.chi2_contingency(table[:, table.sum(0) > 0]).pvalue


def depth_first(rng, size):
    """A perfect maze by the textbook's recursive walk, on Python sets."""
    side = size // 2 + 1
    stack = [tuple(rng.integers(side, size=2))]
    seen, free = set(stack), {(2 * stack[0][0], 2 * stack[0][1])}
    while stack:
        x, y = stack[-1]
        near = [(x + dx, y + dy) for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1))]
        near = [at for at in near if at not in seen and 0 <= at[0] < side and 0 <= at[1] < side]
        if not near:
            stack.pop()
            continue
        at = near[rng.integers(len(near))]
        seen.add(at)
        free |= {(2 * at[0], 2 * at[1]), (x + at[0], y + at[1])}
        stack.append(at)
    return walls_of(free, size)


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


def count_dead_ends(walls):
    open_ = np.pad(~np.asarray(walls), ((0, 0), (1, 1), (1, 1)))
    around = sum(np.roll(open_, shift, axis) for shift in (1, -1) for axis in (1, 2))
    return ((around == 1) & open_).sum((1, 2))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "oracle", "wrong", "size", "n_walls"),
    [("PerfectMaze", depth_first, kruskal, 13, 72), ("PerfectMazeSmallDCD", kruskal, depth_first, 9, 32)],
)
def test_perfect_mazes_are_those_of_their_algorithm(name, oracle, wrong, size, n_walls):
    levels, _ = jax.device_get(draw(TEST_MAZES[name].sample_level, 600, jax.random.key(15)))
    reached = np.asarray(jax.jit(jax.vmap(paths.distance_to_goal))(levels)) >= 0
    # A spanning tree: all free cells are joined, and there are as many as rooms and passages.
    assert (levels.wall_map.sum((1, 2)) == n_walls).all()
    assert (reached == ~levels.wall_map).all()
    rng = np.random.default_rng(0)
    theirs = np.stack([oracle(rng, size) for _ in range(600)])
    other = np.stack([wrong(rng, size) for _ in range(100)])
    # The number of dead ends tells the algorithms apart: Kruskal's has about twice as many.
    ours, theirs, other = map(count_dead_ends, (levels.wall_map, theirs, other))
    assert stats.ttest_ind(ours, theirs).pvalue > 1e-4
    assert stats.ttest_ind(ours, other).pvalue < 1e-20


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
def test_four_rooms_have_four_doors():
    for in_doors in (False, True):
        sample = functools.partial(procedural.four_rooms, in_doors=in_doors)
        levels, _ = jax.device_get(draw(sample, 2000, jax.random.key(16)))
        walls = levels.wall_map
        assert (walls.sum((1, 2)) == 29).all()
        rows, columns = ~walls[:, 8], ~walls[:, :, 8]
        for doors in (rows[:, :8], rows[:, 9:], columns[:, :8], columns[:, 9:]):
            assert (doors.sum(1) == 1).all()
            assert chi_square(doors.argmax(1), 8) > 1e-4
        for pos in (levels.agent_pos, levels.goal_pos):
            # 4 of the 260 free cells are doors.
            found = int((pos == 8).any(1).sum())
            assert stats.binomtest(found, 2000, 4 / 260).pvalue > 1e-4 if in_doors else found == 0


def test_crossings_can_be_walked_straight_through():
    levels, lengths = jax.device_get(draw(procedural.crossing, 4000, jax.random.key(17)))
    walls = levels.wall_map
    assert (lengths == 16).all()
    # Even rows and columns are never walls; a line that is one has at most a few openings left.
    assert not walls[:, ::2, ::2].any()
    rows, columns = (walls[:, 1::2].sum(2) >= 5).sum(1), (walls[:, :, 1::2].sum(1) >= 5).sum(1)
    # minimax: r of 5 lines are rows, drawn from 4 rows and 4 columns; then 4 of 8 places, of which 2 r hold a wall.
    split = stats.hypergeom(8, 4, 5).pmf(range(5))
    expected = np.zeros((5, 5))
    for r in range(1, 5):
        expected += split[r] * np.outer(*(stats.hypergeom(8, 2 * n, 4).pmf(range(5)) for n in (r, 5 - r)))
    assert expected.sum() == pytest.approx(1)
    found = np.zeros((5, 5))
    np.add.at(found, (rows, columns), 1)
    assert ((found > 0) <= (expected > 0)).all()
    often, rare = len(walls) * expected >= 8, (expected > 0) & (len(walls) * expected < 8)
    counts, means = (np.append(x[often], x[rare].sum()) for x in (found, len(walls) * expected))
    assert stats.chisquare(counts, means).pvalue > 1e-4
    totals = rows + columns
    assert (totals.min(), totals.max()) == (2, 8)


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


def path_length(walls, agent, goal):
    graph = nx.grid_2d_graph(*walls.shape)
    graph.remove_nodes_from([(int(x), int(y)) for y, x in np.argwhere(walls)])
    return nx.shortest_path_length(graph, agent, goal)


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
        # size, T and whether walls are transparent, as in the older code; None is as in training
        "FourRoomsDCD": (17, 100, False),
        "CrossingDCD": (9, 484, False),
        "PerfectMazeSmallDCD": (9, 242, True),
        "PerfectMazeMediumDCD": (19, 882, True),
        "PerfectMazeLargeDCD": (49, 5202, True),
        "PerfectMazeXLDCD": (99, 20402, True),
        "FourRooms": (17, 250, None),
        "Crossing": (9, 484, None),
        "PerfectMazeMedium": (19, 882, None),
        "PerfectMazeXL": (101, 21218, None),
    }
    training = MazeConfig(view_size=7)
    for name, (size, max_steps, see_through) in rules.items():
        config = TEST_MAZES[name].environment(training)
        assert (config.height, config.width, config.max_steps, config.view_size) == (size, size, max_steps, 7)
        assert config.see_through_walls == (see_through is not False)
        assert TEST_MAZES[name].see_through_walls is see_through
    assert not TEST_MAZES["PerfectMazeMedium"].environment(MazeConfig(see_through_walls=False)).see_through_walls


def test_the_largest_maze_can_be_drawn():
    levels, lengths = jax.device_get(draw(TEST_MAZES["PerfectMazeXLDCD"].sample_level, 1, jax.random.key(20)))
    check_level(jax.tree.map(lambda leaf: leaf[0], levels), 99, 99)
    assert levels.wall_map.sum() == 99 * 99 - (2500 + 2499)  # rooms and passages are free
    assert lengths[0] >= 98
