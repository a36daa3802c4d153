"""Labellers by the class of their configuration, and by name."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable
from typing import Any

from otr import config as c
from otr.labellers.interface import Labeller
from otr.presets import PRESETS
from paperloop.errors import UserError
from paperloop.settings import did_you_mean

__all__ = ["LABELLERS", "add_labeller", "config_class", "make_labeller"]

#: name -> class of the configuration.
LABELLERS: dict[str, type] = {
    "otr": c.OTRConfig,
    "seabo": c.NearestNeighbourConfig,
    "minimum-distance": c.MinimumDistanceConfig,
    "segment-matching": c.SegmentMatchingConfig,
    "pwil": c.PWILConfig,
    "oril": c.ORILConfig,
    "uds": c.UDSConfig,
    "constant": c.ConstantConfig,
    "oracle": c.OracleConfig,
}

# Modules are named, not imported: only the chosen one's libraries are loaded.
_MAKERS: dict[type, str | Callable[[Any], Labeller]] = {
    c.OTRConfig: "otr.labellers.transport:TransportLabeller",
    c.NearestNeighbourConfig: "otr.labellers.nearest:NearestNeighbourLabeller",
    c.MinimumDistanceConfig: "otr.labellers.matching:MatchingLabeller",
    c.SegmentMatchingConfig: "otr.labellers.matching:MatchingLabeller",
    c.PWILConfig: "otr.labellers.pwil:PWILLabeller",
    c.ORILConfig: "otr.labellers.oril:ORILLabeller",
    c.UDSConfig: "otr.labellers.controls:UDSLabeller",
    c.ConstantConfig: "otr.labellers.controls:ConstantLabeller",
    c.OracleConfig: "otr.labellers.controls:OracleLabeller",
}


def add_labeller(name: str, config: type, make: Callable[[Any], Labeller]) -> None:
    """Make `label` and `make_labeller` know another method.

    What `make` returns follows `otr.labellers.Labeller`, and what its `fit` returns `otr.labellers.Fitted`:

        @dataclass(frozen=True, kw_only=True)
        class NormConfig:
            scale: ScaleConfig = ScaleConfig()

        class NormLabeller:  # a Labeller
            def __init__(self, config):
                self.config = config

            def fit(self, demos, data):
                return FittedNorm(float(np.linalg.norm(demos.observations, axis=1).mean()))

        class FittedNorm:  # a Fitted
            def __init__(self, target):
                self.target = target

            def label(self, data):
                distance = np.abs(np.linalg.norm(data.observations, axis=1) - self.target)
                return Labels(-distance.astype(np.float32), {}, {})

        add_labeller("norm", NormConfig, NormLabeller)
        label(data, demos, NormConfig())

    Args:
        name: what to call it.
        config: a frozen dataclass with a field `scale: ScaleConfig`.
        make: makes the labeller from such a configuration.

    Raises:
        UserError: the name is taken by another, or `config` is not such a dataclass.
    """
    if not dataclasses.is_dataclass(config) or "scale" not in {field.name for field in dataclasses.fields(config)}:
        raise UserError(f"The configuration of the labeller {name!r} is a dataclass with a field scale: ScaleConfig.")
    if LABELLERS.get(name, config) is not config:
        raise UserError(f"There is a labeller named {name!r} already: choose another name.")
    LABELLERS[name] = config
    _MAKERS[config] = make


def config_class(name: str) -> type:
    """Return the class of configuration of a labeller.

    Raises:
        UserError: there is none of that name.
    """
    if name not in LABELLERS:
        if name in PRESETS:
            raise UserError(f"{name!r} is a preset and no labeller: give preset({name!r}).")
        raise UserError(f"There is no labeller {name!r}{did_you_mean(name, LABELLERS)}")
    return LABELLERS[name]


def make_labeller(config: Any) -> Labeller:
    """Return the labeller for a configuration, or for a name with its default configuration.

    Raises:
        UserError: nothing is known for it.
    """
    if isinstance(config, str):
        config = config_class(config)()
    make = _MAKERS.get(type(config))
    if make is None:
        known = ", ".join(sorted(kind.__name__ for kind in _MAKERS))
        raise UserError(f"No labeller takes a {type(config).__name__}; there are {known}, and add_labeller().")
    if isinstance(make, str):
        module, name = make.split(":")
        make = getattr(importlib.import_module(module), name)
    return make(config)
