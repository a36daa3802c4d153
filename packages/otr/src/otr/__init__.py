"""Rewards for offline data from a few demonstrations, by optimal transport; and its rivals behind one interface.

from otr import OTRConfig, label
from otr.episodes.demonstrations import best_episodes
from paperloop_data import EpisodeDataset

data = EpisodeDataset.load("hopper_medium-v2.hdf5")
labelled = label(data, best_episodes(data, 1), OTRConfig()).dataset
labelled.save("hopper_medium_otr.hdf5")
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from otr.config import (
        ConstantConfig,
        CostConfig,
        FeatureConfig,
        LabellerConfig,
        MinimumDistanceConfig,
        NearestNeighbourConfig,
        OracleConfig,
        ORILConfig,
        OTRConfig,
        PWILConfig,
        ScaleConfig,
        SegmentMatchingConfig,
        SolverConfig,
        SquashConfig,
        UDSConfig,
    )
    from otr.labellers import Labels, add_labeller, make_labeller
    from otr.labels.labelling import LabelResult, label
    from otr.optimal_transport.sinkhorn import transport, transport_plan
    from otr.presets import PRESETS, preset
    from otr.training.loading import load_run

__all__ = [
    "PRESETS",
    "ConstantConfig",
    "CostConfig",
    "FeatureConfig",
    "LabelResult",
    "LabellerConfig",
    "Labels",
    "MinimumDistanceConfig",
    "NearestNeighbourConfig",
    "ORILConfig",
    "OTRConfig",
    "OracleConfig",
    "PWILConfig",
    "ScaleConfig",
    "SegmentMatchingConfig",
    "SolverConfig",
    "SquashConfig",
    "UDSConfig",
    "add_labeller",
    "label",
    "load_run",
    "make_labeller",
    "preset",
    "transport",
    "transport_plan",
]

# Imported on first use (PEP 562), so that `otr --help` does not wait for NumPy.
_HOME = {
    "otr.config": (
        "ConstantConfig",
        "CostConfig",
        "FeatureConfig",
        "LabellerConfig",
        "MinimumDistanceConfig",
        "NearestNeighbourConfig",
        "OracleConfig",
        "ORILConfig",
        "OTRConfig",
        "PWILConfig",
        "ScaleConfig",
        "SegmentMatchingConfig",
        "SolverConfig",
        "SquashConfig",
        "UDSConfig",
    ),
    "otr.labels.labelling": (
        "LabelResult",
        "label",
    ),
    "otr.training.loading": ("load_run",),
    "otr.labellers": (
        "Labels",
        "add_labeller",
        "make_labeller",
    ),
    "otr.presets": (
        "PRESETS",
        "preset",
    ),
    "otr.optimal_transport.sinkhorn": (
        "transport",
        "transport_plan",
    ),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOME.items():
        if name in names:
            return getattr(importlib.import_module(module), name)
    raise AttributeError(f"module 'otr' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
