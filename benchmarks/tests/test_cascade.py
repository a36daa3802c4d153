"""The benchmarks of cascade-explore: their claims can fail, and arms get the same of everything."""

import numpy as np
import pytest

from benchmarks.cascade import rooms, tabular
from paperloop_lab.stats import Interval


def runs(*ends):
    return [{"coverage": [0.1, end], "entropy": [1.0, 2.0], "distinct": [1.0, 2.0]} for end in ends]


def test_claims_about_learned_models_need_intervals_apart():
    numbers = {"cascade": runs(0.8, 0.81, 0.82), "population": runs(0.5, 0.52, 0.51), "random": runs(0.7, 0.9, 0.8)}
    found = rooms.verdicts(numbers)
    assert found == {"cascade covers more than population": True, "cascade covers more than random": False}
    curves = rooms.over_seeds([one["coverage"] for one in numbers["cascade"]])
    np.testing.assert_allclose(curves.point, [0.1, 0.81])
    assert curves.low[1] < 0.81 < curves.high[1]


@pytest.mark.parametrize("tier", rooms.TIERS)
def test_arms_share_steps_streams_model_and_updates(tier):
    made = list(rooms.arms(rooms.TIERS[tier]).values())
    for name in ("env", "world", "env_steps", "updates", "deployments", "stream_steps", "steps"):
        assert len({getattr(config, name) for config in made}) == 1
    assert len({config.agents * config.envs for config in made}) == 1


def test_claims_in_tables_can_fail():
    assert all(tabular.tree_claims().values())
    ends = {
        "cascade": Interval(0.5, 0.4, 0.6),
        "population": Interval(0.3, 0.2, 0.39),
        "random": Interval(0.3, 0.2, 0.41),
    }
    assert list(tabular.room_claims("x", ends).values()) == [True, False, False]
