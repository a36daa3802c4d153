"""Rewards for offline data from a few demonstrations, by optimal transport; and its rivals behind one interface.

from otr import OTRConfig, label
from otr.demonstrations import best_episodes
from paperloop_data import EpisodeDataset

data = EpisodeDataset.load("hopper_medium-v2.hdf5")
labelled = label(data, best_episodes(data, 1), OTRConfig()).dataset
labelled.save("hopper_medium_otr.hdf5")
"""

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
from otr.label import LabelResult, label
from otr.labellers import Labels, add_labeller, make_labeller
from otr.presets import PRESETS, preset
from otr.sinkhorn import transport, transport_plan

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
    "make_labeller",
    "preset",
    "transport",
    "transport_plan",
]
