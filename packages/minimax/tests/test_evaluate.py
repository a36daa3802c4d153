import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from minimax_ued.config import LSTMConfig, MazeConfig, StudentConfig
from minimax_ued.envs.base import Timestep
from minimax_ued.envs.maze import Level
from minimax_ued.envs.maze.level import stack_levels
from minimax_ued.evaluation.evaluate import HeldOut
from minimax_ued.evaluation.mazes import OODMazes
from minimax_ued.levels.suite import OOD_MAZES, expand_mazes
from minimax_ued.nets.students import make_student
from minimax_ued.presets import PRESETS
from minimax_ued.trainer import UEDTrainer
from paperloop.errors import UserError


@pytest.fixture(scope="module")
def trainer():
    config = dataclasses.replace(
        PRESETS["small"], seeds=2, student=StudentConfig(core=LSTMConfig(features=4), head_width=4, conv_filters=2)
    )
    return UEDTrainer(config)


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_out_of_distribution_mazes(trainer):
    state = trainer.init(0)
    mazes = OODMazes(trainer, ["SmallCorridor", "Crossing", "SixteenRooms"], n_episodes=3)
    episodes = mazes.episodes(state, seed=0)
    assert list(episodes) == ["SmallCorridor", "Crossing", "SixteenRooms"]
    assert all(e.returns.shape == (2, 3) for e in episodes.values())
    for name, limit in (("SmallCorridor", 450), ("Crossing", 484), ("SixteenRooms", 450)):  # each has its own limit
        returns, lengths, solved = jax.device_get(episodes[name])
        np.testing.assert_allclose(returns, np.where(solved, 1 - 0.9 * lengths / limit, 0), rtol=1e-5)
        assert (lengths[~solved] == limit).all()
    metrics = jax.device_get(mazes(state, seed=0))
    assert metrics["solve_rate"].shape == (2,)
    for kind in ("solve_rate", "return", "regret"):
        each = [metrics[f"{kind}/{name}"] for name in mazes.names]
        np.testing.assert_allclose(metrics[kind], np.mean(each, axis=0), rtol=1e-6)
    # SixteenRooms is one maze with a shortest way of 20 moves and 6 turns; T is 450.
    best = 1 - 0.9 * 26 / 450
    np.testing.assert_allclose(metrics["regret/SixteenRooms"] + metrics["return/SixteenRooms"], best, rtol=1e-5)


def test_every_maze_of_the_suite_exists(trainer):
    assert OODMazes(trainer).names == OOD_MAZES
    assert expand_mazes(["PerfectMaze", "ood"]) == ("PerfectMaze", *OOD_MAZES)
    with pytest.raises(UserError, match="'Labyrinth' is named twice"):
        expand_mazes(["ood", "Labyrinth"])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda t: OODMazes(t, ["Labyrint"]), 'did you mean "Labyrinth"'),
        (lambda t: OODMazes(t, []), "at least one"),
        (lambda t: OODMazes(t, ["Labyrinth", "Labyrinth"]), "each once"),
        (lambda t: HeldOut(t, policy="best"), "'best'"),
        (lambda t: HeldOut(t, n_episodes=0), "n_episodes is 0"),
        (lambda t: HeldOut(t, max_levels=50), "max_levels is 50"),
        (lambda t: OODMazes(t, n_episodes=0), "n_episodes is 0"),
        (lambda t: HeldOut(t, student=1)(t.init(0), 0), "student is 1"),
    ],
)
def test_bad_arguments(trainer, make, words):
    with pytest.raises(UserError, match=words):
        make(trainer)


def test_a_size_without_held_out_levels():
    config = dataclasses.replace(PRESETS["small"], env=MazeConfig(height=9, width=9, n_walls=5, max_steps=64))
    with pytest.raises(UserError, match="none of 9 x 9"):
        HeldOut(UEDTrainer(config))


@pytest.mark.slow
def test_levels_of_ones_own(trainer):
    """Of any size; what cannot be solved within the step limit has no regret."""
    levels = stack_levels([Level.from_text(f">G{'.' * 14}"), Level.from_text(f">#{'.' * 13}G")])
    own = HeldOut(trainer, levels, n_episodes=5)
    np.testing.assert_allclose(own.optimal_returns, [1 - 0.9 / 64, 0.0], rtol=1e-6)
    state = trainer.init(0)
    episodes = own.episodes(state, 0)
    assert episodes.returns.shape == (2, 2, 5)
    assert not episodes.solved[:, 1].any()
    metrics = own(state, 0)
    np.testing.assert_allclose(metrics["solve_rate"], episodes.solved[:, 0].mean(-1) / 2, rtol=1e-6)
    best = np.mean(own.optimal_returns)
    np.testing.assert_allclose(metrics["regret"] + metrics["return"], best, rtol=1e-5)


class Lottery:
    """An environment that is not a maze: one step, and a return that is the level if action 0 is taken, else 0."""

    num_actions, max_steps, success_return = 2, 1, 0.5

    def prepare(self, level):
        return level

    def reset(self, key, level):
        return jnp.int32(0)

    def step(self, key, level, state, action):
        over = jnp.ones((), bool)
        return state + 1, Timestep(
            reward=jnp.where(action == 0, level, 0.0), terminated=over, truncated=jnp.zeros((), bool)
        )

    def observe(self, level, state):
        return level[None]

    def sample_level(self, key):
        return jax.random.uniform(key)

    def optimal_return(self, level):
        return level


class Offering(Lottery):
    def held_out_levels(self):
        return jnp.array([0.2, 0.6, 1.0])


class StandIn:
    """What evaluators know of a trainer."""

    def __init__(self, env):
        self.env, self.config = env, PRESETS["small"]
        observation = jax.ShapeDtypeStruct((1,), jnp.float32)
        self.student = make_student(StudentConfig(core=LSTMConfig(features=4)), num_actions=2, observation=observation)

    def student_params(self, state, student):
        return state


@pytest.mark.slow
def test_an_environment_that_is_no_maze():
    trainer = StandIn(Offering())
    carry = trainer.student.initial_carry(1)
    params = trainer.student.init(jax.random.key(0), carry, jnp.zeros((1, 1, 1)), jnp.ones((1, 1), bool))
    params = jax.tree.map(lambda x: x[None], params)
    held_out = HeldOut(trainer, n_episodes=200)
    np.testing.assert_allclose(held_out.optimal_returns, [0.2, 0.6, 1.0])
    episodes = held_out.episodes(params, 0)
    assert not episodes.solved[0, 0].any()  # success_return counts, not zero
    assert (episodes.returns[0, 0] > 0).any()
    rates = np.asarray(episodes.solved[0, 1:].mean(-1))
    assert ((rates > 0.3) & (rates < 0.7)).all()
    metrics = held_out(params, 0)
    assert set(metrics) == {"solve_rate", "return", "regret"}
    np.testing.assert_allclose(metrics["regret"] + metrics["return"], 0.6, rtol=1e-5)
    assert HeldOut(StandIn(Lottery())).levels.shape == (1000,)
    for make in (lambda: OODMazes(trainer), lambda: HeldOut(trainer, jnp.zeros(3))):
        with pytest.raises(UserError, match="Offering"):
            make()
