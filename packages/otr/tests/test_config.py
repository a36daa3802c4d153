from __future__ import annotations

import subprocess
import sys

import pytest

from otr import Converged, ExactConfig, FeatureConfig, ORILConfig, OTRConfig, Parity, SinkhornConfig, preset
from otr.presets import DOMAINS, PRESETS
from paperloop.errors import UserError
from paperloop.settings import from_dict, to_dict


@pytest.mark.parametrize("name", PRESETS)
def test_presets_survive_json(name):
    config = PRESETS[name]
    assert from_dict(type(config), to_dict(config)) == config


def test_published_values():
    otr = PRESETS["otr"]
    assert (otr.solver.epsilon, otr.solver.mode.iterations, otr.cost.type) == (0.01, 100, "cosine")
    seabo = {domain: preset("seabo", domain).squash for domain in DOMAINS}
    assert [seabo[d].beta for d in DOMAINS] == [0.5, 0.5, 5.0]
    assert [seabo[d].divisor for d in DOMAINS] == ["action", "none", "action"]


def test_configurations_load_no_heavy_library():
    code = "import sys, otr.presets, otr.labels.labelling; assert not {'jax', 'numba', 'ott', 'ot'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SinkhornConfig(epsilon=0.0), "SinkhornConfig.epsilon is 0.0; it must be above 0"),
        (lambda: Parity(iterations=0), "Parity.iterations is 0; it must be at least 1"),
        (lambda: SinkhornConfig(band=0), "SinkhornConfig.band is 0; it must be at least 1, or None"),
        (lambda: ExactConfig(band=3), "band"),
        (lambda: Converged(iterations=3), "iterations"),
        (lambda: from_dict(OTRConfig, {"cost": {"type": "euclidean", "context": 3}}), "context"),
        (lambda: SinkhornConfig(backend="cuda"), "SinkhornConfig.backend is 'cuda'; it must be one of 'auto', 'numba'"),
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
