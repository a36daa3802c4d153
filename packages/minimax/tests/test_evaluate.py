import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from minimax_ued.config import PRESETS, MazeConfig, StudentConfig
from minimax_ued.envs.maze import Level, Maze
from minimax_ued.evaluate import OOD_MAZES, HeldOut, OODMazes, play
from minimax_ued.students import StudentOutput
from minimax_ued.trainer import UEDTrainer
from outerloop.errors import UserError

T = 10


class Forward:
    """A student that always walks on, and says how often it was told to forget."""

    def initial_carry(self, batch):
        return jnp.zeros(batch)

    def apply(self, params, carry, observation, resets, method):
        assert method == "step"
        logits = jnp.zeros((*resets.shape, 7)).at[..., 2].set(50.0)
        return carry + resets, StudentOutput(logits, carry)


def corridor(goal, wall=None):
    walls = np.zeros((1, 8), bool)
    if wall is not None:
        walls[0, wall] = True
    return Level(
        wall_map=jnp.asarray(walls), goal_pos=jnp.array([goal, 0]), agent_pos=jnp.array([0, 0]), agent_dir=jnp.array(0)
    )


@pytest.mark.parametrize("policy", ["sampled", "greedy"])
def test_only_the_first_episode_counts(policy):
    env = Maze(MazeConfig(height=1, width=8, n_walls=0, max_steps=T))
    levels = jax.tree.map(lambda *x: jnp.stack(x), corridor(1), corridor(5), corridor(5, wall=3))
    episodes = play(env, Forward(), None, jax.random.key(0), levels, policy=policy)
    np.testing.assert_allclose(episodes.returns, [1 - 0.9 * 1 / T, 1 - 0.9 * 5 / T, 0.0], rtol=1e-6)
    np.testing.assert_array_equal(episodes.lengths, [1, 5, T])
    np.testing.assert_array_equal(episodes.solved, [True, True, False])


@pytest.fixture(scope="module")
def trainer():
    config = dataclasses.replace(
        PRESETS["small"], seeds=2, student=StudentConfig(features=4, head_width=4, conv_filters=2)
    )
    return UEDTrainer(config)


def test_held_out_levels(trainer):
    state = trainer.init(0)
    held_out = HeldOut(trainer)
    assert held_out.name == "maze7"
    assert (len(held_out.hard), held_out.hard.sum()) == (600, 100)
    metrics = jax.device_get(held_out(state, seed=0))
    assert set(metrics) == {f"{k}{s}" for k in ("solve_rate", "return", "regret") for s in ("", "_hard")}
    assert all(v.shape == (2,) and v.dtype == np.float32 for v in metrics.values())
    assert (metrics["solve_rate_hard"] < metrics["solve_rate"]).all()
    np.testing.assert_allclose(metrics["regret"] + metrics["return"], held_out.optimal_returns.mean(), rtol=1e-5)
    assert (held_out.optimal_returns > 0).all()
    again = jax.device_get(held_out(state, seed=0))
    assert all(np.array_equal(metrics[k], again[k]) for k in metrics)
    assert any(not np.array_equal(metrics[k], v) for k, v in jax.device_get(held_out(state, seed=1)).items())


def test_an_untrained_student_is_a_random_one(trainer):
    """Its policy starts uniform, so that with the same random numbers even the episodes are the same."""
    state = trainer.init(0)
    random, sampled = (HeldOut(trainer, policy=p, max_levels=150).episodes(state, 3) for p in ("random", "sampled"))
    np.testing.assert_array_equal(random.returns, sampled.returns)
    assert random.returns.shape == (2, 150, 1)
    shaken = state.replace(
        params=jax.tree.map(lambda x: x + 1.0 * jax.random.normal(jax.random.key(0), x.shape), state.params)
    )
    random_again = HeldOut(trainer, policy="random", max_levels=150).episodes(shaken, 3)
    np.testing.assert_array_equal(random.returns, random_again.returns)  # whatever the weights


def test_out_of_distribution_mazes(trainer):
    state = trainer.init(0)
    mazes = OODMazes(trainer, ["SmallCorridor", "Crossing", "SixteenRooms"], n_episodes=3)
    episodes = mazes.episodes(state, seed=0)
    assert list(episodes) == ["SmallCorridor", "Crossing", "SixteenRooms"]
    assert all(e.returns.shape == (2, 3) for e in episodes.values())
    for name, limit in (("SmallCorridor", 450), ("Crossing", 484), ("SixteenRooms", 450)):  # each has its own limit
        returns, lengths = jax.device_get(episodes[name])
        np.testing.assert_allclose(returns, np.where(returns > 0, 1 - 0.9 * lengths / limit, 0), rtol=1e-5)
        assert (lengths[returns == 0] == limit).all()
    metrics = jax.device_get(mazes(state, seed=0))
    assert metrics["solve_rate"].shape == (2,)
    rates = [metrics[f"solve_rate/{name}"] for name in mazes.names]
    np.testing.assert_allclose(metrics["solve_rate"], np.mean(rates, axis=0), rtol=1e-6)


def test_every_maze_of_the_suite_exists(trainer):
    assert OODMazes(trainer).names == OOD_MAZES


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda t: OODMazes(t, ["Labyrint"]), "did you mean 'Labyrinth'"),
        (lambda t: OODMazes(t, []), "at least one"),
        (lambda t: OODMazes(t, ["Labyrinth", "Labyrinth"]), "each once"),
        (lambda t: HeldOut(t, "maze8"), "maze"),
        (lambda t: HeldOut(t, policy="best"), "'best'"),
        (lambda t: HeldOut(t, n_episodes=0), "n_episodes is 0"),
        (lambda t: HeldOut(t, max_levels=50), "max_levels is 50"),
    ],
)
def test_bad_arguments(trainer, make, words):
    with pytest.raises(UserError, match=words):
        make(trainer)


def test_a_size_without_held_out_levels():
    config = dataclasses.replace(PRESETS["small"], env=MazeConfig(height=9, width=9, n_walls=5, max_steps=64))
    with pytest.raises(UserError, match="none of 9 x 9"):
        HeldOut(UEDTrainer(config))
