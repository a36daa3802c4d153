"""The verdicts of the runs at scale, on made-up runs."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.minimax_scale import ARMS, LARGE, configuration, verdicts
from minimax_ued.levels.suite import OOD_MAZES
from minimax_ued.settings.methods import DRConfig, ReplayConfig


def _run(rate, walls):
    return {
        "test_mazes": dict.fromkeys(OOD_MAZES, rate),
        "held_out": rate,
        "hard": rate,
        "cvar": {"cvar_10": rate, "cvar_1": rate, "cvar_0.1": rate},
        "large": dict.fromkeys(LARGE, rate),
        "levels": {"walls": list(walls)},
    }


GROWING, FLAT = np.linspace(0, 48, 40), np.full(40, 50.0)


@pytest.mark.parametrize(
    ("dr", "accel", "expected"),
    [
        ([0.95] * 3, [0.99] * 3, [True, True, True]),
        ([0.95, 0.95, 0.8], [0.99] * 3, [False, True, True]),
        ([0.95] * 3, [0.3] * 3, [True, True, False]),
        ([0.95] * 2, [0.99] * 2, [True, True]),  # of two seeds no interval says anything
    ],
)
def test_the_claims_hold_where_the_runs_say_so(dr, accel, expected):
    found = verdicts({"dr": [_run(r, FLAT) for r in dr], "accel": [_run(r, GROWING) for r in accel]})
    assert list(found.values()) == expected


def test_levels_that_do_not_grow_are_told():
    found = verdicts({"dr": [_run(0.9, FLAT)], "accel": [_run(0.9, FLAT)]})
    assert not found["complexity: walls of ACCEL's levels grow, those of dr stay"]


def test_arms_differ_in_the_method_alone():
    base = configuration("dr")
    assert isinstance(base.method, DRConfig)
    for arm in ARMS:
        config = configuration(arm)
        assert (config.student, config.ppo, config.n_envs, config.rollout_steps) == (
            base.student, base.ppo, base.n_envs, base.rollout_steps,
        )  # fmt: skip
    accel = configuration("accel")
    assert isinstance(accel.method, ReplayConfig)
    assert accel.method.mutation is not None
    assert accel.env == replace(base.env, n_walls=0)
    assert configuration("robust plr").method.mutation is None
