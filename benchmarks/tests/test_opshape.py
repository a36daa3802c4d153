"""The benchmarks of opshape: their verdicts, and the smoke tier."""

import numpy as np

from benchmarks.opshape import claims


def arms(shaper, without, shepherd, ipd=(-1.2, -1.7)):
    return {
        "imp shaper": {"reward": [shaper, shaper]},
        "imp shaper, no context": {"reward": [without, without]},
        "imp good shepherd": {"reward": [shepherd, shepherd]},
        "ipd shaper": {"reward": [ipd[0]] * 2, "co_player_reward": [ipd[1]] * 2},
    }


def test_claims_can_fail():
    assert all(claims.verdicts(arms(0.5, 0.3, -0.1)).values())
    assert not claims.verdicts(arms(0.2, 0.1, -0.1))["IMP: Shaper at least +.30"]
    assert not claims.verdicts(arms(0.5, 0.6, -0.1))["IMP: Shaper without context in between"]
    assert not claims.verdicts(arms(0.5, 0.3, 0.2))["IMP: Good Shepherd at most +.10"]
    assert not claims.verdicts(arms(0.5, 0.3, -0.1, ipd=(-1.99, -2.3)))["IPD: Shaper leaves -2"]
    assert not claims.verdicts(arms(0.5, 0.3, -0.1, ipd=(-1.2, -1.2)))["IPD: Shaper earns more than its co-player"]


def test_a_memoryless_agent_that_does_not_learn_proves_nothing_about_coin_game():
    learned = {"reward": [0.1, 0.1], "curve": [[-0.2, 0.1]] * 2}
    idle = {"reward": [-0.2, -0.2], "curve": [[-0.2, -0.2]] * 2}
    both = claims.verdicts({"coin game shaper": learned, "coin game good shepherd": learned})
    assert all(both.values())
    one = claims.verdicts({"coin game shaper": learned, "coin game good shepherd": idle})
    assert not one["CoinGame: good shepherd learns to earn more"]
    assert not one["CoinGame: the memoryless agent shapes as well"]


def test_one_seed_that_fails_fails_the_claim():
    numbers = arms(0.5, 0.3, -0.1)
    numbers["imp shaper"]["reward"] = [0.6, 0.29]
    assert not claims.verdicts(numbers)["IMP: Shaper at least +.30"]


def test_the_smoke_tier_runs(capsys, tmp_path):
    assert claims.main(["--tier", "smoke", "--runs", str(tmp_path)]) == 0
    assert "imp good shepherd" in capsys.readouterr().out


def test_an_arm_is_measured_with_and_without_a_hard_stop(tmp_path):
    tier = claims.TIERS["smoke"]
    trainer, state, numbers = claims.train("imp shaper", tier, seed=0, runs=tmp_path)
    assert np.isfinite(numbers["reward"]).all()
    found = claims.held_out(trainer, state, seed=0, co_players=2)
    difference = np.subtract(found["learning"]["last_reward"], found["hard stop"]["last_reward"])
    np.testing.assert_allclose(found["lost by the stop"], difference)
