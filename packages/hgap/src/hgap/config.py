"""The settings of training and planning, and the presets. Loads no array library."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from paperloop.settings import (
    Count,
    Ge,
    Le,
    Lt,
    NotNegative,
    Positive,
    PositiveShare,
    Seed,
    Share,
    fault,
    settings,
)

__all__ = [
    "EMA", "FSQ", "PRESETS", "PRESET_HELP", "AutoencoderConfig", "Codes", "Data", "Iterated", "Optimiser", "PlanConfig",
    "PriorConfig", "Residual", "Sampling", "TrainConfig", "Width", "Windows",
]  # fmt: skip


@settings
class Windows:
    """The windows that a model sees.

    Attributes:
        steps: T, pairs of a state and an action in a window.
        clip: normalised states and actions are clipped to it.
        constant: a dimension whose standard deviation is below it is constant: masked on the way in and out.
        held_out: share of the episodes, the last ones, that are for validation only.
    """

    steps: Annotated[int, Ge(2)] = 16
    clip: Positive = 10.0
    constant: Positive = 1e-5
    held_out: Annotated[float, Ge(0), Lt(1)] = 0.05


@settings
class EMA:
    """One codebook that follows its members by exponential moving averages (van den Oord et al., 2017).

    Attributes:
        codes: K, entries of the codebook.
        size: numbers in a code.
        decay: of the averages.
        smoothing: of the counts (Laplace), so that a code without members stays finite.
        revive_below: a code whose average count falls below it is moved onto a feature of the batch; 0: never.
    """

    type: Literal["ema"] = "ema"
    codes: Annotated[int, Ge(2)] = 256
    size: Count = 32
    decay: Annotated[float, Ge(0), Lt(1)] = 0.99
    smoothing: NotNegative = 1e-5
    revive_below: NotNegative = 0.05

    @property
    def vocabulary(self) -> int:
        """How many values a code has."""
        return self.codes

    @property
    def depth(self) -> int:
        """Codes for each slice."""
        return 1


@settings
class Residual:
    """Several codebooks, each of what the one before it left over (Lee et al., 2022).

    Attributes:
        stages: codebooks, and so codes for each slice.
        codes: K, entries of each.
        size: numbers in a code.
        decay: as for `EMA`, and so are the other two.
        smoothing: of the counts.
        revive_below: average count below which a code is moved.
    """

    type: Literal["residual"] = "residual"
    stages: Count = 2
    codes: Annotated[int, Ge(2)] = 256
    size: Count = 32
    decay: Annotated[float, Ge(0), Lt(1)] = 0.99
    smoothing: NotNegative = 1e-5
    revive_below: NotNegative = 0.05

    @property
    def vocabulary(self) -> int:
        """How many values a code has."""
        return self.codes

    @property
    def depth(self) -> int:
        """Codes for each slice."""
        return self.stages


@settings
class FSQ:
    """Finite scalar quantisation: every number of a slice is rounded to one of its levels (Mentzer et al., 2024).

    Attributes:
        levels: of each number; their product is the vocabulary.
    """

    type: Literal["fsq"] = "fsq"
    levels: Annotated[tuple[Annotated[int, Ge(2)], ...], Field(min_length=1)] = (8, 6, 5)

    @property
    def size(self) -> int:
        """Numbers in a code."""
        return len(self.levels)

    @property
    def vocabulary(self) -> int:
        """How many values a code has."""
        product = 1
        for level in self.levels:
            product *= level
        return product

    @property
    def depth(self) -> int:
        """Codes for each slice."""
        return 1


@settings
class Codes:
    """How a window becomes codes.

    Attributes:
        latent_step: L, steps that share a latent.
        per_step: C, slices of a latent, each with a code (or several, of a residual quantiser).
        quantizer: what a slice is rounded to.
    """

    latent_step: Count = 4
    per_step: Count = 2
    quantizer: Annotated[EMA | Residual | FSQ, Field(discriminator="type")] = EMA()


@settings
class Width:
    """The size of a network.

    Attributes:
        width: d.
        heads: of attention.
        blocks: convolution blocks of the autoencoder, each side; layers of the prior.
        dropout: on residual branches, while learning.
    """

    width: Count = 64
    heads: Count = 4
    blocks: Count = 2
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.0

    def __post_init__(self) -> None:
        if self.width % (2 * self.heads):
            raise fault(self, "width", f"a multiple of twice {{heads}} = {2 * self.heads}")


@settings
class Optimiser:
    """AdamW with a linear warm-up and a cosine to a tenth.

    Attributes:
        lr: the highest step size.
        warmup: share of the updates until it is reached.
        decay: whether the step size falls afterwards.
        weight_decay: of matrices.
        clip: of the gradient's norm.
    """

    lr: Positive = 1e-3
    warmup: Share = 0.05
    decay: bool = True
    weight_decay: NotNegative = 0.1
    clip: Positive = 1.0


@settings
class AutoencoderConfig:
    """The autoencoder and its training.

    Attributes:
        codes: how a window becomes codes.
        size: of encoder and decoder.
        action_weight: of a squared error on an action, those on states having 1.
        commitment: weight of the distance from features to their codes.
        optimiser: its settings.
        updates: in all.
        batch: windows in an update.
    """

    codes: Codes = Codes()
    size: Width = Width()
    action_weight: Positive = 5.0
    commitment: NotNegative = 1.0
    optimiser: Optimiser = Optimiser()
    updates: Count = 6000
    batch: Count = 64


@settings
class PriorConfig:
    """The prior and its training.

    Attributes:
        size: of the transformer.
        optimiser: its settings.
        updates: in all.
        batch: windows in an update.
    """

    size: Width = Width(blocks=3)
    optimiser: Optimiser = Optimiser(warmup=0.2)
    updates: Count = 4000
    batch: Count = 64


@settings
class TrainConfig:
    """A model: its data, its autoencoder and its prior.

    Attributes:
        env_id: the body, for names of states; None: as the data say.
        fraction: share of the training episodes that are used, the first ones.
        windows: what a model sees.
        autoencoder: from windows to codes and back.
        prior: over codes.
        updates_per_step: updates in one dispatch.
        seeds: independent models side by side.
    """

    env_id: str | None = None
    fraction: PositiveShare = 1.0
    windows: Windows = Windows()
    autoencoder: AutoencoderConfig = AutoencoderConfig()
    prior: PriorConfig = PriorConfig()
    updates_per_step: Count = 50
    seeds: Count = 1

    def __post_init__(self) -> None:
        if self.windows.steps % self.autoencoder.codes.latent_step:
            raise fault(self, "autoencoder.codes.latent_step", f"a divisor of {{windows.steps}} = {self.windows.steps}")
        for stage in ("autoencoder", "prior"):
            if getattr(self, stage).updates % self.updates_per_step:
                raise fault(
                    self, "updates_per_step", f"a divisor of {{{stage}.updates}} = {getattr(self, stage).updates}"
                )

    @property
    def tokens(self) -> int:
        """Codes in a window."""
        codes = self.autoencoder.codes
        return self.windows.steps // codes.latent_step * codes.per_step * codes.quantizer.depth


@settings
class Data:
    """What the trainers take: a file of episodes and a model.

    Attributes:
        path: the dataset.
        model: the model.
    """

    path: str
    model: TrainConfig = TrainConfig()


@settings
class Sampling:
    """Plans are drawn once from the prior.

    Attributes:
        temperature: of the prior's logits; 0 is greedy.
        top_p: only the likeliest codes with together this mass are drawn.
        rule: "usual" keeps the code that crosses `top_p`; "reference" leaves it out, as the released code does.
    """

    type: Literal["sampling"] = "sampling"
    temperature: Annotated[float, Ge(0)] = 1.0
    top_p: PositiveShare = 0.99
    rule: Literal["usual", "reference"] = "usual"


@settings
class Iterated:
    """Plans are drawn in rounds: each keeps the beginnings of the best plans so far and draws the rest anew.

    Attributes:
        temperature: as for `Sampling`, and so are the next two.
        top_p: mass of the codes that are drawn from.
        rule: which codes those are.
        rounds: in which the samples are drawn, equally many in each.
        elites: best plans whose beginnings the next round continues.
    """

    type: Literal["iterated"] = "iterated"
    temperature: Annotated[float, Ge(0)] = 1.0
    top_p: PositiveShare = 0.99
    rule: Literal["usual", "reference"] = "usual"
    rounds: Annotated[int, Ge(2), Le(64)] = 4
    elites: Count = 4


@settings
class PlanConfig:
    """How a model plans.

    Attributes:
        samples: N, plans compared at a control step.
        search: how they are drawn.
        likelihood: weight of a plan's log-probability under the prior, per code, on top of the objective's total.
        drift: weight of the penalty on predicted states further than `clip` standard deviations from the data's mean.
        warm_start: the rest of the last plan competes as one of the samples.
        units: "normalised" gives the objective normalised states, as the released code does; "physical" is right.
        seed: of the samples.
    """

    samples: Count = 64
    search: Annotated[Sampling | Iterated, Field(discriminator="type")] = Sampling()
    likelihood: NotNegative = 0.0
    drift: NotNegative = 0.0
    warm_start: bool = True
    units: Literal["physical", "normalised"] = "physical"
    seed: Seed = 0

    def __post_init__(self) -> None:
        if isinstance(self.search, Iterated):
            if self.samples % self.search.rounds:
                raise fault(self, "search.rounds", f"a divisor of {{samples}} = {self.samples}")
            if self.search.elites > self.samples // self.search.rounds:
                raise fault(
                    self, "search.elites", f"at most {{samples}} / {{search.rounds}} = "
                    f"{self.samples // self.search.rounds}"
                )  # fmt: skip


_PAPER_SIZE = Width(width=512, blocks=3, dropout=0.1)

PRESETS: dict[str, TrainConfig] = {
    "small": TrainConfig(),
    "tiny": TrainConfig(
        windows=Windows(steps=8),
        autoencoder=AutoencoderConfig(
            codes=Codes(quantizer=EMA(codes=64, size=16)), size=Width(width=48, blocks=1), updates=1500,
        ),
        prior=PriorConfig(size=Width(width=48, blocks=2), updates=1000),
    ),
    "paper": TrainConfig(
        autoencoder=AutoencoderConfig(
            codes=Codes(per_step=8, quantizer=EMA(codes=512, size=128)), size=_PAPER_SIZE, updates=600_000, batch=128,
            optimiser=Optimiser(lr=2e-4, warmup=0.0, decay=False),
        ),
        prior=PriorConfig(
            size=Width(width=512, blocks=4, dropout=0.1), optimiser=Optimiser(lr=3e-4, warmup=0.2), updates=600_000,
            batch=128,
        ),
    ),
}  # fmt: skip

PRESET_HELP: dict[str, str] = {
    "small": "three hundred thousand parameters: minutes on a CPU (the default)",
    "tiny": "a hundred thousand: a demonstration in seconds",
    "paper": "the paper's sizes for the 56-joint humanoid: for a GPU",
}
