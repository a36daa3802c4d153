"""The maze against PyPI `minigrid`, step for step."""

import functools
from collections import deque

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from minimax_ued.config import MazeConfig
from minimax_ued.envs.maze import Maze

minigrid_env = pytest.importorskip("minigrid.minigrid_env", reason="the oracle is the package minigrid (extra: test)")

from minigrid.core.grid import Grid
from minigrid.core.mission import MissionSpace
from minigrid.core.world_object import Goal, Wall

MOVES = [(1, 0), (0, 1), (-1, 0), (0, -1)]


def actions_to_goal(level):
    """The fewest actions to the goal from each (direction, y, x), turns counted: 0 on it, -1 where no path leads."""
    height, width = level.wall_map.shape
    actions = np.full((4, height, width), -1)
    goal_x, goal_y = level.goal_pos
    actions[:, goal_y, goal_x] = 0
    queue = deque((direction, int(goal_x), int(goal_y)) for direction in range(4))
    while queue:
        direction, x, y = queue.popleft()
        dx, dy = MOVES[direction]
        before = [(direction, x - dx, y - dy)]  # a move forward leads here, or a turn, but for on the goal
        if (x, y) != (goal_x, goal_y):
            before += [((direction + 1) % 4, x, y), ((direction - 1) % 4, x, y)]
        for d, i, j in before:
            if 0 <= i < width and 0 <= j < height and not level.wall_map[j, i] and actions[d, j, i] < 0:
                actions[d, j, i] = actions[direction, y, x] + 1
                queue.append((d, i, j))
    return actions


N_LEVELS = 12  # for each of 18 combinations: 216 in all
SIZES = {7: (14, 30), 13: (60, 40), 19: (110, 40)}  # size -> walls drawn, T


class Oracle(minigrid_env.MiniGridEnv):
    """MiniGrid on one of our levels, with its outer wall around it."""

    def __init__(self, level, view_size, see_through_walls, max_steps):
        self.level = level
        height, width = level.wall_map.shape
        super().__init__(
            mission_space=MissionSpace(mission_func=lambda: "get to the goal"),
            width=width + 2,
            height=height + 2,
            max_steps=max_steps,
            see_through_walls=see_through_walls,
            agent_view_size=view_size,
        )

    def _gen_grid(self, width, height):
        self.grid = Grid(width, height)
        self.grid.wall_rect(0, 0, width, height)
        for y, x in np.argwhere(self.level.wall_map):
            self.grid.set(int(x) + 1, int(y) + 1, Wall())
        self.put_obj(Goal(), int(self.level.goal_pos[0]) + 1, int(self.level.goal_pos[1]) + 1)
        self.agent_pos = tuple(int(value) + 1 for value in self.level.agent_pos)
        self.agent_dir = int(self.level.agent_dir)


@functools.partial(jax.jit, static_argnums=(0, 1))
def sample(env, n, key):
    """Levels, and for each step a coin and a random action."""
    level_key, coin_key, action_key = jax.random.split(key, 3)
    levels = jax.vmap(env.sample_level)(jax.random.split(level_key, n))
    coins = jax.random.bernoulli(coin_key, 0.5, (n, env.max_steps))
    actions = jax.random.randint(action_key, (n, env.max_steps), 0, env.num_actions)
    return levels, coins, actions


@functools.partial(jax.jit, static_argnums=0)
@functools.partial(jax.vmap, in_axes=(None, 0, 0, 0, 0))
def trajectory(env, level, to_go, coins, actions):
    """One episode of T steps, and on past its end; every leaf has leading axis T.

    Half of the actions are a shortest way to the goal, so that many episodes reach it, and half are random.
    """
    prepared = env.prepare(level)

    def body(state, inputs):
        coin, random = inputs
        x, y = state.agent_pos
        ahead = to_go[state.agent_dir, y, x]
        left = to_go[(state.agent_dir - 1) % 4, y, x]
        best = jnp.where(left == ahead - 1, 0, jnp.where(to_go[(state.agent_dir + 1) % 4, y, x] == ahead - 1, 1, 2))
        action = jnp.where(coin, best, random)
        new, timestep = env.step(None, prepared, state, action)
        return new, (action, timestep, new, env.observe(prepared, new))

    first = env.reset(None, level)
    # The first observation is that of the level as it is, not prepared: both must do.
    return env.observe(level, first), jax.lax.scan(body, first, (coins, actions))[1]


def equal_observation(ours, theirs):
    # MiniGrid indexes [column, row].
    codes = np.round(10 * ours[0]).swapaxes(0, 1)
    return np.array_equal(codes, theirs["image"]) and int(ours[1]) == theirs["direction"]


@pytest.mark.parametrize("see_through_walls", [True, False])
@pytest.mark.parametrize(
    "view_size", [pytest.param(3, marks=pytest.mark.slow), 5, pytest.param(7, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("size", [n if n == 13 else pytest.param(n, marks=pytest.mark.slow) for n in SIZES])
def test_equals_minigrid_step_for_step(size, view_size, see_through_walls):
    n_walls, max_steps = SIZES[size]
    env = Maze(
        MazeConfig(
            height=size,
            width=size,
            n_walls=n_walls,
            view_size=view_size,
            see_through_walls=see_through_walls,
            max_steps=max_steps,
        )
    )
    generator = Maze(MazeConfig(height=size, width=size, n_walls=n_walls, max_steps=max_steps))
    key = jax.random.key(view_size * 10 + see_through_walls)
    levels, *rest = jax.device_get(sample(generator, N_LEVELS, key))
    to_go = np.stack([actions_to_goal(jax.tree.map(lambda x: x[i], levels)) for i in range(N_LEVELS)])  # noqa: B023
    rollouts = jax.device_get((levels, trajectory(env, levels, to_go, *rest)))
    ends = {"goal": 0, "limit": 0}
    for i in range(N_LEVELS):
        level, (first, (actions, timesteps, states, observations)) = jax.tree.map(lambda leaf: leaf[i], rollouts)  # noqa: B023
        oracle = Oracle(level, view_size, see_through_walls, max_steps)
        observed, _ = oracle.reset(seed=0)
        assert equal_observation((first.image, first.direction), observed)
        for t, action in enumerate(actions):
            observed, reward, terminated, truncated, _ = oracle.step(int(action))
            where = f"level {i}, step {t}"
            assert equal_observation((observations.image[t], observations.direction[t]), observed), where
            assert tuple(states.agent_pos[t] + 1) == tuple(oracle.agent_pos), where
            assert abs(timesteps.reward[t] - reward) < 1e-6, where
            assert bool(timesteps.terminated[t]) == terminated, where
            # MiniGrid reports both when the goal is reached at step T; here an end of its own is not a truncation.
            assert bool(timesteps.truncated[t]) == (truncated and not terminated), where
            if terminated or truncated:
                ends["goal" if terminated else "limit"] += 1
                break
    assert ends["goal"] > 0
    assert ends["limit"] > 0
