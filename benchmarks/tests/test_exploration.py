"""The benchmarks of generalized-exploration: their verdicts, and the smoke tiers."""

import pytest

from benchmarks.exploration import growth, levels, supervised


def row(arm, accuracy, corrupted=0.1, until=None):
    return {
        "arm": arm, "accuracy": accuracy, "low": accuracy - 0.01, "high": accuracy + 0.01, "corrupted": corrupted,
        "steps_to_uniform": until,
    }  # fmt: skip


def test_supervised_claims_can_fail():
    def found(rho, until, loss, poor):
        good = [row("uniform", 0.6), row("reducible_loss", rho, until=until), row("loss", loss, 0.3)]
        return {
            "mazes": {"table": good, "steps": 2000},
            "mazes_poor_reference": {"table": [row("uniform", 0.6), row("reducible_loss", poor)]},
        }

    assert all(supervised.verdicts(found(0.7, 900, 0.2, 0.3)).values())
    assert list(supervised.verdicts(found(0.7, 1100, 0.2, 0.3)).values()) == [False, True, True, True, True]
    assert list(supervised.verdicts(found(0.6, None, 0.6, 0.6)).values()) == [False, False, False, True, False]


def test_growth_claims_can_fail():
    def rows(low, lost):
        return [
            {"arm": "uniform", "passed": [3.0, 2.5, 3.5], "lost": [0.0, 0.0, 0.0]},
            {"arm": "loss", "passed": [low + 0.5, low, low + 1], "lost": [lost, lost, lost]},
        ]

    assert list(growth.verdicts(rows(4.0, 0.0)).values()) == [True, True]
    assert list(growth.verdicts(rows(4.0, 1.0)).values()) == [True, False]
    assert list(growth.verdicts(rows(3.0, 0.0)).values()) == [False, False]


def test_level_claims_can_fail():
    verdict = levels.verdicts({"max_mc": {"replay": [0.5, 0.1]}, "relative_regret": {"replay": [0.1, 0.2]}})
    assert list(verdict.values()) == [False, True]


@pytest.mark.slow
@pytest.mark.parametrize("part", [supervised, growth, levels])
def test_the_smoke_tier_runs(part, tmp_path, capsys):
    assert part.main(["--tier", "smoke", "--runs", str(tmp_path)]) == 0
    assert "uniform" in capsys.readouterr().out
