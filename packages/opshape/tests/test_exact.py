"""The exact infinite game against closed forms and published results."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from opshape.agents.exact import Fixed, Lola, Maml, Naive, exact_learner, maml_starts, match
from opshape.agents.strategies import STRATEGIES, zero_determinant
from opshape.games.exact import values
from opshape.games.payoffs import PAYOFFS, swap
from paperloop import UserError

POSITIVE = (((2.0, 2.0), (0.0, 3.0)), ((3.0, 0.0), (1.0, 1.0)))
TFT, ALL_C, ALL_D = (jnp.array(STRATEGIES[name]) for name in ("tit_for_tat", "all_c", "all_d"))


@pytest.mark.parametrize(
    ("own", "other", "expected"),
    [
        (ALL_C, ALL_C, (2, 2)),
        (ALL_D, ALL_D, (1, 1)),
        (ALL_D, ALL_C, (3, 0)),
        (ALL_C, TFT, (2, 2)),
        (TFT, TFT, (2, 2)),
        (TFT, ALL_D, (0.99, 1.02)),
        (ALL_D, TFT, (1.02, 0.99)),
    ],
)
def test_values_at_gamma_99(own, other, expected):
    np.testing.assert_allclose(values(own, other, POSITIVE, gamma=0.99), expected, atol=1e-4)


def test_tit_for_tat_loses_the_first_round_only():
    # 0.04 * -3 + 0.96 * -2, 0.04 * 0 + 0.96 * -2
    np.testing.assert_allclose(values(TFT, ALL_D, PAYOFFS["ipd"], gamma=0.96), (-2.04, -1.92), atol=1e-4)


def test_values_equal_the_sum_over_steps():
    own, other = jax.random.uniform(jax.random.key(0), (2, 5))
    p, q = np.asarray(own), np.asarray(other)[[0, 2, 1, 3, 4]]
    rewards = np.array([cell for row in PAYOFFS["chicken"] for cell in row])
    state, total = np.eye(5)[4], np.zeros(2)
    for step in range(400):
        a, b = p, q
        joint = np.stack([a * b, a * (1 - b), (1 - a) * b, (1 - a) * (1 - b)], 1)
        following = state @ joint
        total += 0.04 * 0.96**step * (following @ rewards)
        state = np.append(following, 0)
    np.testing.assert_allclose(values(own, other, PAYOFFS["chicken"], gamma=0.96), total, rtol=1e-4)


def test_swapping_the_players_swaps_the_values():
    own, other = jax.random.uniform(jax.random.key(1), (2, 7, 5))
    there = values(own, other, PAYOFFS["imp"], gamma=0.9)
    back = values(other, own, swap(PAYOFFS["imp"]), gamma=0.9)
    np.testing.assert_allclose(there, back[::-1], atol=1e-5)


@pytest.mark.parametrize("chi", [2.0, 3.0, 5.0])
def test_zero_determinant_strategies_hold_their_line(chi):
    own = jnp.array(zero_determinant(chi=chi, phi=0.05, discount=0.96))
    others = jax.random.uniform(jax.random.key(2), (50, 5))
    mine, theirs = values(own, others, PAYOFFS["ipd"], gamma=0.96)
    np.testing.assert_allclose(mine + 2, chi * (theirs + 2), atol=1e-3)
    assert np.ptp(theirs) > 0.1  # the line is more than a point


# Return of both players at the last parameters, and its standard error: the notebook of Meta-Value Learning (Cooijmans
# et al. 2023), 1,024 trials of 300 updates.
PUBLISHED = {
    ("ipd", "naive", "naive"): (-1.988, 0.003),
    ("ipd", "naive", "lola"): (-1.377, 0.015),
    ("ipd", "lola", "lola"): (-1.041, 0.005),
    ("imp", "naive", "naive"): (0.009, 0.015),
    ("imp", "naive", "lola"): (0.028, 0.016),
    ("imp", "lola", "lola"): (0.027, 0.015),
    ("chicken", "naive", "naive"): (-0.049, 0.023),
    ("chicken", "naive", "lola"): (-0.402, 0.017),
    ("chicken", "lola", "lola"): (-1.641, 0.369),
}


@pytest.mark.slow
@pytest.mark.parametrize("cell", PUBLISHED, ids="-".join)
def test_the_tournament_of_naive_learners_and_lola_is_the_published_one(cell):
    game, *names = cell
    step = 1.0 if game == "chicken" else 25.0
    first, second = ({"naive": Naive, "lola": Lola}[name](step) for name in names)
    own = np.asarray(match(first, second, PAYOFFS[game], jax.random.key(3), updates=300, trials=1024).final[0])
    published, error = PUBLISHED[cell]
    assert abs(own.mean() - published) < 3 * np.hypot(error, own.std() / 32)


def test_lola_teaches_cooperation_and_naive_learners_defect():
    final = [
        float(match(a, a, PAYOFFS["ipd"], jax.random.key(0), updates=200, trials=64).final[0].mean())
        for a in (Naive(), Lola())
    ]
    assert final[0] < -1.9
    assert final[1] > -1.2


@pytest.mark.slow
def test_m_maml_cooperates_from_some_starts_and_the_mean_over_ten_is_the_published_one():
    options = {"gamma": 0.96, "inner": 100, "iterations": 200, "batch": 16, "lr": 0.03, "step": 25.0, "starts": 10}
    found, objective = maml_starts(PAYOFFS["ipd"], jax.random.key(0), **options)
    final = np.array([
        match(Maml(*learned), Naive(), PAYOFFS["ipd"], jax.random.key(1), updates=300, trials=256).final[0].mean()
        for learned in zip(*found, strict=True)
    ])  # fmt: skip
    # Published: -1.398 +- 0.015, which leaves out how much the starts differ.
    assert abs(final.mean() + 1.398) < 3 * final.std(ddof=1) / 10**0.5
    assert objective.max() > -1.1
    assert objective.min() < -1.9


def test_fixed_strategies_do_not_move():
    played = match(Fixed(STRATEGIES["tit_for_tat"]), Naive(), PAYOFFS["ipd"], jax.random.key(0), updates=100, trials=8)
    np.testing.assert_allclose(jax.nn.sigmoid(played.logits[0]), np.tile(TFT, (8, 1)), atol=1e-6)


def test_unknown_names_are_refused():
    with pytest.raises(UserError, match="no player 'tft'"):
        exact_learner("tft", PAYOFFS["ipd"], jax.random.key(0), gamma=0.96, step=1.0)
