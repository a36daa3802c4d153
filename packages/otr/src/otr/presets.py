"""Published settings: `PRESETS["otr"]` for MuJoCo's locomotion, `PRESETS["otr-antmaze"]`. Imports no jax.

A name alone holds for all domains whose settings are not published otherwise, `NAME-adroit` or `NAME-antmaze`.

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
from typing import Literal, get_args

from otr.config import (
    ConstantConfig,
    LabellerConfig,
    MinimumDistanceConfig,
    NearestNeighbourConfig,
    OracleConfig,
    ORILConfig,
    OTRConfig,
    PWILConfig,
    SegmentMatchingConfig,
    UDSConfig,
)  # fmt: skip
from otr.settings.rewards import ExponentialSquash, FeatureConfig, FixedScale, RangeScale, ScaleConfig
from otr.settings.transport import Converged, CosineCost, ExactConfig, SinkhornConfig
from paperloop.errors import UserError
from paperloop.settings import did_you_mean

__all__ = ["DOMAINS", "PRESETS", "PRESET_HELP", "Domain", "preset"]

Domain = Literal["locomotion", "adroit", "antmaze"]
DOMAINS: tuple[str, ...] = get_args(Domain)

_HELP = {
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


def _published(domain: str) -> dict[str, LabellerConfig]:
    squash, scale = ExponentialSquash(), RangeScale()
    truth: ScaleConfig = scale
    seabo = NearestNeighbourConfig()
    state_next = FeatureConfig(inputs="state_next")
    if domain == "adroit":
        seabo = NearestNeighbourConfig(
            features=state_next, squash=ExponentialSquash(alpha=1.0, beta=0.5, divisor="none")
        )
    if domain == "antmaze":
        squash, scale = ExponentialSquash(beta=1.0, divisor="none"), RangeScale(bias=-2.0)
        truth = FixedScale(bias=-1.0)
        seabo = NearestNeighbourConfig(
            squash=ExponentialSquash(alpha=1.0, beta=5.0, divisor="action"), scale=RangeScale(bias=-1.0)
        )
    otr = OTRConfig(squash=squash, scale=scale)
    pwil = PWILConfig(scale=scale)
    change = dataclasses.replace
    return {
        "otr": otr,
        "otr-state-action": change(otr, features=FeatureConfig(inputs="state_action")),
        "otr-converged": change(otr, solver=SinkhornConfig(mode=Converged())),
        "otr-exact": change(otr, solver=ExactConfig()),
        "temporal-ot": change(otr, cost=CosineCost(context=3), solver=SinkhornConfig(band=10)),
        "seabo": seabo,
        "seabo-state": change(seabo, features=state_next),
        "minimum-distance": MinimumDistanceConfig(squash=squash, scale=scale),
        "segment-matching": SegmentMatchingConfig(squash=squash, scale=scale),
        "pwil": pwil,
        "pwil-state": change(pwil, features=FeatureConfig(scaling="standard_demos")),
        "oril": ORILConfig(scale=scale),
        "uds": UDSConfig(scale=scale),
        "constant": ConstantConfig(scale=scale),
        "oracle": OracleConfig(scale=truth),
    }


#: Name -> configuration.
PRESETS: Mapping[str, LabellerConfig] = _published("locomotion") | {
    f"{name}-{domain}": config
    for domain in ("adroit", "antmaze")
    for name, config in _published(domain).items()
    if config != _published("locomotion")[name]
}
#: Name -> one line.
PRESET_HELP: Mapping[str, str] = {name: _HELP.get(name, f"its settings for {name.split('-')[-1]}") for name in PRESETS}


def preset(name: str, domain: str = "locomotion") -> LabellerConfig:
    """Return a published configuration.

    Raises:
        UserError: there is no such name or domain; the message says which there are.
    """
    if name not in PRESETS:
        raise UserError(f"There is no preset {name!r}{did_you_mean(name, PRESETS)}")
    if domain not in DOMAINS:
        raise UserError(f"There is no domain {domain!r}{did_you_mean(domain, DOMAINS)}")
    return PRESETS.get(f"{name}-{domain}", PRESETS[name])
