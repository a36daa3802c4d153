"""Rewards for offline data from a few demonstrations, by optimal transport; and its rivals behind one interface.

    from otr import best_episodes, label, preset
    from paperloop_data import EpisodeDataset

    data = EpisodeDataset.load("hopper_medium-v2.hdf5")
    labelled = label(data, best_episodes(data, 1), preset("otr")).dataset
    labelled.save("hopper_medium_otr.hdf5")

Names are loaded when they are first used, so that `otr --help` does not wait for NumPy.
"""

from __future__ import annotations

import importlib
from typing import Any

_WHERE = {
    "config": (
        "ConstantConfig", "MinimumDistanceConfig", "NearestNeighbourConfig", "ORILConfig", "OTRConfig", "OracleConfig",
        "PWILConfig", "SegmentMatchingConfig", "UDSConfig",
    ),
    "settings.transport": (
        "Converged", "CosineCost", "EuclideanCost", "ExactConfig", "OttConfig", "Parity", "RegisteredCost",
        "SinkhornConfig", "SquaredEuclideanCost",
    ),
    "settings.rewards": ("ExponentialSquash", "FeatureConfig", "FixedScale", "LinearSquash", "RangeScale"),
    "episodes.demonstrations": ("best_episodes", "load_demonstrations"),
    "labellers.interface": ("Labels",),
    "labellers.registry": ("add_labeller", "fit_labeller"),
    "labels.labelling": ("LabelResult", "label"),
    "optimal_transport.sinkhorn": ("transport", "transport_plan"),
    "presets": ("PRESETS", "preset"),
    "diagnosis.diagnose": ("diagnose",),
    "training.loading": ("load_run",),
}  # fmt: skip
_MODULE_OF = {name: module for module, names in _WHERE.items() for name in names}

__all__ = sorted(_MODULE_OF)


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
