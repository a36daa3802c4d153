"""Configurations of everything that labels: frozen, JSON-ready, and free of jax, numba and scipy.

`OTRConfig` is the paper's method; its rivals have a configuration each, told apart by `type`. All of them end in the
same `scale`, so that their rewards reach a learner in the same units. `otr.presets` holds the published settings.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from paperloop.settings import Count, CountOrZero, Gt, Lt, NotNegative, Positive, Seed, fault, settings

__all__ = [
    "BACKENDS",
    "Backend",
    "ConstantConfig",
    "CostConfig",
    "EndRule",
    "FeatureConfig",
    "LabellerConfig",
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
]

BACKENDS = ("auto", "numba", "jax", "ott", "exact", "reference")

Backend = Literal["auto", "numba", "jax", "ott", "exact", "reference"]

#: What ends an episode in a flat file; see `paperloop_data.read_d4rl`.
EndRule = Literal["auto", "flags", "timeouts", "steps", "goal", "mismatch"]


@settings
class FeatureConfig:
    """Which vectors are compared.

    Attributes:
        inputs: the parts of a step put one after another: "state" is the observation s, "state_action" (s, a),
            "state_next" (s, s'), "state_action_next" (s, a, s').
        scaling: "none"; "std" divides each dimension by its standard deviation; "standard" subtracts the mean first.
            A dimension that never changes is left as it is.
        statistics_from: whether mean and deviation are those of the "data" to be labelled or of the "demos".
        action_weight: the action part is multiplied by it, after scaling.
        missing_next: where s' is wanted and the last step of an episode has none stored: "error", or "repeat" s there.
    """

    inputs: Literal["state", "state_action", "state_next", "state_action_next"] = "state"
    scaling: Literal["none", "std", "standard"] = "none"
    statistics_from: Literal["data", "demos"] = "data"
    action_weight: Positive = 1.0
    missing_next: Literal["error", "repeat"] = "error"


@settings
class CostConfig:
    """The cost c(x, y) of moving one vector onto another.

    Attributes:
        kind: "cosine", 1 - <x, y>/(|x||y| + ridge); "euclidean", |x - y|; "sqeuclidean", |x - y|^2; or the name of a
            cost added with `otr.optimal_transport.costs.register_cost`.
        ridge: of the cosine. An all-zero vector has cost 1 to everything.
        context: the cost of a pair is the mean over this many steps from it on, in both sequences at once; the last
            step is repeated at the end. TemporalOT (Fu et al. 2024) uses 3. Not for "euclidean" and registered costs.
    """

    kind: str = "cosine"
    ridge: NotNegative = 1e-8
    context: Count = 1

    def __post_init__(self) -> None:
        if self.context > 1 and self.kind not in ("cosine", "sqeuclidean"):
            raise fault(
                self, "context", "1, because {kind} is " + repr(self.kind) + ": 'cosine' and 'sqeuclidean' have more"
            )


@settings
class SolverConfig:
    """The transport problem and how it is solved.

    Attributes:
        backend: "numba" (compiled CPU code, extra `numba`), "jax" (CPU or GPU), "ott" (ott-jax itself, extra `ott`),
            "exact" (no entropy: assignment by SciPy, network simplex by POT), "reference" (float64 NumPy, slow), or
            "auto": jax where JAX's default device is a GPU, else numba if installed, else jax.
        mode: "parity" does `iterations` iterations from zero potentials, columns first, and stops there however far the
            columns are from their marginal: the definition that the published numbers rest on. "converged" stops at
            `tolerance`, by over-relaxation where that helps.
        epsilon: strength of the entropy, in units of the cost, or of the mean cost of each pair of episodes where
            `relative_epsilon` holds.
        relative_epsilon: see `epsilon`.
        iterations: of the mode "parity".
        tolerance: of the mode "converged": Σ_j |column sum_j - 1/T'|, at most 2.
        max_iterations: of the mode "converged".
        band: only steps at most so far from the diagonal may be matched, in steps (TemporalOT: 10); None for all.
        rho_agent: strength of the Kullback-Leibler penalty on the agent's marginal; None keeps the marginal hard.
        rho_demo: that on the demonstration's, so that parts of it may stay unmatched; towards 0 each step is matched
            to its nearest ones.
        threads: threads of "numba" and "exact"; 0 for as many as the process may use.
        kernel_dtype: how "jax" stores exp(-C/eps). "bfloat16" needs half the memory traffic, and moves expected
            costs by about 0.004 epsilon.
        memory: bytes that "jax" may fill at once; 0 for two fifths of the device's, or 1 GiB where it does not say.
    """

    backend: Backend = "auto"
    mode: Literal["parity", "converged"] = "parity"
    epsilon: Positive = 0.01
    relative_epsilon: bool = False
    iterations: Count = 100
    tolerance: Positive = 1e-4
    max_iterations: Count = 20_000
    band: Count | None = None
    rho_agent: Positive | None = None
    rho_demo: Positive | None = None
    threads: CountOrZero = 0
    kernel_dtype: Literal["float32", "bfloat16"] = "float32"
    memory: CountOrZero = 0

    def __post_init__(self) -> None:
        if self.backend in ("exact", "ott"):
            for name in ("band", "rho_agent", "rho_demo"):
                if getattr(self, name) is not None:
                    raise fault(self, name, f"None, because {{backend}} {self.backend!r} has no such thing")


@settings
class SquashConfig:
    """From expected cost (or another distance) d to reward.

    Attributes:
        kind: "exponential", alpha exp(-(beta/D) d); "linear", -(alpha/D) d; "none", -d.
        alpha: scale.
        beta: rate.
        divisor: D: the dimension of the "observation", of the "action", of the compared "feature" vectors, or "none"
            for 1.
    """

    kind: Literal["exponential", "linear", "none"] = "exponential"
    alpha: Positive = 5.0
    beta: Positive = 5.0
    divisor: Literal["observation", "action", "feature", "none"] = "observation"


@settings
class ScaleConfig:
    """From the rewards of a whole dataset to those a learner sees: reward * scale + bias.

    Attributes:
        kind: "range" for target / (highest - lowest episode return), the scaling of IQL and OTR; where all returns are
            equal, which the originals divide by, the scale is 1. "fixed" for `factor`.
        target: see `kind`.
        factor: see `kind`.
        bias: added after scaling.
    """

    kind: Literal["range", "fixed"] = "range"
    target: Positive = 1000.0
    factor: Positive = 1.0
    bias: float = 0.0


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
    cost: CostConfig = CostConfig()
    solver: SolverConfig = SolverConfig()
    squash: SquashConfig = SquashConfig()
    aggregate: Literal["best", "mean"] = "best"
    scale: ScaleConfig = ScaleConfig()


@settings
class NearestNeighbourConfig:
    """SEABO (Lyu et al. 2024): the squashed Euclidean distance to the nearest demonstration step.

    The demonstrations are pooled, and no step knows its place in its episode. The published setting compares (s, a, s')
    with alpha 1, beta 0.5 and the action dimension as divisor.

    Attributes:
        features: what is compared.
        squash: of the distance.
        neighbours: the distance is the mean over so many nearest steps.
        workers: threads of the search tree; 0 for as many as the process may use.
        scale: of the whole dataset.
    """

    type: Literal["seabo"] = "seabo"
    features: FeatureConfig = FeatureConfig(inputs="state_action_next")
    squash: SquashConfig = SquashConfig(alpha=1.0, beta=0.5, divisor="action")
    neighbours: Count = 1
    workers: CountOrZero = 0
    scale: ScaleConfig = ScaleConfig()


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
    cost: CostConfig = CostConfig()
    squash: SquashConfig = SquashConfig()
    aggregate: Literal["best", "mean"] = "best"
    scale: ScaleConfig = ScaleConfig()


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
    cost: CostConfig = CostConfig()
    squash: SquashConfig = SquashConfig()
    half_width: CountOrZero = 0
    aggregate: Literal["best", "mean"] = "best"
    scale: ScaleConfig = ScaleConfig()


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
    features: FeatureConfig = FeatureConfig(inputs="state_action", scaling="standard", statistics_from="demos")
    alpha: Positive = 5.0
    beta: Positive = 5.0
    horizon: Count = 1000
    scale: ScaleConfig = ScaleConfig()


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
    scale: ScaleConfig = ScaleConfig()


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
    scale: ScaleConfig = ScaleConfig()


@settings
class ConstantConfig:
    """The control: every step gets the same reward, so that only the lengths of episodes can teach anything.

    Attributes:
        value: that reward.
        scale: of the whole dataset.
    """

    type: Literal["constant"] = "constant"
    value: float = 1.0
    scale: ScaleConfig = ScaleConfig()


@settings
class OracleConfig:
    """The ceiling: the true rewards, scaled as labels are. Of data that was labelled before, those that it kept.

    Attributes:
        scale: of the whole dataset.
    """

    type: Literal["oracle"] = "oracle"
    scale: ScaleConfig = ScaleConfig()


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
