"""The benchmarks run from end to end on the smallest sizes. No speed is asserted."""

import json

import pytest

from benchmarks import minimax, minimax_speed, runner_overhead
from benchmarks.harness import Comparison


def test_runner_overhead_drives_both_loops_to_the_same_state():
    result, cells = runner_overhead.measure("numpy", steps=20, step_us=50, rounds=2)
    assert result["equal"]
    assert len(cells) == 8
    assert all(r["outside_s"] < r["steps_s"] <= r["total_s"] for rows in result["trials"].values() for r in rows)


def environment(walls, image, episodes):
    statistics = {"levels": 2000, "walls_mean": walls, "walls_sd": 2.4, "solvable": 0.857}
    trial = {"work": 100_000, "image_mean": image, "episodes": episodes, "reward_sum": 20.0}
    return {"level_statistics": statistics}, [trial]


@pytest.mark.parametrize(
    ("other", "equal"),
    [
        ((50.6, 0.129, 490), True),
        ((48.0, 0.129, 490), False),  # other levels
        ((50.6, 0.160, 490), False),  # another view
        ((50.6, 0.129, 900), False),  # episodes end elsewhere
    ],
)
def test_the_speed_benchmark_notices_another_game(other, equal):
    (info_a, trials_a), (info_b, trials_b) = environment(50.63, 0.1285, 500), environment(*other)
    comparison = Comparison({"a": info_a, "b": info_b}, {"a": trials_a, "b": trials_b}, {})
    assert minimax_speed.same_game("env", comparison)["equal"] is equal


def test_the_report_says_whether_the_claim_holds():
    def arm(held_out, hard):
        curve = {"env_steps": [0, 10], "held_out": [[0.1] * 3, held_out], "hard": [[0.0] * 3, hard]}
        final = {"held_out": held_out, "hard": hard}
        return {"final": final, "curve": curve, "updates": [4, 4, 4], "env_steps": 10, "cost": {"wall_s": 1.0}}

    good, bad = arm([0.90, 0.92, 0.94], [0.7, 0.66, 0.65]), arm([0.90, 0.92, 0.94], [0.7, 0.6, 0.6])
    verdict, text = minimax.report("cpu", {"dr": good, "plr": bad})
    assert verdict["passed"]
    assert "holds" in text
    assert verdict["improvement_on_hard_over_dr"]["plr"]["point"] == pytest.approx(2.5 / 9)  # one tie counts half
    verdict, text = minimax.report("cpu", {"dr": bad})
    assert not verdict["passed"]
    assert "DOES NOT HOLD" in text


@pytest.mark.parametrize("tier", minimax.TIERS.values(), ids=minimax.TIERS)
def test_the_arms_of_a_tier_differ_in_the_method_alone(tier):
    configs = [minimax.configuration(tier, arm, {}) for arm in tier.presets]
    assert [c.method for c in configs] == list(tier.presets)
    for name in ("env", "student", "n_envs", "rollout_steps", "seeds", "total_cycles", "buffer"):
        assert len({getattr(c, name) for c in configs}) == 1, name


@pytest.mark.slow
@pytest.mark.jax
def test_the_smoke_tier_trains_evaluates_and_reports(tmp_path):
    assert minimax.main(["--tier", "smoke", "--out", str(tmp_path)]) == 0
    result = json.loads((tmp_path / "minimax_smoke.json").read_text())
    arm = result["arms"]["robust_plr"]
    assert arm["env_steps"] == 3 * 32 * 64
    assert min(arm["updates"]) >= 1  # it replayed
    for values in arm["final"].values():
        assert len(values) == 2
        assert min(values) >= 0
        assert max(values) <= 1
    assert (tmp_path / "minimax_smoke.png").stat().st_size > 0
