"""Configurations of everything that labels: frozen, JSON-ready, and free of jax, numba and scipy.

`OTRConfig` is the paper's method; its rivals have a configuration each, told apart by `type`. All of them end in the
same `scale`, so that their rewards reach a learner in the same units. `otr.presets` holds the published settings, and
`otr.settings` the parts.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from otr.settings.rewards import ExponentialSquash, FeatureConfig, RangeScale, ScaleConfig, SquashConfig
from otr.settings.transport import CosineCost, CostConfig, SinkhornConfig, SolverConfig
from paperloop.settings import Count, CountOrZero, Gt, Lt, Positive, Seed, settings

__all__ = [
    "ConstantConfig", "EndRule", "LabellerConfig", "MinimumDistanceConfig", "NearestNeighbourConfig", "ORILConfig",
    "OTRConfig", "OracleConfig", "PWILConfig", "SegmentMatchingConfig", "UDSConfig",
]  # fmt: skip

#: What ends an episode in a flat file; see `paperloop_data.read_d4rl`.
EndRule = Literal["auto", "flags", "timeouts", "steps", "goal", "mismatch"]


@settings
class OTRConfig:
    """Optimal transport rewards (Luo et al. 2023).

    The reward of step t is the squashed expected cost Ebar_t = T Σ_j P_tj c(s_t, e_j) under the entropic plan P between
    the episode and one demonstration.

    Attributes:
        features: what is compared.
        cost: by which cost.
        solver: how.
        squash: the paper's exponential.
        aggregate: with several demonstrations, take for each episode the rewards from the one that gives the highest
            return ("best", the paper's rule), or the mean over all ("mean").
        scale: of the whole dataset.
    """

    type: Literal["otr"] = "otr"
    features: FeatureConfig = FeatureConfig()
    cost: CostConfig = CosineCost()
    solver: SolverConfig = SinkhornConfig()
    squash: SquashConfig = ExponentialSquash()
    aggregate: Literal["best", "mean"] = "best"
    scale: ScaleConfig = RangeScale()


@settings
class NearestNeighbourConfig:
    """SEABO (Lyu et al. 2024): the squashed Euclidean distance to the nearest demonstration step.

    The demonstrations are pooled, and no step knows its place in its episode. The published setting compares (s, a, s')
    with alpha 1, beta 0.5 and the action dimension as divisor.

    Attributes:
        features: what is compared.
        squash: of the distance.
        neighbours: the distance is the mean over so many nearest steps.
        scale: of the whole dataset.
    """

    type: Literal["seabo"] = "seabo"
    features: FeatureConfig = FeatureConfig(inputs="state_action_next")
    squash: SquashConfig = ExponentialSquash(alpha=1.0, beta=0.5, divisor="action")
    neighbours: Count = 1
    scale: ScaleConfig = RangeScale()


@settings
class MinimumDistanceConfig:
    """The squashed cost to the nearest step of a demonstration, with OTR's cost and squashing (Dong et al. 2025).

    Attributes:
        features: what is compared.
        cost: by which cost.
        squash: as in OTR, so that the two differ in the coupling only.
        aggregate: see `OTRConfig`.
        scale: of the whole dataset.
    """

    type: Literal["minimum-distance"] = "minimum-distance"
    features: FeatureConfig = FeatureConfig()
    cost: CostConfig = CosineCost()
    squash: SquashConfig = ExponentialSquash()
    aggregate: Literal["best", "mean"] = "best"
    scale: ScaleConfig = RangeScale()


@settings
class SegmentMatchingConfig:
    """The squashed cost to the nearest step of the corresponding segment of a demonstration (Dong et al. 2025).

    The demonstration is cut into as many contiguous segments as the episode has steps, as equal as can be, and step t
    looks into segment t; a longer episode is cut instead, and its steps look at the step their segment belongs to. The
    paper gives the idea in these words; that the cuts fall at floor(t T'/T) and the half-width below are choices made
    here.

    Attributes:
        features: what is compared.
        cost: by which cost.
        squash: as in OTR.
        half_width: each segment is widened by so many demonstration steps on both sides.
        aggregate: see `OTRConfig`.
        scale: of the whole dataset.
    """

    type: Literal["segment-matching"] = "segment-matching"
    features: FeatureConfig = FeatureConfig()
    cost: CostConfig = CosineCost()
    squash: SquashConfig = ExponentialSquash()
    half_width: CountOrZero = 0
    aggregate: Literal["best", "mean"] = "best"
    scale: ScaleConfig = RangeScale()


@settings
class PWILConfig:
    """Primal Wasserstein imitation learning (Dadashi et al. 2021): a greedy coupling in the order of time.

    The demonstrations are pooled; a step takes the mass 1/horizon from the nearest steps that still have some. Its
    reward is alpha exp(-(beta horizon / sqrt(|s| + |a|)) cost), with distances in units of the demonstrations'
    deviations.

    Attributes:
        features: what is compared; the paper compares (s, a).
        alpha: scale.
        beta: rate.
        horizon: steps that use up the demonstrations. A longer episode is its own horizon.
        scale: of the whole dataset.
    """

    type: Literal["pwil"] = "pwil"
    features: FeatureConfig = FeatureConfig(inputs="state_action", scaling="standard_demos")
    alpha: Positive = 5.0
    beta: Positive = 5.0
    horizon: Count = 1000
    scale: ScaleConfig = RangeScale()


@settings
class ORILConfig:
    """Offline reinforced imitation learning (Zolna et al. 2020): a discriminator of demonstration against data.

    Attributes:
        features: what the discriminator sees.
        positive_unlabelled: the share of the unlabelled data that is as good as the demonstrations, in (0, 1), for the
            positive-unlabelled loss; None for plain logistic regression.
        hidden: widths of the hidden layers.
        steps: gradient steps of Adam.
        batch: demonstration steps, and as many data steps, in each.
        learning_rate: of Adam.
        seed: of the initial weights and the batches.
        scale: of the whole dataset.
    """

    type: Literal["oril"] = "oril"
    features: FeatureConfig = FeatureConfig(scaling="standard")
    positive_unlabelled: Annotated[float, Gt(0), Lt(1)] | None = 0.5
    hidden: Annotated[tuple[Count, ...], Field(min_length=1)] = (256, 256)
    steps: Count = 5_000
    batch: Count = 256
    learning_rate: Positive = 1e-4
    seed: Seed = 0
    scale: ScaleConfig = RangeScale()


@settings
class UDSConfig:
    """Unlabelled data sharing (Yu et al. 2022): demonstrations keep their true rewards, all other steps get one value.

    An episode of the data counts as a demonstration if its observations and actions are those of one, bit for bit.

    Attributes:
        fill: "zero", or the "min" of the demonstrations' rewards.
        scale: of the whole dataset.
    """

    type: Literal["uds"] = "uds"
    fill: Literal["zero", "min"] = "zero"
    scale: ScaleConfig = RangeScale()


@settings
class ConstantConfig:
    """The control: every step gets the same reward, so that only the lengths of episodes can teach anything.

    Attributes:
        value: that reward.
        scale: of the whole dataset.
    """

    type: Literal["constant"] = "constant"
    value: float = 1.0
    scale: ScaleConfig = RangeScale()


@settings
class OracleConfig:
    """The ceiling: the true rewards, scaled as labels are. Of data that was labelled before, those that it kept.

    Attributes:
        scale: of the whole dataset.
    """

    type: Literal["oracle"] = "oracle"
    scale: ScaleConfig = RangeScale()


LabellerConfig = Annotated[
    OTRConfig
    | NearestNeighbourConfig
    | MinimumDistanceConfig
    | SegmentMatchingConfig
    | PWILConfig
    | ORILConfig
    | UDSConfig
    | ConstantConfig
    | OracleConfig,
    Field(discriminator="type"),
]
