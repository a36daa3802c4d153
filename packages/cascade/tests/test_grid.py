"""The grid on the device equals `minigrid`, step for step, with its layouts injected."""

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cascade_explore.envs.grid import make_grid
from cascade_explore.envs.layouts import from_minigrid, key_corridor

pytest.importorskip("minigrid")

#: Two sizes of grid only, so that three programs are compiled.
IDS = ("MiniGrid-FourRooms-v0", "MiniGrid-MultiRoom-N4-S5-v1", "MiniGrid-KeyCorridorS3R3-v0")
#: Walks mostly, and toggles and picks up often enough to open doors and find the ball.
CHANCES = (0.16, 0.16, 0.36, 0.1, 0.03, 0.17, 0.02)


def rollout(name, seed, steps, rng):
    """Return a layout, actions and what MiniGrid said; ended episodes continue, as the rules do not depend on it."""
    env = gymnasium.make(name, disable_env_checker=True).unwrapped
    seen, _ = env.reset(seed=seed)
    if "Corridor" in name and seed % 2:
        seen = at_the_ball(env)
    layout, actions = from_minigrid(env), rng.choice(7, steps, p=CHANCES)
    rows = []
    for action in actions:
        rows.append((flat(seen), *(0.0, False, False)) if not rows else rows[-1])
        seen, reward, terminal, cut, _ = env.step(int(action))
        rows[-1] = (flat(seen), float(reward), bool(terminal), bool(cut and not terminal))
    return layout, actions, env.max_steps, [np.array(column) for column in zip(*rows, strict=True)]


def at_the_ball(env):
    """Put the agent into the opened door before the ball, which chance hardly ever reaches; return what it sees."""
    x, y = env.obj.cur_pos
    door = env.grid.get(x - 1, y)
    door.is_open, door.is_locked = True, False
    env.agent_pos, env.agent_dir = (x - 1, y), 0
    return env.gen_obs()


def flat(seen):
    return np.append(seen["image"].reshape(49, 3).T.ravel(), seen["direction"]).astype(np.uint8)


def compare(name, seeds, steps):
    rng = np.random.default_rng(len(name))
    found = [rollout(name, seed, steps, rng) for seed in seeds]
    grid = make_grid([one[0] for one in found], limit=found[0][2], picks_up="Corridor" in name)

    @jax.jit
    def play(states, actions):
        def step(states, action):
            states, *rest = jax.vmap(grid.step)(states, action)
            return states, (jax.vmap(grid.observe)(states), *rest)

        return jax.lax.scan(step, states, actions)[1]

    ours = jax.device_get(play(grid.starts, jnp.array([one[1] for one in found]).T))
    ends = 0
    for i, (_, _, _, (seen, reward, terminal, cut)) in enumerate(found):
        np.testing.assert_array_equal(ours[0][:, i], seen)
        np.testing.assert_allclose(ours[1][:, i], reward, atol=1e-6)
        np.testing.assert_array_equal(ours[2][:, i], terminal)
        np.testing.assert_array_equal(ours[3][:, i], cut)
        ends += terminal.sum()
    return ends


@pytest.mark.parametrize("name", IDS)
def test_steps_equal_minigrids(name):
    compare(name, range(4), 150)


@pytest.mark.slow
@pytest.mark.parametrize("name", IDS)
def test_a_hundred_seeds_of_five_hundred_steps_equal_minigrids(name):
    assert compare(name, range(100), 500) > 0


def test_our_own_layout_runs_in_minigrid_too():
    layout = key_corridor(3, rows=3, size=3)
    env = gymnasium.make("MiniGrid-KeyCorridorS3R3-v0", disable_env_checker=True).unwrapped
    env.reset(seed=0)
    decoded, _ = type(env.grid).decode(layout.cells)
    env.grid, env.agent_pos, env.agent_dir = decoded, layout.start, layout.direction
    seen = env.gen_obs()
    grid = make_grid([layout], limit=270, picks_up=True)
    ours = grid.observe(jax.tree.map(lambda x: x[0], grid.starts))
    np.testing.assert_array_equal(ours, flat(seen))
