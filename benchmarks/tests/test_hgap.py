"""The benchmark of hgap: its verdicts, and the smoke tier."""

import itertools

import numpy as np
import pytest

from benchmarks.hgap import claims, cmu
from hgap.envs.bodies import find_body
from hgap.envs.objectives import Trajectory


def results(planner, control, mppi, tenth):
    def cell(value):
        return {"forward": {"returns": [value - 1, value, value + 1]}}

    return {
        "2 codes": cell(planner), "1 code": cell(90), "4 codes": cell(101), "cloning": cell(control),
        "greedy": cell(control), "random codes": cell(control), "mppi": cell(mppi), "10 % of the data": cell(tenth),
    }  # fmt: skip


def test_claims_can_fail():
    errors = {"1 code": 0.3, "2 codes": 0.2, "4 codes": 0.1}
    good = claims.verdicts(results(100, 10, 150, 50), errors)
    assert len(good) == 7
    assert all(good.values())
    wide = results(100, 10, 150, 50) | {
        "wide prior": {"forward": {"returns": [120.0]}},
        "iql": {"forward": {"returns": [115.0]}},
    }
    assert not claims.verdicts(wide, errors)["size: a wider prior, no higher return"]
    assert not claims.verdicts(wide, errors)["specialists: nine tenths of the best of them"]
    assert not claims.verdicts(results(100, 99.5, 150, 50), errors)["steering: above greedy on every objective"]
    assert not claims.verdicts(results(100, 10, 300, 50), errors)["dynamics: at least half of MPPI's return"]
    assert not claims.verdicts(results(100, 10, 150, 101), errors)["data: more of it, a higher return"]
    assert not claims.verdicts(results(100, 10, 150, 50), errors | {"4 codes": 0.25})[
        "codes: more of them, a lower error"
    ]


def test_arms_are_models_of_every_body():
    for tier, body in itertools.product(claims.TIERS.values(), claims.BODIES.values()):
        for arm in tier.arms:
            assert claims.settings_of(arm, tier, body).tokens > 0


def test_on_a_body_that_falls_staying_up_pays():
    body = claims.BODIES["walker2d"]
    slices = dict(find_body(body.env_id).slices)
    states = np.zeros((2, 1, 17))
    states[0, 0, 0], states[1, 0, :2] = 1.2, (0.85, 1.0)
    for name, objective in body.objectives.items():
        up, falling = objective(Trajectory(states, np.zeros((2, 1, 6)), slices))[:, 0]
        assert up > 0.9 > -8 > falling, name


def test_an_objective_that_a_body_has_not_is_refused(capsys):
    with pytest.raises(SystemExit):
        claims.main(["--tier", "smoke", "--body", "walker2d", "--objectives", "turn"])
    assert "walker2d has forward, backward, jump, stop, tall, and not turn" in capsys.readouterr().err


@pytest.mark.slow
def test_the_smoke_tier_runs(capsys):
    assert claims.main(["--tier", "smoke"]) == 0
    assert "random codes" in capsys.readouterr().out


def test_claims_on_the_humanoid_can_fail():
    def cell(*values):
        return {"stand": {"returns": list(values)}}

    good = {"hgap": cell(9, 10, 11), "greedy": cell(5), "mppi": cell(8), "mppi from the stance": cell(9)}
    assert list(cmu.verdicts(good).values()) == [True, True, True]
    assert not any(cmu.verdicts(good | {"hgap": cell(1, 5, 8)}).values())


@pytest.mark.slow
def test_the_smoke_tier_of_the_humanoid_runs(capsys):
    pytest.importorskip("dm_control", reason="the model of the body comes with dm-control")
    assert cmu.main(["--tier", "smoke"]) == 0
    assert "mppi from the stance" in capsys.readouterr().out
