"""Settings of the world model and of who explores in it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from paperloop.settings import Count, Ge, NotNegative, Positive, Share, settings

__all__ = [
    "Actor", "Cascade", "InfoGain", "LogDet", "NearestNeighbours", "Plan2Explore", "Population", "Random", "Variance",
    "WorldModel",
]  # fmt: skip


# The world model


@settings
class WorldModel:
    """The recurrent state-space model of DreamerV2 with an ensemble that predicts its next latent.

    Attributes:
        deter: width of the recurrent state.
        groups: categorical latents.
        classes: of each.
        hidden: width within the recurrent model.
        units: width of encoder, decoder and heads.
        layers: of these.
        depth: channels of the first convolution, where images are seen; the original has 48.
        norm: LayerNorm in every dense layer.
        precision: in which layers compute, those of the explorers too. Parameters, recurrent states, LayerNorm,
            distributions and losses are float32 in both.
        unimix: share of the uniform distribution mixed into each categorical (0: DreamerV2; DreamerV3 has .01).
        kl_scale: weight of the KL divergence.
        kl_balance: share of it that trains the prior.
        free_nats: below which the KL divergence, averaged over the batch, is not reduced.
        lr: Adam's step size.
        clip: largest norm of a gradient.
        heads: members of the ensemble.
        ensemble_lr: its step size.
        batch: sequences in an update.
        length: steps in a sequence.
    """

    deter: Count = 128
    groups: Count = 8
    classes: Annotated[int, Ge(2)] = 8
    hidden: Count = 128
    units: Count = 128
    layers: Count = 2
    depth: Count = 8
    norm: bool = True
    precision: Literal["float32", "bfloat16"] = "float32"
    unimix: Share = 0.0
    kl_scale: NotNegative = 1.0
    kl_balance: Share = 0.8
    free_nats: NotNegative = 0.0
    lr: Positive = 3e-4
    clip: Positive = 100.0
    heads: Annotated[int, Ge(2)] = 5
    ensemble_lr: Positive = 3e-4
    batch: Count = 8
    length: Annotated[int, Ge(2)] = 32


# Explorers


@settings
class Variance:
    """Variance of the final imagined states over the agents up to and including this one.

    Attributes:
        marginal: only what this agent adds.
    """

    type: Literal["variance"] = "variance"
    marginal: bool = False


@settings
class NearestNeighbours:
    """Log distance of the final imagined state to its k-th nearest among those of the agents before.

    Attributes:
        k: which neighbour.
        pool: starts whose final states are pooled as neighbours.
    """

    type: Literal["knn"] = "knn"
    k: Count = 5
    pool: Count = 32


@settings
class LogDet:
    """Half the log determinant of the Gram matrix of how far the agents' final states lie from the start.

    Attributes:
        sigma: noise: displacements well below it count little.
        marginal: only what this agent adds.
    """

    type: Literal["log_det"] = "log_det"
    sigma: Positive = 0.1
    marginal: bool = False


@settings
class InfoGain:
    """Information about the ensemble in this agent's last transition, given those of the agents before.

    Attributes:
        sigma: noise of an observation.
        marginal: only what this agent adds; otherwise the sum up to this agent.
    """

    type: Literal["info_gain"] = "info_gain"
    sigma: Positive = 0.1
    marginal: bool = True


@settings
class Actor:
    """How an explorer is trained in imagination.

    Attributes:
        horizon: imagined steps.
        starts: states of a batch from which to imagine; all agents start from the same.
        gamma: discount.
        lam: of returns.
        lr: Adam's step size of actors.
        critic_lr: of critics.
        entropy: weight of the entropy, next to rewards of about 1 a step. The original has .003 next to raw rewards,
            which are of the order of .05.
        units: width of actors and critics.
        layers: of actors and critics.
        clip: largest norm of a gradient.
        slow_every: updates between copies of a critic to its target.
        gradient: reinforce, or dynamics: through the model (auto: by the kind of actions, discrete or continuous).
    """

    horizon: Annotated[int, Ge(2)] = 10
    starts: Count = 64
    gamma: Annotated[float, Field(gt=0, lt=1)] = 0.99
    lam: Share = 0.95
    lr: Positive = 3e-4
    critic_lr: Positive = 3e-4
    entropy: NotNegative = 0.05
    units: Count = 128
    layers: Count = 2
    clip: Positive = 100.0
    slow_every: Count = 100
    gradient: Literal["auto", "reinforce", "dynamics"] = "auto"


@settings
class Random:
    """Uniform actions in every deployment: the baseline of data without exploration. The world model is trained."""

    type: Literal["random"] = "random"


@settings
class Plan2Explore:
    """One explorer that is paid the ensemble's disagreement.

    Attributes:
        actor: how it is trained.
    """

    type: Literal["p2e"] = "p2e"
    actor: Actor = Actor()


@settings
class Population:
    """Independent Plan2Explore agents in one world model.

    Attributes:
        agents: B.
        actor: how they are trained.
    """

    type: Literal["population"] = "population"
    agents: Annotated[int, Ge(2)] = 5
    actor: Actor = Actor()


@settings
class Cascade:
    """Agents that are also paid for ending elsewhere than those before them.

    Attributes:
        agents: B.
        share: lambda, of the reward for diversity.
        scale: normalised: both terms are divided by their running mean, and diversity counts once for each imagined
            step, so that `share` has no unit; raw: (1 - share) disagreement + share diversity, as in the original.
        diversity: how it is measured.
        actor: how they are trained.
    """

    type: Literal["cascade"] = "cascade"
    agents: Annotated[int, Ge(2)] = 5
    share: Share = 0.1
    scale: Literal["normalised", "raw"] = "normalised"
    diversity: Annotated[Variance | NearestNeighbours | LogDet | InfoGain, Field(discriminator="type")] = Variance()
    actor: Actor = Actor()
