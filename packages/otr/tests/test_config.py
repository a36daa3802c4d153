from __future__ import annotations

import subprocess
import sys

import pytest

from otr import CostConfig, FeatureConfig, ORILConfig, SolverConfig
from otr.presets import DOMAINS, PRESETS
from outerloop.config import from_dict, to_dict
from outerloop.errors import UserError


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
    code = "import sys, otr, otr.presets, otr.label; assert not {'jax', 'numba', 'ott', 'ot'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SolverConfig(epsilon=0.0), "solver.epsilon is a number above 0; got 0.0"),
        (lambda: SolverConfig(iterations=0), "solver.iterations is a number of at least 1; got 0"),
        (lambda: SolverConfig(band=0), "solver.band is a number of at least 1; got 0"),
        (lambda: SolverConfig(backend="exact", band=3), "knows neither band nor rho_agent"),
        (lambda: SolverConfig(backend="cuda"), "solver.backend is one of"),
        (lambda: CostConfig(kind="euclidean", context=3), "cost.context above 1 needs"),
        (lambda: FeatureConfig(inputs="pixels"), "features.inputs is one of"),
        (lambda: ORILConfig(positive_unlabelled=1.0), r"positive_unlabelled lies in \(0, 1\), or is None; got 1.0"),
        (lambda: ORILConfig(hidden=()), "hidden is one or more widths"),
    ],
)
def test_messages(make, message):
    with pytest.raises(UserError, match=message):
        make()
