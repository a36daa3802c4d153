"""ACCEL's edits of mazes: valid whatever they hit, and distributed as their rules say, outcome by outcome."""

import functools
from collections import Counter
from fractions import Fraction
from itertools import product

import jax
import numpy as np
import pytest
from scipy import stats

from minimax_ued.config import MazeConfig
from minimax_ued.envs.maze import MUTATIONS, Level, Maze, check_level, register_mutation

OPERATORS = ("move_goal_flip_walls", "dcd")


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def mutate_random(name, n_edits, env, n, key):
    level_key, key = jax.random.split(key)
    levels = jax.vmap(env.sample_level)(jax.random.split(level_key, n))
    edit = functools.partial(env.mutations[name], n_edits=n_edits)
    return levels, jax.vmap(edit)(jax.random.split(key, n), levels)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def mutate_one(name, n_edits, n, level, key):
    edit = functools.partial(MUTATIONS[name], level=level, n_edits=n_edits)
    return jax.vmap(edit)(jax.random.split(key, n))


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize(
    ("height", "width", "n_walls", "n_edits"),
    [(13, 13, 60, 20), *(pytest.param(*size, marks=pytest.mark.slow) for size in ((1, 2, 0, 20), (3, 40, 100, 5)))],
)
def test_a_mutation_of_a_valid_level_is_one(name, height, width, n_walls, n_edits):
    env = Maze(MazeConfig(height=height, width=width, n_walls=n_walls))
    before, after = jax.device_get(mutate_random(name, n_edits, env, 200, jax.random.key(width)))
    for i in range(200):
        check_level(jax.tree.map(lambda leaf: leaf[i], after), height, width)  # noqa: B023
    flipped = (before.wall_map != after.wall_map).sum((1, 2))
    # An edit changes one cell; by dcd's rule the goal or the agent that is put elsewhere takes a free one.
    assert flipped.max() <= n_edits
    assert np.array_equal(before.agent_dir, after.agent_dir)
    if name == "move_goal_flip_walls":
        assert np.array_equal(before.agent_pos, after.agent_pos)
    elif height * width > 2:
        assert (before.agent_pos != after.agent_pos).any()
    if height * width > 2:
        assert flipped.any()
        assert (before.goal_pos != after.goal_pos).any()
    elif name == "move_goal_flip_walls":
        # There is nothing but the agent and the goal.
        assert not flipped.any()
        assert np.array_equal(before.goal_pos, after.goal_pos)


@pytest.mark.slow
@pytest.mark.parametrize("name", OPERATORS)
def test_no_edits_change_nothing(name):
    level = Level.from_text(">.#\n..G")
    assert check_level(MUTATIONS[name](jax.random.key(0), level, 0)).to_text() == level.to_text()


@pytest.mark.slow
def test_two_thirds_of_the_edits_have_an_effect():
    before, after = jax.device_get(mutate_random("move_goal_flip_walls", 1, Maze(), 6000, jax.random.key(1)))
    flips = (before.wall_map != after.wall_map).sum((1, 2))
    moves = (before.goal_pos != after.goal_pos).any(1)
    assert set(flips) == {0, 1}
    assert not (flips & moves).any()
    for count in (flips.sum(), moves.sum()):
        assert stats.binomtest(int(count), 6000, 1 / 3).pvalue > 1e-4
    # Twenty edits, from the empty maze: each toggles one of 167 cells with probability 1/3, and those toggled an odd
    # number of times are walls. That the goal moves matters at the third digit only.
    empty = Maze(MazeConfig(n_walls=0))
    after = jax.device_get(mutate_random("move_goal_flip_walls", 20, empty, 4000, jax.random.key(2))[1])
    walls = after.wall_map.sum((1, 2))
    expected = 167 * (1 - (1 - 2 / (3 * 167)) ** 20) / 2
    assert abs(walls.mean() - expected) < 4 * walls.std() / np.sqrt(4000) + 0.05


# The exact distributions, by going through every outcome of the rules as they are written down. A level is (walls,
# goal, agent) with cells numbered row by row.


def minimax_edits(level, cells, n_edits):
    """Outcome -> probability of sequential edits: nothing, flip a wall, or move the goal, 1/3 each."""
    outcomes = {level: Fraction(1)}
    for _ in range(n_edits):
        following = Counter()
        for (walls, goal, agent), p in outcomes.items():
            following[walls, goal, agent] += p / 3
            flips = [cell for cell in range(cells) if cell not in (goal, agent)]
            for cell in flips:
                following[walls ^ {cell}, goal, agent] += p / 3 / len(flips)
            places = [cell for cell in flips if cell not in walls] or [goal]
            for cell in places:
                following[walls, cell, agent] += p / 3 / len(places)
        outcomes = following
    return outcomes


def dcd_edits(level, cells, n_edits):
    """Outcome -> probability of edits at unique cells, as a list of what is drawn: (cells, what each becomes)."""
    outcomes = Counter()
    for drawn in product(range(cells), repeat=n_edits):
        unique = list(dict.fromkeys(drawn))
        p = Fraction(1, cells**n_edits) / 3 ** len(unique)
        for kinds in product(("wall", "empty", "goal"), repeat=len(unique)):
            walls, goal, agent = level
            for cell, kind in zip(unique, kinds, strict=True):
                walls, goal, agent = walls - {cell}, goal if goal != cell else None, agent if agent != cell else None
                if kind == "wall":
                    walls |= {cell}
                elif kind == "goal":
                    goal = cell
            free = [cell for cell in range(cells) if cell not in walls and cell not in (goal, agent)]
            missing = (goal is None) + (agent is None)
            if len(free) < missing:
                outcomes[level] += p
                continue
            goals = [goal] if goal is not None else free
            for new_goal in goals:
                agents = [agent] if agent is not None else [cell for cell in free if cell != new_goal]
                for new_agent in agents:
                    outcomes[walls, new_goal, new_agent] += p / len(goals) / len(agents)
    return outcomes


@pytest.mark.slow
@pytest.mark.parametrize(("name", "rule"), [("move_goal_flip_walls", minimax_edits), ("dcd", dcd_edits)])
@pytest.mark.parametrize("text", [">.#\n..G", "#>G\n###"])
def test_every_outcome_is_as_likely_as_the_rule_says(name, rule, text):
    n = 30_000
    level = Level.from_text(text)
    cell = lambda pos: int(pos[1] * 3 + pos[0])  # noqa: E731
    start = frozenset(np.flatnonzero(level.wall_map).tolist()), cell(level.goal_pos), cell(level.agent_pos)
    expected = rule(start, 6, 2)
    assert sum(expected.values()) == 1
    after = jax.device_get(mutate_one(name, 2, n, level, jax.random.key(3)))
    seen = Counter(
        (frozenset(np.flatnonzero(walls).tolist()), cell(goal), cell(agent))
        for walls, goal, agent in zip(after.wall_map, after.goal_pos, after.agent_pos, strict=True)
    )
    assert set(seen) <= set(expected)
    # Rare outcomes are put together, so that the chi-square distribution holds.
    counts, means, rest = [], [], [0, 0.0]
    for outcome, p in expected.items():
        if n * p >= 10:
            counts.append(seen[outcome])
            means.append(n * float(p))
        else:
            rest[0] += seen[outcome]
            rest[1] += n * float(p)
    if rest[1] >= 10:
        counts.append(rest[0])
        means.append(rest[1])
    means = np.array(means) * sum(counts) / sum(means)
    assert len(counts) >= 15
    assert stats.chisquare(counts, means).pvalue > 1e-4


def test_a_new_mutation_is_one_decorated_function():
    try:

        @register_mutation("turn")
        def turn(key, level, n_edits):
            del key
            return level.replace(agent_dir=(level.agent_dir + n_edits) % 4)

        level = Level.from_text(">G")
        assert Maze().mutations["turn"](jax.random.key(0), level, 3).to_text() == "^G"
        assert set(OPERATORS) < set(Maze().mutations)
    finally:
        del MUTATIONS["turn"]
