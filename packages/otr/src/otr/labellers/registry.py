"""Labellers by the class of their configuration, and by name."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable
from typing import Any

from otr import config as c
from otr.labellers.interface import Fitted
from otr.presets import PRESETS
from paperloop.errors import UserError
from paperloop.settings import did_you_mean
from paperloop_data import EpisodeDataset

__all__ = ["LABELLERS", "add_labeller", "config_class", "fit_labeller", "name_of"]

Fit = Callable[[Any, EpisodeDataset, EpisodeDataset], Fitted]

# Modules are named, not imported: only the chosen one's libraries are loaded.
_FITS: dict[type, str | Fit] = {
    c.OTRConfig: "transport:FittedTransport",
    c.NearestNeighbourConfig: "nearest:FittedNearest",
    c.MinimumDistanceConfig: "matching:FittedMatching",
    c.SegmentMatchingConfig: "matching:FittedMatching",
    c.PWILConfig: "pwil:FittedPWIL",
    c.ORILConfig: "oril:FittedORIL",
    c.UDSConfig: "controls:FittedUDS",
    c.ConstantConfig: "controls:FittedConstant",
    c.OracleConfig: "controls:FittedOracle",
}

#: Name -> class of the configuration.
LABELLERS: dict[str, type] = {kind().type: kind for kind in _FITS}


def add_labeller(name: str, config: type, fit: Fit) -> None:
    """Make `label` and `fit_labeller` know another method.

        @dataclass(frozen=True, kw_only=True)
        class NormConfig:
            scale: ScaleConfig = RangeScale()

        class FittedNorm:  # see `otr.labellers.interface.Fitted`
            def __init__(self, config, demos, data):
                self.target = float(np.linalg.norm(demos.observations, axis=1).mean())

            def label(self, data):
                distance = np.abs(np.linalg.norm(data.observations, axis=1) - self.target)
                return Labels(-distance.astype(np.float32))

        add_labeller("norm", NormConfig, FittedNorm)
        label(data, demos, NormConfig())

    Args:
        name: what to call it.
        config: a frozen dataclass with a field `scale: ScaleConfig`.
        fit: called with such a configuration, demonstrations and data, whose rewards it does not look at.

    Raises:
        UserError: the name is taken by another, or `config` is not such a dataclass.
    """
    if not dataclasses.is_dataclass(config) or "scale" not in {field.name for field in dataclasses.fields(config)}:
        raise UserError(f"The configuration of the labeller {name!r} is a dataclass with a field scale: ScaleConfig.")
    if LABELLERS.get(name, config) is not config:
        raise UserError(f"There is a labeller named {name!r} already: choose another name.")
    LABELLERS[name] = config
    _FITS[config] = fit


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


def name_of(config: Any) -> str:
    """Return the name of a configuration's labeller."""
    return next((name for name, kind in LABELLERS.items() if kind is type(config)), type(config).__name__)


def fit_labeller(config: Any, demos: EpisodeDataset, data: EpisodeDataset) -> Fitted:
    """Return the labeller of a configuration, fitted.

    Args:
        config: which and how.
        demos: the demonstrations. Their rewards are not looked at, except by UDS.
        data: all of the data that will be labelled, for those that scale or learn by it; its rewards are not looked at,
            except by the oracle.

    Raises:
        UserError: no labeller takes such a configuration, or the two do not fit together or lack what it needs.
    """
    fit = _FITS.get(type(config))
    if fit is None:
        known = ", ".join(sorted(kind.__name__ for kind in _FITS))
        raise UserError(f"No labeller takes a {type(config).__name__}; there are {known}, and add_labeller().")
    if isinstance(fit, str):
        module, name = fit.split(":")
        fit = getattr(importlib.import_module(f"otr.labellers.{module}"), name)
    return fit(config, demos, data)
