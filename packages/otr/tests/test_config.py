from __future__ import annotations

import subprocess
import sys

import pytest

from otr import CostConfig, FeatureConfig, ORILConfig, SolverConfig
from otr.presets import DOMAINS, PRESETS
from paperloop.errors import UserError
from paperloop.settings import from_dict, to_dict


@pytest.mark.parametrize("name", PRESETS)
def test_presets_survive_json(name):
    for domain in DOMAINS:
        config = PRESETS[name][domain]
        assert from_dict(type(config), to_dict(config)) == config


def test_published_values():
    otr = PRESETS["otr"]["locomotion"]
    assert (otr.solver.epsilon, otr.solver.iterations, otr.cost.kind) == (0.01, 100, "cosine")
    seabo = {domain: PRESETS["seabo"][domain].squash for domain in DOMAINS}
    assert [seabo[d].beta for d in DOMAINS] == [0.5, 0.5, 5.0]
    assert [seabo[d].divisor for d in DOMAINS] == ["action", "none", "action"]


def test_configurations_load_no_heavy_library():
    code = "import sys, otr.presets, otr.labels.labelling; assert not {'jax', 'numba', 'ott', 'ot'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SolverConfig(epsilon=0.0), "SolverConfig.epsilon is 0.0; it must be above 0"),
        (lambda: SolverConfig(iterations=0), "SolverConfig.iterations is 0; it must be at least 1"),
        (lambda: SolverConfig(band=0), "SolverConfig.band is 0; it must be at least 1, or None"),
        (
            lambda: SolverConfig(backend="exact", band=3),
            "band is 3; it must be None, because SolverConfig.backend 'exact'",
        ),
        (lambda: SolverConfig(backend="cuda"), "SolverConfig.backend is 'cuda'; it must be one of 'auto', 'numba'"),
        (
            lambda: CostConfig(kind="euclidean", context=3),
            "context is 3; it must be 1, because CostConfig.kind",
        ),
        (lambda: FeatureConfig(inputs="pixels"), "FeatureConfig.inputs is 'pixels'; it must be one of 'state'"),
        (
            lambda: ORILConfig(positive_unlabelled=1.0),
            "positive_unlabelled is 1.0; it must be above 0 and below 1, or None",
        ),
        (lambda: ORILConfig(hidden=()), r"hidden is \(\); it must be one or more integers of at least 1"),
    ],
)
def test_messages(make, message):
    with pytest.raises(UserError, match=message):
        make()
