"""What the command line chooses from: the presets of a domain, with a line of help each. Imports no jax."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol

from otr.config import LabellerConfig, OTRConfig
from otr.presets import DOMAINS, PRESETS
from paperloop.errors import UserError, setting
from paperloop.settings import settings

__all__ = ["PRESET_HELP", "LabelSettings", "settings_class", "settings_presets", "with_solver"]

PRESET_HELP: Mapping[str, str] = {
    "otr": "optimal transport as published, of states (Luo et al. 2023)",
    "otr-state-action": "the same on states with actions",
    "otr-converged": "the same, iterated until the plan has its marginals",
    "otr-exact": "without entropy: assignment, or POT's network simplex",
    "temporal-ot": "within a band of time, contextual costs (Fu et al. 2024)",
    "seabo": "nearest demonstration step, of (s, a, s') (Lyu et al. 2024)",
    "seabo-state": "the same of (s, s')",
    "minimum-distance": "OTR's cost to the nearest step (Dong et al. 2025)",
    "segment-matching": "the same, in the same part of the demonstration (same paper)",
    "pwil": "a greedy coupling in the order of time (Dadashi et al. 2021)",
    "pwil-state": "the same on states",
    "oril": "a discriminator, trained first: slower (Zolna et al. 2020)",
    "uds": "the demonstrations' true rewards, else zero (Yu et al. 2022)",
    "constant": "the control: 1 for every step",
    "oracle": "the ceiling: the true rewards, scaled as the labels are",
}


class LabelSettings(Protocol):
    """The settings of `otr label`, see `settings_class`."""

    @property
    def labeller(self) -> LabellerConfig:
        """How rewards are made."""
        ...


def settings_class(domain: str) -> type:
    """Return the settings of `otr label`, with the domain's OTR as default."""

    @settings
    class LabelSettings:
        """The settings of `otr label`.

        Attributes:
            labeller: how rewards are made
        """

        labeller: LabellerConfig = _of(PRESETS["otr"], domain)

    return LabelSettings


def settings_presets(domain: str, kind: type) -> dict[str, LabelSettings]:
    """Return name -> settings of the presets of a domain, of the class that the command line is made of."""
    return {name: kind(labeller=_of(configs, domain)) for name, configs in PRESETS.items()}


def _of(configs: Mapping[str, LabellerConfig], domain: str) -> LabellerConfig:
    return configs[domain if domain in DOMAINS else DOMAINS[0]]  # a wrong name is refused where options are read


def with_solver(config: LabellerConfig, backend: str | None, threads: int | None) -> LabellerConfig:
    """Return the configuration with another solver or number of threads; None changes nothing.

    Raises:
        UserError: the labeller has no such choice, or the value is not allowed.
    """
    changes: dict[str, Any] = {}
    if isinstance(config, OTRConfig):
        if backend is not None:
            changes["backend"] = backend
        if threads is not None:
            changes["threads"] = threads
        return dataclasses.replace(config, solver=dataclasses.replace(config.solver, **changes)) if changes else config
    if backend is not None:
        raise UserError(
            f"{setting('backend')} chooses the transport solver, and {config.type} solves no transport: leave it out."
        )
    if threads is None:
        return config
    if "workers" not in {field.name for field in dataclasses.fields(config)}:
        raise UserError(f"{setting('threads')} has no effect on {config.type}: leave it out.")
    return dataclasses.replace(config, workers=threads)
