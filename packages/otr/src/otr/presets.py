"""Published settings by domain: `PRESETS["otr"]["antmaze"]`. Imports no jax.

Domains: "locomotion" (MuJoCo), "adroit", "antmaze".

- OTR's are those of the authors' code (ethanluoyc/optimal_transport_reward, ad68bfd): cosine of raw states, epsilon
  0.01, 100 iterations, alpha 5, beta 5 over the observation dimension; AntMaze beta 1, no divisor, bias -2. Their
  loader drops the steps that time out, so that an episode of 1000 steps is 999 vectors there; `drop_time_outs` of
  `otr.labels.labelling.label` does the same, and moves rewards by up to 2e-3.
- SEABO's are those of dmksjfl/SEABO (a4b2cc5): (s, a, s'), alpha 1, beta 0.5 over the action dimension; Adroit (s, s')
  without divisor; AntMaze beta 5, bias -1. Its rewards are scaled as OTR's are, so that a learner gets both alike.
- Minimum distance and segment matching take OTR's, so that only the coupling differs.
- PWIL's are the paper's. The fill of UDS and the loss of ORIL are those that OTR's authors compare with.
- The oracle's rewards are the true ones, scaled as in the code of OTR's authors: locomotion and Adroit by the range of
  returns, as OTR's are; AntMaze not at all, with bias -1.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, get_args

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
from paperloop.errors import UserError
from paperloop.settings import did_you_mean

__all__ = ["DOMAINS", "PRESETS", "Domain", "preset"]

Domain = Literal["locomotion", "adroit", "antmaze"]
DOMAINS: tuple[str, ...] = get_args(Domain)

_SQUASH = {
    "locomotion": SquashConfig(),
    "adroit": SquashConfig(),
    "antmaze": SquashConfig(beta=1.0, divisor="none"),
}
_SCALE = {"locomotion": ScaleConfig(), "adroit": ScaleConfig(), "antmaze": ScaleConfig(bias=-2.0)}
_SEABO = {
    "locomotion": NearestNeighbourConfig(),
    "adroit": NearestNeighbourConfig(
        features=FeatureConfig(inputs="state_next"), squash=SquashConfig(alpha=1.0, beta=0.5, divisor="none")
    ),
    "antmaze": NearestNeighbourConfig(
        squash=SquashConfig(alpha=1.0, beta=5.0, divisor="action"), scale=ScaleConfig(bias=-1.0)
    ),
}


def _state_only(config: NearestNeighbourConfig) -> NearestNeighbourConfig:
    return dataclasses.replace(config, features=FeatureConfig(inputs="state_next"))


def _with(make: Any, **fields: Any) -> dict[str, Any]:
    return {domain: make(squash=_SQUASH[domain], scale=_SCALE[domain], **fields) for domain in DOMAINS}


def _scaled(make: Any, **fields: Any) -> dict[str, Any]:
    return {domain: make(scale=_SCALE[domain], **fields) for domain in DOMAINS}


#: name -> domain -> configuration.
PRESETS: Mapping[str, Mapping[str, LabellerConfig]] = {
    "otr": _with(OTRConfig),
    "otr-state-action": _with(OTRConfig, features=FeatureConfig(inputs="state_action")),
    "otr-converged": _with(OTRConfig, solver=SolverConfig(mode="converged")),
    "otr-exact": _with(OTRConfig, solver=SolverConfig(backend="exact")),
    "temporal-ot": _with(OTRConfig, cost=CostConfig(context=3), solver=SolverConfig(band=10)),
    "seabo": _SEABO,
    "seabo-state": {domain: _state_only(config) for domain, config in _SEABO.items()},
    "minimum-distance": _with(MinimumDistanceConfig),
    "segment-matching": _with(SegmentMatchingConfig),
    "pwil": _scaled(PWILConfig),
    "pwil-state": _scaled(
        PWILConfig, features=FeatureConfig(inputs="state", scaling="standard", statistics_from="demos")
    ),
    "oril": _scaled(ORILConfig),
    "uds": _scaled(UDSConfig),
    "constant": _scaled(ConstantConfig),
    "oracle": {
        "locomotion": OracleConfig(),
        "adroit": OracleConfig(),
        "antmaze": OracleConfig(scale=ScaleConfig(kind="fixed", bias=-1.0)),
    },
}


def preset(name: str, domain: str = "locomotion") -> LabellerConfig:
    """Return a published configuration.

    Raises:
        UserError: there is no such name or domain; the message says which there are.
    """
    if name not in PRESETS:
        raise UserError(f"There is no preset {name!r}{did_you_mean(name, PRESETS)}")
    if domain not in PRESETS[name]:
        raise UserError(f"There is no domain {domain!r}{did_you_mean(domain, DOMAINS)}")
    return PRESETS[name][domain]
