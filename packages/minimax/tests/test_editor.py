"""The teacher's editor against the rule written down in plain Python, step by step."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from minimax_ued.config import EditorConfig, MazeConfig
from minimax_ued.envs import EditorObservation, LevelEditor
from minimax_ued.envs.maze import Maze, MazeEditor, check_level
from paperloop.errors import UserError

N = 96  # episodes for each combination


@functools.partial(jax.jit, static_argnums=0)
def build(editor, key, actions):
    """States, observations and levels of B episodes; `actions` is [B, T]. States have one more step, the first."""

    def episode(key, actions):
        reset_key, key = jax.random.split(key)

        def body(state, inputs):
            key, action = inputs
            step_key, observe_key = jax.random.split(key)
            new = editor.step(step_key, state, action)
            return new, (state, editor.observe(observe_key, state))

        keys = jax.random.split(key, editor.num_steps)
        last, (states, observations) = jax.lax.scan(body, editor.reset(reset_key), (keys, actions))
        states = jax.tree.map(lambda all_, one: jnp.concatenate([all_, one[None]]), states, last)
        return states, observations, editor.level(last)

    return jax.vmap(episode)(jax.random.split(key, actions.shape[0]), actions)


def cells_of(bitmap, width):
    """The cells of a bitmap, numbered row by row."""
    bits = [[word >> bit & 1 for word in row for bit in range(32)] for row in np.asarray(bitmap).tolist()]
    assert not any(bit for row in bits for bit in row[width:])
    return {y * width + x for y, row in enumerate(bits) for x, bit in enumerate(row) if bit}


def drawn(height, width, walls, goal, agent, direction):
    """The image of a map in MiniGrid's codes, cell by cell."""
    image = np.tile(np.array([2, 5, 0]), (height + 2, width + 2, 1))
    for cell in range(height * width):
        code = (2, 5, 0) if cell in walls else (1, 0, 0)
        code = (8, 1, 0) if cell == goal else (10, 0, direction) if cell == agent else code
        image[cell // width + 1, cell % width + 1] = code
    return image / 10


def actions_for(editor, rng):
    """Random actions, actions on few cells so that they collide, and teachers that know but one cell."""
    cells, steps = editor.num_actions, editor.num_steps
    actions = rng.integers(cells, size=(N, steps))
    actions[::3] = rng.integers(3, size=(len(actions[::3]), steps))
    few = rng.integers(cells, size=(N, 3))
    actions[1::3] = np.take_along_axis(few, rng.integers(3, size=(N, steps)), 1)[1::3]
    for i, cell in enumerate((0, cells // 2, cells - 1)):
        actions[i] = cell
    return actions


def test_the_editor_keeps_the_rule():
    height, width = 3, 5
    editor = MazeEditor(height, width, EditorConfig(n_walls=9, noise_dim=4))
    assert isinstance(editor, LevelEditor)
    n_cells = height * width
    assert editor.num_actions == n_cells
    assert editor.num_steps == 11
    actions = actions_for(editor, np.random.default_rng(0))
    states, observations, levels = jax.device_get(build(editor, jax.random.key(1), actions))
    collisions = 0
    for i in range(N):
        walls, goal, agent = set(), None, None
        direction = int(states.direction[i, 0])
        assert 0 <= direction < 4
        for t, action in enumerate(actions[i].tolist()):
            image = drawn(height, width, walls, goal, agent, direction)
            assert np.allclose(observations.image[i, t], image, atol=1e-6), (i, t)
            assert observations.time[i, t] == t
            taken = walls if goal is None else walls | {goal}
            if t == 10 and action == goal:
                # Where the agent went is random: it must have been free.
                after = jax.tree.map(lambda leaf: leaf[i, t + 1], states)  # noqa: B023
                (action,) = cells_of(after.agent, width)
                assert action not in taken
                collisions += 1
            if t < 9:
                walls = walls | {action}
            elif t == 9:
                walls, goal = walls - {action}, action
            else:
                walls, agent = walls - {action}, action
            after = jax.tree.map(lambda leaf: leaf[i, t + 1], states)  # noqa: B023
            assert cells_of(after.walls, width) == walls, (i, t)
            assert cells_of(after.goal, width) == (set() if goal is None else {goal}), (i, t)
            assert cells_of(after.agent, width) == (set() if agent is None else {agent}), (i, t)
            assert after.direction == direction, (i, t)
        level = check_level(jax.tree.map(lambda leaf: leaf[i], levels), height, width)  # noqa: B023
        assert set(np.flatnonzero(level.wall_map).tolist()) == walls
        assert level.goal_pos.tolist() == [goal % width, goal // width]
        assert level.agent_pos.tolist() == [agent % width, agent // width]
        assert level.agent_dir == direction
    assert collisions > 3
    assert isinstance(observations, EditorObservation)
    noise = observations.noise.reshape(-1)
    assert noise.dtype == np.float32
    assert len(np.unique(noise)) > 0.99 * len(noise)  # redrawn for each observation
    assert stats.kstest(noise, "uniform").pvalue > 1e-4
    assert set(states.direction[:, 0]) == {0, 1, 2, 3}


@pytest.mark.slow
def test_a_displaced_agent_is_uniform_over_the_cells_that_are_left():
    editor = MazeEditor(3, 3, EditorConfig(n_walls=2, noise_dim=0))
    actions = np.tile([0, 1, 4, 4], (3000, 1))  # two walls, the goal, and the agent on the goal
    states, observations, levels = jax.device_get(build(editor, jax.random.key(2), actions))
    agents = levels.agent_pos[:, 1] * 3 + levels.agent_pos[:, 0]
    assert set(agents) == {2, 3, 5, 6, 7, 8}
    assert stats.chisquare(np.unique(agents, return_counts=True)[1]).pvalue > 1e-4
    assert stats.chisquare(np.bincount(states.direction[:, 0])).pvalue > 1e-4
    assert observations.noise.shape == (3000, 4, 0)


@pytest.mark.slow
def test_a_fully_walled_map_still_has_room():
    # As many walls as leave room for two, all asked for at different cells; then goal and agent on one of them.
    editor = MazeEditor(2, 3, EditorConfig(n_walls=4))
    actions = np.tile([0, 1, 2, 3, 0, 0], (20, 1))
    levels = jax.device_get(build(editor, jax.random.key(4), actions)[2])
    for i in range(20):
        level = check_level(jax.tree.map(lambda leaf: leaf[i], levels))  # noqa: B023
        assert level.wall_map.sum() == 3
        assert level.goal_pos.tolist() == [0, 0]
        assert tuple(level.agent_pos.tolist()) in {(1, 1), (2, 1)}


def test_editors_are_equal_by_value_and_refuse_too_many_walls():
    env = Maze()
    assert env.editor() == MazeEditor(13, 13, EditorConfig())
    assert hash(env.editor()) == hash(MazeEditor(13, 13, EditorConfig()))
    assert env.editor().num_steps == 62
    with pytest.raises(UserError, match="n_walls is 60; it must be at most 47, so that 7 x 7 cells"):
        Maze(MazeConfig(height=7, width=7, n_walls=14)).editor(EditorConfig())
