"""Settings of what is compared, and of the way from distances to rewards."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from paperloop.settings import Positive, settings

__all__ = [
    "ExponentialSquash", "FeatureConfig", "FixedScale", "LinearSquash", "RangeScale", "ScaleConfig", "SquashConfig",
]  # fmt: skip

Divisor = Literal["observation", "action", "feature", "none"]


@settings
class FeatureConfig:
    """Which vectors are compared.

    Attributes:
        inputs: the parts of a step put one after another: "state" is the observation s, "state_action" (s, a),
            "state_next" (s, s'), "state_action_next" (s, a, s').
        scaling: "none"; "standard" subtracts each dimension's mean in the data to be labelled and divides by its
            standard deviation; "standard_demos" takes those of the demonstrations. A dimension that never changes is
            not divided.
        missing_next: where s' is wanted and the last step of an episode has none stored: "error", or "repeat" s there.
    """

    inputs: Literal["state", "state_action", "state_next", "state_action_next"] = "state"
    scaling: Literal["none", "standard", "standard_demos"] = "none"
    missing_next: Literal["error", "repeat"] = "error"


@settings
class ExponentialSquash:
    """alpha exp(-(beta/D) d) of a distance d.

    Attributes:
        alpha: scale.
        beta: rate.
        divisor: D: the dimension of the "observation", of the "action", of the compared "feature" vectors, or "none"
            for 1.
    """

    type: Literal["exponential"] = "exponential"
    alpha: Positive = 5.0
    beta: Positive = 5.0
    divisor: Divisor = "observation"


@settings
class LinearSquash:
    """-(alpha/D) d of a distance d.

    Attributes:
        alpha: scale.
        divisor: see `ExponentialSquash`.
    """

    type: Literal["linear"] = "linear"
    alpha: Positive = 1.0
    divisor: Divisor = "none"


SquashConfig = Annotated[ExponentialSquash | LinearSquash, Field(discriminator="type")]


@settings
class RangeScale:
    """Rewards times target / (highest - lowest episode return), plus bias: the scaling of IQL and OTR.

    Where all returns are equal, which the originals divide by, the factor is 1.

    Attributes:
        target: what the returns span.
        bias: added after scaling.
    """

    type: Literal["range"] = "range"
    target: Positive = 1000.0
    bias: float = 0.0


@settings
class FixedScale:
    """Rewards times a factor, plus bias.

    Attributes:
        factor: the multiplier.
        bias: added after scaling.
    """

    type: Literal["fixed"] = "fixed"
    factor: Positive = 1.0
    bias: float = 0.0


ScaleConfig = Annotated[RangeScale | FixedScale, Field(discriminator="type")]
