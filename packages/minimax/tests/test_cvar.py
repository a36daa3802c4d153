"""The win rate on the worst levels: exact where it can be known, unbiased where it is random."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from minimax_ued.envs.maze import Maze
from minimax_ued.evaluation import cvar
from minimax_ued.evaluation.cvar import ALPHAS, CVaR, tails
from minimax_ued.levels.held_out import held_out_levels
from minimax_ued.nets.students import StudentOutput
from minimax_ued.presets import PRESETS
from paperloop.errors import UserError


class Forward:
    """A student that always walks on."""

    def initial_carry(self, batch):
        return jnp.zeros(batch)

    def apply(self, params, carry, observation, resets, method):
        return carry, StudentOutput(jnp.zeros((*resets.shape, 7)).at[..., 2].set(50.0), carry)


def stand_in():
    """What an evaluator knows of a trainer; two seeds."""
    config = PRESETS["small"]
    return SimpleNamespace(
        env=Maze(config.env), config=config, student=Forward(), student_params=lambda state, student: jnp.zeros(2)
    )


def straight_ahead(level):
    """How many steps straight ahead the goal is, 0 if it is not there."""
    (x, y), (dx, dy) = level.agent_pos, [(1, 0), (0, 1), (-1, 0), (0, -1)][int(level.agent_dir)]
    height, width = level.wall_map.shape
    for step in range(1, 8):
        x, y = x + dx, y + dy
        if not (0 <= x < width and 0 <= y < height) or level.wall_map[y, x]:
            return 0
        if (x, y) == tuple(level.goal_pos):
            return step
    return 0


def test_every_level_is_measured_in_its_place(monkeypatch):
    """In chunks that do not divide the number of levels."""
    monkeypatch.setattr(cvar, "_CHUNK", 48)
    measure = CVaR(stand_in(), n_levels=110, attempts=2)
    levels = held_out_levels("maze7")
    steps = np.array([straight_ahead(jax.tree.map(lambda x: x[i], levels)) for i in range(110)])  # noqa: B023
    assert 0 < (steps > 0).sum() < 110
    for rates in measure.win_rates(None, 0):
        np.testing.assert_array_equal(rates, np.broadcast_to(steps > 0, (2, 110)))
    assert set(measure(None, 0)) == {f"cvar_{p}" for p in ("0.1", "1", "2", "5", "10", "20", "100")}


@pytest.mark.slow
def test_the_two_rounds_are_independent_and_repeatable():
    measure = CVaR(stand_in(), n_levels=60, attempts=3, policy="random")
    (ranking, measured), (_, again), (_, other) = (measure.win_rates(None, seed) for seed in (0, 0, 1))
    assert not np.array_equal(ranking, measured)
    assert not np.array_equal(ranking[0], ranking[1])
    np.testing.assert_array_equal(measured, again)
    assert not np.array_equal(measured, other)


def test_choosing_by_another_round_takes_the_bias_away():
    """All levels are equally hard: the worst tenth is no worse than the rest, though it looks so in its own round."""
    rng = np.random.default_rng(0)
    ranking, measured = rng.binomial(5, 0.5, (2, 3, 4000)) / 5
    unbiased, biased = tails(ranking, measured, (0.1,)), tails(measured, measured, (0.1,))
    assert unbiased.shape == (3, 1)
    assert (abs(unbiased - 0.5) < 4 * np.sqrt(0.25 / 5 / 400)).all()
    assert (biased < 0.2).all()


def test_tails_of_distinct_ranks_are_means_of_sorted_levels():
    rng = np.random.default_rng(1)
    ranking, measured = rng.permuted(np.tile(np.arange(1000.0), (2, 1)), axis=1), rng.random((2, 1000))
    table = tails(ranking, measured)
    for column, alpha in enumerate(ALPHAS):
        worst = np.argsort(ranking, axis=1)[:, : round(alpha * 1000)]
        np.testing.assert_allclose(table[:, column], np.take_along_axis(measured, worst, 1).mean(1))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"n_levels": 601}, "from 1 to 600"),
        ({"n_levels": 0}, "cvar_levels is 0"),
        ({"attempts": 0}, "cvar_attempts is 0"),
        ({"alphas": (0.0,)}, "above 0"),
        ({"policy": "best"}, "'best'"),
    ],
)
def test_bad_arguments(arguments, words):
    with pytest.raises(UserError, match=words):
        CVaR(stand_in(), **arguments)


@pytest.mark.slow
def test_the_largest_stored_set_of_a_size_is_taken():
    trainer = stand_in()
    trainer.config = PRESETS["maze13_dr"]
    trainer.env = Maze(trainer.config.env)
    measure = CVaR(trainer)
    assert (measure.n_levels, measure.name) == (10_000, "maze13-10000")
