"""The settings of meta-optimisers. Loads no array library."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from paperloop.settings import Count, NotNegative, Positive, PositiveShare, Share, fault, settings

__all__ = ["CoAla", "Evolution", "Genetic", "MetaPPO"]


@settings
class Evolution:
    """OpenAI-ES.

    Attributes:
        population: candidates per generation; half of them mirror the other half.
        sigma: width of the noise at first.
        sigma_decay: its factor per generation.
        sigma_limit: its least value.
        lr: Adam's step size at first.
        lr_decay: its factor per generation.
        lr_limit: its least value.
        shaping: of fitness: minus the mean, z-scores, or centered ranks.
        weight_decay: of candidates' mean squared parameters.
        chunk: candidates evaluated at a time, to save memory; results do not depend on it. None: all.
    """

    type: Literal["es"] = "es"
    population: Annotated[Count, Field(ge=2)] = 64
    sigma: Positive = 0.1
    sigma_decay: PositiveShare = 0.999
    sigma_limit: Positive = 0.01
    lr: Positive = 0.05
    lr_decay: PositiveShare = 0.9999
    lr_limit: Positive = 0.001
    shaping: Literal["mean", "z_score", "centered_rank"] = "z_score"
    weight_decay: NotNegative = 0.0
    chunk: Count | None = None

    def __post_init__(self) -> None:
        if self.population % 2:
            raise fault(self, "population", "even, because every candidate has a mirror image")
        if self.chunk is not None and self.population % self.chunk:
            raise fault(self, "chunk", "a divisor of {population}")


@settings
class Genetic:
    """A genetic algorithm: the best survive, their children are mutated.

    Attributes:
        population: candidates per generation.
        elite: share that survives.
        sigma: width of mutations.
        sigma_decay: its factor per generation.
        sigma_limit: its least value.
        chunk: candidates evaluated at a time, to save memory; results do not depend on it. None: all.
    """

    type: Literal["genetic"] = "genetic"
    population: Annotated[Count, Field(ge=2)] = 64
    elite: PositiveShare = 0.25
    sigma: Positive = 0.1
    sigma_decay: PositiveShare = 0.999
    sigma_limit: Positive = 0.01
    chunk: Count | None = None

    def __post_init__(self) -> None:
        if self.chunk is not None and self.population % self.chunk:
            raise fault(self, "chunk", "a divisor of {population}")


@settings
class MetaPPO:
    """PPO on whole trials; every trial of the `co_players` played at once is a sample.

    Attributes:
        lr: Adam's step size.
        epochs: updates per generation.
        gamma: discount.
        lam: of generalised advantages.
        clip: of probability ratios and value changes.
        value_weight: of the value loss.
        entropy: weight of the entropy.
        max_norm: the largest norm of a gradient.
        credit: trial: rewards of later episodes count for earlier actions; episode: they do not, as in the reference.
        unroll: trial: backpropagate through the whole trial; step: through one step from the stored memory, as in the
            reference, which leaves the meta-network of M-FOS without a gradient.
    """

    type: Literal["ppo"] = "ppo"
    lr: Positive = 3e-3
    epochs: Count = 4
    gamma: Share = 0.99
    lam: Share = 0.95
    clip: Positive = 0.2
    value_weight: NotNegative = 0.5
    entropy: NotNegative = 0.01
    max_norm: Positive = 0.5
    credit: Literal["trial", "episode"] = "trial"
    unroll: Literal["trial", "step"] = "trial"


@settings
class CoAla:
    """COALA-PG (Meulemans et al. 2025): PPO whose returns know that the co-player learns from all games.

    Attributes:
        lr: Adam's step size.
        epochs: updates per generation.
        gamma: discount.
        lam: of generalised advantages.
        clip: of probability ratios.
        value_weight: of the value loss.
        entropy: weight of the entropy.
        max_norm: the largest norm of a gradient.
        objective: coala; batch_unaware: each game's own return; mfos: without the factor 1 / B on the current episode.
    """

    type: Literal["coala"] = "coala"
    lr: Positive = 3e-3
    epochs: Count = 4
    gamma: Share = 1.0
    lam: Share = 1.0
    clip: Positive = 0.2
    value_weight: NotNegative = 0.5
    entropy: NotNegative = 0.0
    max_norm: Positive = 1.0
    objective: Literal["coala", "batch_unaware", "mfos"] = "coala"
