"""Payoffs, the finite matrix game and CoinGame on cases that can be checked by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from opshape.agents.strategies import STRATEGIES, fit_zero_determinant, strategy, zero_determinant
from opshape.games.coin_game import CoinGame
from opshape.games.matrix import IteratedMatrixGame
from opshape.games.payoffs import PAYOFFS, check_payoffs, classify, swap
from paperloop import UserError


@pytest.mark.parametrize("name", PAYOFFS)
def test_presets_are_what_their_names_say(name):
    assert classify(PAYOFFS[name]) == name
    assert swap(swap(PAYOFFS[name])) == PAYOFFS[name]


def test_games_without_a_name_are_told():
    assert classify((((3, 3), (2, 2)), ((2, 2), (1, 1)))) == "harmony"
    assert classify((((0, 0), (0, 0)), ((0, 0), (0, 0)))) == "other"
    # alternation pays more than cooperation: not the iterated dilemma
    assert classify((((3, 3), (0, 7)), ((7, 0), (1, 1)))) == "other"


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ([[1, 2], [3, 4]], "must have the form"),
        ([[[1, 2], [3, 4]]], "must have the form"),
        ([[[1, 1], [0, float("nan")]], [[0, 0], [1, 1]]], "not finite"),
        ([[["a", 1], [0, 1]], [[0, 0], [1, 1]]], "must have the form"),
    ],
)
def test_bad_payoffs_are_refused(table, said):
    with pytest.raises(UserError, match=said):
        check_payoffs(table)


def test_the_matrix_game_pays_what_the_table_says_and_shows_both_sides():
    game = IteratedMatrixGame(PAYOFFS["ipd"])
    none = jnp.zeros((4, 0))
    start = game.reset(none)
    np.testing.assert_array_equal(start, [4, 4, 4, 4])
    state, (own, other) = game.step(start, (jnp.array([0, 0, 1, 1]), jnp.array([0, 1, 0, 1])), none)
    np.testing.assert_array_equal(own, [-1, -3, 0, -2])
    np.testing.assert_array_equal(other, [-1, 0, -3, -2])
    mine, theirs = game.observe(state)
    np.testing.assert_array_equal(mine, [0, 1, 2, 3])
    np.testing.assert_array_equal(theirs, [0, 2, 1, 3])
    np.testing.assert_array_equal(game.observe(start)[1], [4, 4, 4, 4])


def image(observation):
    """The usual 3 x 3 x 4 one-hot image of a CoinGame observation."""
    flat = np.zeros(36, int)
    flat[np.asarray(observation)] = 1
    return flat.reshape(4, 3, 3)


def test_coin_game_by_hand():
    game = CoinGame(egocentric=False)
    # red at (0, 0), blue at (2, 2), red coin at (0, 1), blue coin at (2, 0)
    state = jnp.array([[0, 8, 1, 6]])
    # red goes right onto its own coin; blue goes right, around the edge, onto its own coin
    noise = jnp.array([[4.5 / 9, 3.5 / 9]])
    after, (red, blue) = game.step(state, (jnp.array([0]), jnp.array([0])), noise)
    np.testing.assert_array_equal(after, [[1, 6, 4, 3]])
    assert (red[0], blue[0]) == (1, 1)
    counted = game.statistics(state, (jnp.array([0]), jnp.array([0])), after)
    assert {name: float(value[0]) for name, value in counted.items()} == {
        "own_coins": 1, "foreign_coins": 0, "own_coins_other": 1, "foreign_coins_other": 0,
    }  # fmt: skip


def test_stealing_a_coin_costs_its_owner_two():
    game = CoinGame()
    state = jnp.array([[0, 8, 8, 3]])  # red goes down onto the blue coin; blue stays on the red coin
    _, (red, blue) = game.step(state, (jnp.array([2]), jnp.array([4])), jnp.zeros((1, 2)))
    assert (red[0], blue[0]) == (1 - 2, 1 - 2)


def test_egocentric_views_put_oneself_in_the_centre():
    state = jnp.array([[8, 0, 6, 4]])  # red (2, 2), blue (0, 0), red coin (2, 0), blue coin (1, 1)
    own, other = (image(view[0]) for view in CoinGame().observe(state))
    # red moves by (-1, -1): blue to (2, 2), its coin to (1, 2), blue's coin to (0, 0)
    assert [np.argwhere(channel).tolist() for channel in own] == [[[1, 1]], [[2, 2]], [[1, 2]], [[0, 0]]]
    # blue moves by (1, 1): red to (0, 0), its coin to (2, 2), red's coin to (0, 1)
    assert [np.argwhere(channel).tolist() for channel in other] == [[[1, 1]], [[0, 0]], [[2, 2]], [[0, 1]]]


def test_zero_determinant_strategies_are_found_again():
    own = zero_determinant(chi=3.0, phi=0.1)
    fit = fit_zero_determinant(own)
    np.testing.assert_allclose(fit, (3.0, 0.1, -2.0, 0.0), atol=1e-9)
    assert fit_zero_determinant(STRATEGIES["tit_for_tat"]).chi == pytest.approx(1)
    assert strategy("zd:3:0.1") == own
    assert np.isnan(fit_zero_determinant((1.0, np.nan, np.nan, 0.0)).chi)


def test_parameters_that_give_no_probabilities_are_refused():
    with pytest.raises(UserError, match="after CD: take a smaller phi"):
        zero_determinant(chi=3.0, phi=0.5)
    with pytest.raises(UserError, match="not a number"):
        strategy("zd:three:1")
