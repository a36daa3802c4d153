"""Test mazes that are redrawn, against textbook algorithms."""

import functools

import jax
import networkx as nx
import numpy as np
import pytest
from scipy import stats

from minimax_ued.config import MazeConfig
from minimax_ued.envs.maze import paths
from minimax_ued.levels import procedural
from minimax_ued.levels.suite import TEST_MAZES


@functools.partial(jax.jit, static_argnums=(0, 1))
def draw(sample, n, key):
    levels = jax.vmap(sample)(jax.random.split(key, n))
    return levels, jax.vmap(paths.shortest_path)(levels)


def chi_square(values, n):
    return stats.chisquare(np.bincount(values, minlength=n)).pvalue


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
def test_perfect_mazes_are_those_of_depth_first_search():
    levels, _ = jax.device_get(draw(TEST_MAZES["PerfectMaze"].sample_level, 600, jax.random.key(15)))
    for walls in levels.wall_map[:50]:  # a spanning tree: all free cells are joined, by as few as can be
        graph = nx.grid_2d_graph(*walls.shape)
        graph.remove_nodes_from([(int(y), int(x)) for y, x in np.argwhere(walls)])
        assert nx.is_tree(graph)
    rng = np.random.default_rng(0)
    theirs = np.stack([depth_first(rng, 13) for _ in range(600)])
    other = np.stack([kruskal(rng, 13) for _ in range(100)])
    # The number of dead ends tells the algorithms apart: Kruskal's has about twice as many.
    ours, theirs, other = map(count_dead_ends, (levels.wall_map, theirs, other))
    assert stats.ttest_ind(ours, theirs).pvalue > 1e-4
    assert stats.ttest_ind(ours, other).pvalue < 1e-20


@pytest.mark.slow
def test_four_rooms_have_four_doors():
    levels, _ = jax.device_get(draw(procedural.four_rooms, 2000, jax.random.key(16)))
    walls = levels.wall_map
    assert (walls.sum((1, 2)) == 29).all()
    rows, columns = ~walls[:, 8], ~walls[:, :, 8]
    for doors in (rows[:, :8], rows[:, 9:], columns[:, :8], columns[:, 9:]):
        assert (doors.sum(1) == 1).all()
        assert chi_square(doors.argmax(1), 8) > 1e-4
    for pos in (levels.agent_pos, levels.goal_pos):
        assert not (pos == 8).any()


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


def test_test_mazes_have_the_rules_of_minimax():
    rules = {  # size and T
        "FourRooms": (17, 250),
        "Crossing": (9, 484),
        "PerfectMazeMedium": (19, 882),
        "PerfectMazeXL": (101, 21218),
    }
    training = MazeConfig(view_size=7)
    for name, (size, max_steps) in rules.items():
        config = TEST_MAZES[name].environment(training)
        assert (config.height, config.width, config.max_steps, config.view_size) == (size, size, max_steps, 7)
    assert not TEST_MAZES["PerfectMazeMedium"].environment(MazeConfig(see_through_walls=False)).see_through_walls
