"""The benchmarks run from end to end on the smallest sizes. No speed is asserted."""

import argparse
import dataclasses
import json
import sys

import numpy as np
import pytest

from benchmarks import minimax, minimax_cycles, minimax_speed, minimax_throughput, runner_overhead
from benchmarks.harness import ROOT, Comparison
from minimax_ued.config import LSTMConfig, MazeConfig, StudentConfig
from minimax_ued.presets import PRESETS
from paperloop_lab import stats

sys.path.insert(0, str(ROOT / "benchmarks" / "peers"))  # as their scripts find each other

import minimax_ued_cycle
from minimax_arms import ARMS, kinds, measured


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


def arm(held_out, hard, **more):
    curve = {"env_steps": [0, 10], "held_out": [[0.1] * 3, held_out], "hard": [[0.0] * 3, hard]}
    levels = {"env_steps": [], "walls": [], "path_length": []}
    final = {"held_out": held_out, "hard": hard}
    cost = {"train_wall_s": 1.0}
    return {
        "final": final,
        "curve": curve,
        "levels": levels,
        "updates": [4, 4, 4],
        "env_steps": 10,
        "cost": cost,
        **more,
    }


def test_the_report_says_whether_the_claim_holds():
    good, bad = arm([0.90, 0.92, 0.94], [0.7, 0.66, 0.65]), arm([0.90, 0.92, 0.94], [0.7, 0.6, 0.6])
    verdict, text = minimax.report("small", {"dr": good, "plr": bad})
    assert verdict["passed"]
    assert "holds" in text
    assert verdict["improvement_on_hard_over_dr"]["plr"]["point"] == pytest.approx(2.5 / 9)  # one tie counts half
    verdict, text = minimax.report("small", {"dr": bad})
    assert not verdict["passed"]
    assert "DOES NOT HOLD" in text


def grown(first, last):
    return {
        "env_steps": [1, 2],
        "walls": [[first] * 3, [last] * 3],
        "path_length": [[first / 5] * 3, [last / 5] * 3],
    }


@pytest.mark.parametrize(
    ("dr", "accel", "passed"),
    [((50, 51), (1, 20), True), ((50, 51), (20, 20), False), ((50, 60), (1, 20), False)],
)
def test_the_report_says_whether_complexity_emerges(dr, accel, passed):
    rates = [0.9, 0.9, 0.8]
    measures = {
        "cvar": {"cvar_10": rates, "cvar_100": rates},
        "test_mazes": {"A": rates, "B": [0.5, 0.5, 0.6], "C": [0.0, 0.0, 0.0]},
    }
    arms = {
        "dr": arm(rates, rates, **measures, levels=grown(*dr)),
        "parallel_accel": arm(rates, rates, **measures, levels=grown(*accel)),
    }
    arms["dr"]["controls"] = {"random policy": {"final": arms["dr"]["final"], **measures}}
    for tier in ("cpu", "gpu"):
        verdict, text = minimax.report(tier, arms)
        assert verdict["passed"] is passed
        assert verdict["summary"]["dr"]["cvar_10"]["point"] == pytest.approx(np.mean(rates))
        assert verdict["summary"]["dr"]["ood_iqm"]["point"] == pytest.approx(
            stats.iqm(list(measures["test_mazes"].values()))
        )
        assert "random policy" in text
    assert "0.985" in text  # what was published for ACCEL


@pytest.mark.parametrize("tier", minimax.TIERS.values(), ids=minimax.TIERS)
def test_the_arms_of_a_tier_differ_in_the_method_alone(tier):
    configs = [minimax.configuration(tier, arm, {}) for arm in tier.presets]
    assert [c.method.name for c in configs] == list(tier.presets)
    for name in ("student", "ppo", "n_envs", "rollout_steps", "seeds"):
        assert len({getattr(c, name) for c in configs}) == 1, name
    # ACCEL starts from empty mazes; everything else about them is the same.
    assert len({dataclasses.replace(c.env, n_walls=0) for c in configs}) == 1
    assert all(c.env.n_walls == 0 for c in configs if c.method.mutation is not None)
    steps = [c.total_cycles * c.env_steps_per_cycle for c in configs]
    if min(steps) > 1e6:
        assert max(steps) < 1.02 * min(steps)


def test_every_arm_is_timed_in_the_released_configuration():
    assert [*ARMS] == [f"{m}-{a}" for m in ("dr", "plr", "accel", "paired") for a in ("lstm", "s5")]
    for timed in ARMS.values():
        kind = {"batch": 32, "length": 256, "epochs": 5, "devices": 1}
        config = minimax_ued_cycle.configuration(timed, argparse.Namespace(**kind))
        released = PRESETS[f"{'maze13' if timed.arch == 'lstm' else 's5'}_{timed.method}"]
        assert config.student == released.student
        assert config.env == released.env
        assert config.ppo == released.ppo
        if timed.replays:
            assert sum(kinds(timed).values()) == 1
            kept = released.method.buffer
            assert kinds(timed)["learn"] == pytest.approx(kept.replay_prob)
            assert dataclasses.replace(config.method.buffer, min_fill=0.5, replay_prob=kept.replay_prob) == kept
        if timed.n_edits:
            assert config.method.mutation == released.method.mutation
        if timed.teacher_filters:
            ours, theirs = config.method.teacher, released.method.teacher
            assert dataclasses.replace(ours, ppo=theirs.ppo) == theirs
            assert ours.ppo.entropy_coef == theirs.ppo.entropy_coef


def test_a_cycle_is_put_together_by_the_shares_of_its_kinds(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: clock[0])
    monkeypatch.setattr("time.process_time", lambda: 2 * clock[0])

    def prepare(kind):
        clock[0] += 100  # not timed

        def cycle():
            clock[0] += {"learn": 4.0, "look": 1.0}[kind]

        return cycle

    found = measured(ARMS["accel-lstm"], prepare, {"learn": 2, "look": 3})
    assert found["kinds"] == {"learn": {"wall_s": 4.0, "cpu_s": 8.0}, "look": {"wall_s": 1.0, "cpu_s": 2.0}}
    assert found["wall_s"] == pytest.approx(0.8 * 4 + 0.2 * 1)
    assert found["cpu_s"] == pytest.approx(2 * found["wall_s"])


def cycles(parameters=432_924, learned=True, looked=False, entropy=1.945, walls=50.0):
    stats = {"learn": {"learned": learned, "entropy": entropy}, "look": {"learned": looked, "entropy": None}}
    info = {"parameters": parameters, "teacher_parameters": 0}
    return info, [{"stats": stats, "walls": walls}]


@pytest.mark.parametrize(
    ("other", "equal"),
    [
        ({}, True),
        ({"parameters": 432_000}, False),
        ({"looked": True}, False),  # an update where there should be none
        ({"learned": False}, False),
        ({"entropy": 1.5}, False),
        ({"walls": 30.0}, False),  # other levels
    ],
)
def test_the_cycle_benchmark_notices_other_work(other, equal):
    (info_a, trials_a), (info_b, trials_b) = cycles(), cycles(**other)
    comparison = Comparison({"a": info_a, "b": info_b}, {"a": trials_a, "b": trials_b}, {})
    assert minimax_cycles.same_work(ARMS["plr-lstm"], comparison)["equal"] is equal


@pytest.mark.parametrize("variant", minimax_throughput.VARIANTS)
def test_the_arithmetic_of_the_network_is_counted(variant):
    config = minimax_throughput.configuration(32, variant, 1)
    macs = minimax_throughput.multiplications(config)
    # Weights are used once a step, those of the convolution at each of 9 places.
    assert macs == pytest.approx(435_000 if config.student.core.type == "lstm" else 450_000, rel=0.05)


@pytest.mark.slow
@pytest.mark.jax
def test_the_throughput_benchmark_goes_on_with_missing_rows(tmp_path, monkeypatch):
    tiny = {
        "student": StudentConfig(core=LSTMConfig(features=8), head_width=8),
        "env": MazeConfig(max_steps=16),
        "rollout_steps": 16,
    }
    whole = minimax_throughput.configuration
    monkeypatch.setattr(minimax_throughput, "configuration", lambda n, v, c: whole(n, v, c, tiny))
    arguments = ["--repeats", "1", "--variant", "plain", "--out", str(tmp_path)]
    assert minimax_throughput.main([*arguments, "--envs", "4"]) == 0
    assert minimax_throughput.main([*arguments, "--envs", "8", "--minutes", "0"]) == 0  # no time for another row
    (path,) = tmp_path.glob("minimax_throughput_*.json")
    (row,) = json.loads(path.read_text())["rows"].values()
    assert row["learned"] == 1
    assert row["steps_per_s"] == pytest.approx(4 * 16 / row["cycle_s"])
    assert min(row["phases_s"].values()) > 0
    assert row["arithmetic_floor_s"] > 0
    assert row["dependency_floor_s"] > 0


@pytest.mark.slow
@pytest.mark.jax
def test_the_smoke_tier_trains_evaluates_and_reports_and_goes_on(tmp_path):
    arguments = ["--tier", "smoke", "--out", str(tmp_path), "--runs", str(tmp_path / "runs")]
    assert minimax.main([*arguments, "--minutes", "0"]) == minimax.AGAIN  # no time for anything
    assert not (tmp_path / "minimax-smoke.json").exists()
    assert minimax.main(arguments) == 0
    result = json.loads((tmp_path / "minimax-smoke.json").read_text())
    assert [*result["arms"]] == [*minimax.TIERS["smoke"].presets]
    for arm in result["arms"].values():
        assert arm["env_steps"] >= 60_000
        assert min(arm["updates"]) >= 1
        assert len(arm["curve"]["env_steps"]) == 2
        for values in (*arm["final"].values(), *arm["cvar"].values(), *arm["test_mazes"].values()):
            assert len(values) == 2
            assert min(values) >= 0
            assert max(values) <= 1
    accel = result["arms"]["parallel_accel"]["levels"]
    assert np.mean(accel["walls"][0]) < np.mean(accel["walls"][-1])  # edits build walls
    assert (tmp_path / "minimax-smoke.png").stat().st_size > 0
    (tmp_path / "minimax-smoke.json").unlink()
    assert minimax.main(arguments) == 0  # reads what is finished
    assert json.loads((tmp_path / "minimax-smoke.json").read_text())["arms"] == result["arms"]
