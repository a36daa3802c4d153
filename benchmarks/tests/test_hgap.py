"""The benchmark of hgap: its verdicts, and the smoke tier."""

import pytest

from benchmarks.hgap import claims


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


def test_arms_are_models():
    for tier in claims.TIERS.values():
        for arm in tier.arms:
            assert claims.settings_of(arm, tier).tokens > 0


@pytest.mark.slow
def test_the_smoke_tier_runs(capsys):
    assert claims.main(["--tier", "smoke"]) == 0
    assert "random codes" in capsys.readouterr().out
