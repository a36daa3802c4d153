"""The maze environment: statistics of its random levels, views, hashes, metrics and auto-reset."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from minimax_ued.config import MazeConfig
from minimax_ued.envs import AutoReset, Environment
from minimax_ued.envs.maze import Level, Maze, pack_levels, paths
from minimax_ued.envs.maze.bitmap import pack_bits, select_bit, shift_columns, unpack_bits
from minimax_ued.envs.maze.random_levels import draw_below
from paperloop.errors import UserError


@functools.partial(jax.jit, static_argnums=(0, 1))
def sample(env, n, key):
    levels = jax.vmap(env.sample_level)(jax.random.split(key, n))
    return levels, jax.vmap(paths.shortest_path)(levels)


def chi_square(values, n):
    return stats.chisquare(np.bincount(values, minlength=n)).pvalue


def test_the_maze_is_an_environment():
    env = Maze()
    assert isinstance(env, Environment)
    assert (env.num_actions, env.max_steps) == (7, 250)
    assert env == Maze(MazeConfig())
    assert hash(env) == hash(Maze(MazeConfig()))
    assert env != Maze(MazeConfig(view_size=7))


def test_level_statistics_meet_the_closed_forms():
    levels, path = jax.device_get(sample(Maze(), 4000, jax.random.key(0)))
    walls = levels.wall_map.sum((1, 2))
    # 60 draws with replacement from 169 cells.
    expected = 169 * (1 - (168 / 169) ** 60)
    spread = np.sqrt(169 * 168 * (1 - 2 / 169) ** 60 + 169 * (1 - 1 / 169) ** 60 - 169**2 * (1 - 1 / 169) ** 120)
    assert abs(walls.mean() - expected) < 4 * spread / np.sqrt(4000)
    assert abs(walls.std() - spread) < 0.15
    assert abs((path >= 0).mean() - 0.857) < 0.02
    assert abs(path[path >= 0].mean() - 10.7) < 0.5
    rows = np.arange(4000)
    assert not levels.wall_map[rows, levels.agent_pos[:, 1], levels.agent_pos[:, 0]].any()
    assert not levels.wall_map[rows, levels.goal_pos[:, 1], levels.goal_pos[:, 0]].any()
    assert (levels.agent_pos != levels.goal_pos).any(1).all()
    assert chi_square(levels.agent_dir, 4) > 1e-4
    assert stats.chisquare(levels.wall_map.sum(0).reshape(-1)).pvalue > 1e-4
    assert len(np.unique(pack_levels(levels), axis=0)) == 4000


@pytest.mark.slow
def test_small_levels_are_uniform_over_every_outcome():
    # 2 x 3 cells and 2 walls: 15 pairs of walls, and then 4 x 3 places for agent and goal.
    env = Maze(MazeConfig(height=2, width=3, n_walls=2))
    levels, _ = jax.device_get(sample(env, 20_000, jax.random.key(1)))
    n_walls = levels.wall_map.sum((1, 2))
    assert set(n_walls) == {1, 2}
    assert stats.binomtest(int((n_walls == 1).sum()), 20_000, 1 / 6).pvalue > 1e-4
    code = levels.wall_map.reshape(-1, 6) @ (1 << np.arange(6))
    cell = lambda pos: pos[:, 1] * 3 + pos[:, 0]  # noqa: E731
    outcome = (code * 6 + cell(levels.agent_pos)) * 6 + cell(levels.goal_pos)
    counts = np.unique(outcome[n_walls == 2], return_counts=True)[1]
    assert len(counts) == 15 * 12
    assert stats.chisquare(counts).pvalue > 1e-4


@pytest.mark.slow
def test_a_sampled_number_of_walls_covers_both_ends_evenly():
    env = Maze(MazeConfig(height=40, width=40, n_walls=4, sample_n_walls=True))
    levels, _ = jax.device_get(sample(env, 5000, jax.random.key(2)))
    n_walls = levels.wall_map.sum((1, 2))
    assert set(n_walls) == {0, 1, 2, 3, 4}
    # With replacement two of four draws agree in one level of 267, and the count is then one too low.
    assert chi_square(n_walls, 5) > 1e-7


@pytest.mark.slow
def test_no_walls_leaves_every_start_equally_likely():
    env = Maze(MazeConfig(height=5, width=33, n_walls=0))
    levels, path = jax.device_get(sample(env, 20_000, jax.random.key(3)))
    assert not levels.wall_map.any()
    assert chi_square(levels.agent_pos[:, 1] * 33 + levels.agent_pos[:, 0], 165) > 1e-4
    assert chi_square(levels.goal_pos[:, 1] * 33 + levels.goal_pos[:, 0], 165) > 1e-4
    assert (path == np.abs(levels.agent_pos - levels.goal_pos).sum(1)).all()


@pytest.mark.parametrize("width", [5, 32, 70])
def test_bitmaps_do_what_boolean_maps_do(width):
    cells = np.random.default_rng(width).random((20, 3, width)) < 0.5

    @jax.jit
    @jax.vmap
    def through_words(cells):
        words = pack_bits(cells)
        n = jnp.sum(cells)
        picks = jnp.array([0, n // 3, n - 1])
        found = jax.vmap(select_bit, (None, 0))(words, picks)
        moved = shift_columns(words, 1), shift_columns(words, -1)
        return unpack_bits(words, width), [unpack_bits(one, width) for one in moved], picks, found

    same, (right, left), picks, (x, y) = jax.device_get(through_words(cells))
    assert np.array_equal(same, cells)
    assert np.array_equal(right[..., 1:], cells[..., :-1])
    assert np.array_equal(left[..., :-1], cells[..., 1:])
    assert not right[..., 0].any()
    assert not left[..., -1].any()
    for i, grid in enumerate(cells):
        assert np.argwhere(grid)[picks[i]].tolist() == np.stack([y[i], x[i]], 1).tolist()


def test_draws_stay_below_their_bound():
    ends = jnp.array([0, 2**31, 2**32 - 1], jnp.uint32)
    assert draw_below(ends, 169).tolist() == [0, 84, 168]
    assert draw_below(ends, 2**16).tolist() == [0, 2**15, 2**16 - 1]
    assert draw_below(ends, 1).tolist() == [0, 0, 0]


def test_an_observation_by_hand():
    level = Level.from_text("#.G\n.^.\n...")
    env = Maze(MazeConfig(height=3, width=3, n_walls=0, view_size=3))
    observe = jax.jit(lambda env, level: env.observe(level, env.reset(None, level)), static_argnums=0)
    seen = jax.device_get(observe(env, level))
    assert seen.image.dtype == np.float32
    # The agent is in the bottom row, and what lies outside is wall.
    codes = np.round(10 * seen.image).astype(int)
    assert codes[..., 0].tolist() == [[2, 2, 2], [2, 1, 8], [1, 1, 1]]
    assert codes[..., 1].tolist() == [[5, 5, 5], [5, 0, 1], [0, 0, 0]]
    assert not codes[..., 2].any()
    assert seen.direction == 3
    # Facing right, the cells below the agent are on its right.
    right = jax.device_get(observe(env, level.replace(agent_dir=np.int32(0))))
    assert np.round(10 * right.image[..., 0]).tolist() == [[2, 2, 2], [8, 1, 1], [1, 1, 1]]


def test_steps_by_hand():
    level = Level.from_text(">.#\n..G")
    env = Maze(MazeConfig(height=2, width=3, n_walls=0, max_steps=10))
    step, state = jax.jit(env.step), env.reset(None, level)
    seen = []
    for action in (2, 2, 6, 1, 2, 0, 2):  # forward, into the wall, nothing, right, forward, left, into the goal
        state, timestep = step(None, level, state, action)
        seen.append((*state.agent_pos.tolist(), int(state.agent_dir), bool(timestep.terminated)))
    assert seen == [
        (1, 0, 0, False),
        (1, 0, 0, False),
        (1, 0, 0, False),
        (1, 0, 1, False),
        (1, 1, 1, False),
        (1, 1, 0, False),
        (2, 1, 0, True),
    ]
    assert timestep.reward == pytest.approx(1 - 0.9 * 7 / 10)
    assert timestep.done
    for time, ended in ((8, False), (9, True)):
        _, timestep = step(None, level, env.reset(None, level).replace(time=jnp.int32(time)), 3)
        assert (bool(timestep.terminated), bool(timestep.truncated)) == (False, ended)
        assert timestep.reward == 0


@pytest.mark.slow
def test_wide_and_narrow_mazes_need_several_words():
    level = Level.from_text("." * 60 + ">" + "." * 8 + "G")
    env = Maze(MazeConfig(height=1, width=70, n_walls=0, view_size=15))
    state = env.reset(None, level)
    seen = env.observe(level, state).image[..., 0] * 10
    assert np.round(seen[:, 7]).tolist() == [2] * 5 + [8] + [1] * 9
    prepared, step = env.prepare(level), jax.jit(env.step)
    for _ in range(9):
        state, timestep = step(None, prepared, state, 2)
    assert timestep.terminated
    assert state.agent_pos.tolist() == [69, 0]


def test_hashes_tell_levels_apart():
    env = Maze()
    levels, _ = sample(env, 4000, jax.random.key(5))
    # Neighbours: every level with one wall flipped, and with the direction changed.
    flipped = levels.replace(wall_map=levels.wall_map.at[:, 3, 7].set(~levels.wall_map[:, 3, 7]))
    turned = levels.replace(agent_dir=(levels.agent_dir + 1) % 4)
    everything = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), levels, flipped, turned)
    hashes = np.asarray(jax.jit(jax.vmap(env.level_hash))(everything))
    assert hashes.dtype == np.uint32
    assert hashes.shape == (12_000, 2)
    assert len(np.unique(hashes, axis=0)) == 12_000
    # Each half alone is a good hash: about n^2 / 2^33 = 0.02 collisions are expected.
    assert len(np.unique(hashes[:, 0])) >= 11_998
    assert len(np.unique(hashes[:, 1])) >= 11_998
    first = jax.tree.map(lambda leaf: leaf[0], levels)
    for other, same in ((levels, True), (flipped, False), (turned, False)):
        assert env.same_level(first, jax.tree.map(lambda leaf: leaf[0], other)) == same


def test_metrics_of_a_level():
    env = Maze(MazeConfig(height=2, width=3, n_walls=0))
    measure = jax.jit(env.level_metrics)
    assert measure(Level.from_text(">#G\n...")) == {"n_walls": 1, "solvable": 1, "path_length": 4}
    assert measure(Level.from_text(">#G\n.#.")) == {"n_walls": 2, "solvable": 0, "path_length": 0}


def test_the_optimal_return_counts_every_action():
    env = Maze(MazeConfig(height=2, width=3, n_walls=0, max_steps=10))
    # Left, left, forward, forward: facing left, the goal is two cells behind.
    best = jax.jit(env.optimal_return)
    assert best(Level.from_text("<.G\n...")) == pytest.approx(1 - 0.9 * 4 / 10)
    assert best(Level.from_text("<#G\n.#.")) == 0
    assert env.success_return == 0


SMALL = Maze(MazeConfig(height=4, width=4, n_walls=3, max_steps=9, view_size=3))


@functools.partial(jax.jit, static_argnums=0)
def rollout(auto, key, levels, actions):
    def body(state, action):
        observation, current = auto.observe(state), auto.current_levels(state)
        new, timestep, last = auto.step_and_last(key, state, action)
        return new, (observation, current, state.episode, timestep, last.env_state, auto.observe(last))

    return jax.lax.scan(body, auto.reset(key, levels), actions)[1]


@functools.partial(jax.jit, static_argnums=0)
def levels_played(auto, key, levels, actions):
    """The goals and the maps that a rollout goes through: enough to tell two rollouts apart."""

    def body(state, action):
        state, timestep = auto.step(key, state, action)
        return state, (auto.current_levels(state), timestep.done)

    return jax.lax.scan(body, auto.reset(key, levels), actions)[1]


@pytest.mark.slow
def test_every_episode_has_its_own_fresh_level_whatever_is_kept_ready():
    n_envs, n_steps, key = 6, 120, jax.random.key(7)
    actions = jax.random.randint(jax.random.key(8), (n_steps, n_envs), 0, 3)
    runs = []
    for ahead in (1, 5):
        auto = AutoReset(SMALL, ahead=ahead)
        levels = auto.sample_levels(key, n_envs)
        runs.append(jax.device_get(rollout(auto, key, levels, actions)))
    for one, other in zip(jax.tree.leaves(runs[0]), jax.tree.leaves(runs[1]), strict=True):
        assert np.array_equal(one, other)
    observations, current, episode, timestep, _, last = runs[0]
    done = timestep.terminated | timestep.truncated
    assert (np.diff(episode, axis=0) == done[:-1]).all()
    assert episode.max() > 13  # more than 120 / 9: some reach the goal
    prepared = jax.device_get(jax.vmap(SMALL.prepare)(levels))
    assert np.array_equal(current.lines[0], prepared.lines)
    # The level stays during an episode and is another one afterwards.
    packed = np.concatenate(
        [np.asarray(leaf).reshape(n_steps, n_envs, -1).astype(np.int64) for leaf in jax.tree.leaves(current)], axis=-1
    )
    changed = (np.diff(packed, axis=0) != 0).any(-1)
    assert (changed <= done[:-1]).all()
    assert changed.sum() > 0.95 * done[:-1].sum()  # small levels repeat by chance
    seen = {tuple(packed[t, i]) for t in range(n_steps) for i in range(n_envs)}
    assert len(seen) > 0.9 * (episode[-1] + 1).sum()
    # The observation after the end is the first of the next episode; the last one of the episode is kept next to it.
    assert not np.array_equal(observations.image[1:][done[:-1]], last.image[:-1][done[:-1]])
    assert np.array_equal(observations.image[1:][~done[:-1]], last.image[:-1][~done[:-1]])


@pytest.mark.slow
def test_an_environment_depends_neither_on_the_others_nor_on_other_seeds():
    # Three seeds of four environments in one program, against the first two environments of each seed alone.
    auto = AutoReset(SMALL, ahead=1)
    keys = jax.random.split(jax.random.key(11), 3)
    actions = jax.random.randint(jax.random.key(12), (3, 40, 4), 0, 3)
    levels = jax.jit(jax.vmap(lambda key: auto.sample_levels(key, 4)))(keys)
    together = jax.vmap(functools.partial(levels_played, auto))(keys, levels, actions)
    for i in range(3):
        two = jax.tree.map(lambda leaf: leaf[i, :2], levels)  # noqa: B023
        alone = levels_played(auto, keys[i], two, actions[i, :, :2])
        for one, other in zip(jax.tree.leaves(together), jax.tree.leaves(alone), strict=True):
            assert np.array_equal(one[i, :, :2], other)
    assert together[1].sum() > 3 * 4 * 4


@pytest.mark.slow
def test_replay_starts_the_same_level_again():
    auto, key = AutoReset(SMALL, fresh=False), jax.random.key(13)
    levels = auto.sample_levels(key, 6)
    actions = jax.random.randint(jax.random.key(14), (80, 6), 0, 3)
    _, current, episode, timestep, states, _ = jax.device_get(rollout(auto, key, levels, actions))
    done = timestep.terminated | timestep.truncated
    assert episode.max() >= 8
    assert (current.lines == current.lines[0]).all()
    after = np.where(done)
    assert (states.time[after] <= 9).all()
    assert (states.time[1:][done[:-1]] == 1).all()


def test_levels_kept_ready_are_at_least_one():
    with pytest.raises(UserError, match="at least 1; got 0"):
        AutoReset(SMALL, ahead=0)
