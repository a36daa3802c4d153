"""CartPole with its physics as the level: the dynamics of gymnax, the levels, and their mutation."""

import functools
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from minimax_ued.config import CartPoleConfig, MazeConfig, TrainConfig
from minimax_ued.envs import AutoReset, Environment, make_environment
from minimax_ued.envs.cartpole import HELD_OUT_CARTS, NOMINAL, CartPole, CartPoleLevel, gaussian, held_out_levels
from minimax_ued.envs.maze import Maze
from paperloop.errors import UserError


@pytest.fixture(scope="module")
def gymnax_cartpole():
    pytest.importorskip("gymnax", reason="CartPole is that of the package gymnax (extra: gymnax)")
    from gymnax.environments.classic_control import cartpole

    return cartpole


@functools.partial(jax.jit, static_argnums=0)
@functools.partial(jax.vmap, in_axes=(None, 0, 0, 0))
def trajectory(env, key, level, actions):
    """One episode, and on past its end; every leaf has leading axis T."""

    def body(state, action):
        new, timestep = env.step(key, level, state, action)
        return new, (new, timestep, env.observe(level, state))

    return jax.lax.scan(body, env.reset(key, level), actions)[1]


def by_hand(state, action, physics):
    """One Euler step of Barto, Sutton and Anderson's equations (1983), in NumPy."""
    x, v, theta, omega = state
    g, m_cart, m_pole, length, force = (physics[name] for name in NOMINAL)
    push, total = (force if action else -force), m_cart + m_pole
    temp = (push + m_pole * length * omega**2 * np.sin(theta)) / total
    alpha = (g * np.sin(theta) - np.cos(theta) * temp) / (length * (4 / 3 - m_pole * np.cos(theta) ** 2 / total))
    a = temp - m_pole * length * alpha * np.cos(theta) / total
    return np.array([x + 0.02 * v, v + 0.02 * a, theta + 0.02 * omega, omega + 0.02 * alpha])


def test_equals_gymnax_step_for_step_on_nominal_and_other_physics(gymnax_cartpole):
    env = CartPole(CartPoleConfig(spread=3.0, max_steps=40))
    points = np.concatenate([np.full((6, 5), 0.5), np.random.default_rng(0).random((18, 5))]).astype(np.float32)
    levels = CartPoleLevel(point=points)
    keys = jax.random.split(jax.random.key(0), 24)
    actions = np.random.default_rng(1).integers(2, size=(24, 40))
    actions[::2] = np.arange(40) % 2  # alternate pushes keep the pole up for longer
    states, timesteps, observations = jax.device_get(trajectory(env, keys, levels, actions))
    game = gymnax_cartpole.CartPole()
    step = jax.jit(game.step_env)
    ends = {"terminated": 0, "truncated": 0}
    for i in range(24):
        physics = {name: value * 3.0 ** (2 * points[i, j] - 1) for j, (name, value) in enumerate(NOMINAL.items())}
        params = gymnax_cartpole.EnvParams(
            **physics,
            total_mass=physics["masscart"] + physics["masspole"],
            polemass_length=physics["masspole"] * physics["length"],
            max_steps_in_episode=10**6,
        )
        if i < 6:
            assert params == gymnax_cartpole.EnvParams(max_steps_in_episode=10**6, polemass_length=0.1 * 0.5)
        observed, theirs = game.reset_env(keys[i], params)
        state = np.asarray(observed, np.float64)
        for t in range(40):
            assert np.allclose(observations[i, t], observed, rtol=1e-5, atol=1e-6)
            observed, theirs, reward, ended, _ = step(keys[i], theirs, int(actions[i, t]), params)
            state = by_hand(state, actions[i, t], physics)
            assert np.allclose(observed, state, rtol=1e-4, atol=1e-5)
            assert timesteps.reward[i, t] == reward == 1.0
            assert bool(timesteps.terminated[i, t]) == bool(ended)
            assert bool(timesteps.truncated[i, t]) == (t == 39 and not ended)
            if ended or t == 39:
                ends["terminated" if ended else "truncated"] += 1
                break
        else:
            raise AssertionError
    assert min(ends.values()) >= 4
    assert states.time[0].tolist() == list(range(1, 41))


def test_a_cart_is_an_environment(gymnax_cartpole):
    env = make_environment(TrainConfig(env=CartPoleConfig(max_steps=100)))
    assert isinstance(env, Environment)
    assert env == CartPole(CartPoleConfig(max_steps=100))
    assert hash(env) == hash(CartPole(CartPoleConfig(max_steps=100)))
    assert env != CartPole()
    assert (env.num_actions, env.max_steps) == (2, 100)
    assert env.success_return == pytest.approx(95)
    level = env.sample_level(jax.random.key(0))
    assert env.observe(level, env.reset(jax.random.key(1), level)).shape == (4,)
    assert set(env.mutations) == {"gaussian"}
    assert not hasattr(env, "optimal_return")
    assert not hasattr(env, "editor")
    assert make_environment(TrainConfig(env=MazeConfig(n_walls=3))) == Maze(MazeConfig(n_walls=3))


@pytest.mark.slow
def test_carts_reset_themselves_like_mazes(gymnax_cartpole):
    env = CartPole(CartPoleConfig(max_steps=15))
    auto, key = AutoReset(env, ahead=2), jax.random.key(2)

    @jax.jit
    def rollout(key):
        def body(state, action):
            current = auto.current_levels(state).point
            new, timestep = auto.step(key, state, action)
            return new, (current, timestep.terminated, timestep.truncated, state.env_state.time)

        actions = jax.random.bernoulli(key, shape=(60, 4)).astype(jnp.int32)
        return jax.lax.scan(body, auto.reset(key, auto.sample_levels(key, 4)), actions)[1]

    points, terminated, truncated, time = jax.device_get(rollout(key))
    done = terminated | truncated
    assert terminated.any()
    assert truncated.any()
    assert not (terminated & truncated).any()
    assert time.max() == 14
    assert (time[1:][done[:-1]] == 0).all()
    changed = (np.diff(points, axis=0) != 0).any(-1)
    assert np.array_equal(changed, done[:-1])  # a fresh cart for each episode


@pytest.mark.slow
def test_levels_are_log_uniform_physics(gymnax_cartpole):
    env = CartPole(CartPoleConfig(spread=5.0))
    levels = jax.vmap(env.sample_level)(jax.random.split(jax.random.key(3), 2000))
    constants = jax.device_get(jax.vmap(env.constants)(levels))
    assert set(constants) == set(NOMINAL)
    for name, values in constants.items():
        exponent = np.log(values / NOMINAL[name]) / np.log(5.0)
        assert stats.kstest(exponent, stats.uniform(-1, 2).cdf).pvalue > 1e-4
    metrics = jax.device_get(jax.vmap(env.level_metrics)(levels))
    assert set(metrics) == {*NOMINAL, "distance"}
    assert metrics["distance"].mean() == pytest.approx(np.sqrt(1 / 3), abs=0.02)
    hashes = np.asarray(jax.vmap(env.level_hash)(levels))
    assert hashes.shape == (2000, 2)
    assert len(np.unique(hashes, axis=0)) == 2000
    first, second = (jax.tree.map(lambda leaf: leaf[i], levels) for i in range(2))  # noqa: B023
    assert env.same_level(first, first)
    assert not env.same_level(first, second)
    nominal = CartPoleLevel(point=jnp.full(5, 0.5))
    assert env.level_metrics(nominal)["distance"] == 0
    assert env.level_metrics(CartPoleLevel(point=jnp.array([0.0, 1, 0, 1, 1])))["distance"] == pytest.approx(1)


def test_the_mutation_is_a_reflected_walk():
    start = CartPoleLevel(point=jnp.array([0.5, 0.02, 0.98, 0.0, 1.0]))
    n, n_edits = 4000, 16
    moved = np.asarray(
        jax.vmap(lambda key: gaussian(key, start, n_edits))(jax.random.split(jax.random.key(4), n)).point
    )
    assert moved.min() >= 0
    assert moved.max() <= 1
    # The same, one edit after the other, each reflected at the faces.
    rng = np.random.default_rng(0)
    walk = np.tile(np.asarray(start.point, np.float64), (n, 1))
    for _ in range(n_edits):
        walk = np.abs(walk + 0.05 * rng.standard_normal(walk.shape))
        walk = 1 - np.abs(1 - walk)
    for i in range(5):
        assert stats.ks_2samp(moved[:, i], walk[:, i]).pvalue > 1e-4
    assert np.array_equal(gaussian(jax.random.key(5), start, 0).point, start.point)


def test_held_out_carts_are_the_corners_the_axes_and_the_grid():
    sets = {name: held_out_levels(name).point for name in HELD_OUT_CARTS}
    for name, points in sets.items():
        assert points.shape == (HELD_OUT_CARTS[name], 5)
        assert points.dtype == np.float32
        assert len(np.unique(points, axis=0)) == len(points)
    assert set(np.unique(sets["corners"])) == {0, 1}
    assert set(np.unique(sets["grid"])) == {0, 0.5, 1}
    assert ((sets["axes"] != 0.5).sum(1) == [0] + [1] * 40).all()
    assert sets["axes"][1:9, 0].tolist() == [0, 0.125, 0.25, 0.375, 0.625, 0.75, 0.875, 1]
    with pytest.raises(UserError, match="no set of carts 'edges'; known are corners, axes, grid"):
        held_out_levels("edges")


def test_without_gymnax_one_sentence_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "gymnax.environments.classic_control", None)
    with pytest.raises(UserError, match=r"pip install 'minimax-ued\[gymnax\]'") as error:
        make_environment(TrainConfig(env=CartPoleConfig()))
    assert "\n" not in str(error.value)
