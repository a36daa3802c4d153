"""The settings of shapers and of co-players. Loads no array library."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from opshape.agents.strategies import strategy
from paperloop.settings import Count, Lt, NotNegative, Positive, Share, fault, settings

__all__ = [
    "MFOS",
    "PPO",
    "Alignment",
    "GoodShepherd",
    "RecurrentLearner",
    "Reinforce",
    "Shaper",
    "Strategy",
    "TableLearner",
]

Discount = Annotated[float, Lt(1.0), Field(ge=0)]
Mix = Literal["none", "avg", "att"]


@settings
class Shaper:
    """One recurrent policy whose hidden state lasts over the episodes of a trial (Khan et al. 2024).

    Attributes:
        width: of the GRU.
        context: keep the hidden state from one episode to the next.
        history: use what happened earlier in the episode.
        mix: how hidden states of the games of one co-player are mixed: not at all, averaged, by attention.
    """

    type: Literal["shaper"] = "shaper"
    width: Count = 16
    context: bool = True
    history: bool = True
    mix: Mix = "none"

    def __post_init__(self) -> None:
        if self.mix == "att" and self.width % 8:
            raise fault(self, "width", "a multiple of 8, the number of attention heads")


@settings
class GoodShepherd:
    """A policy without memory (Balaguer et al. 2022).

    Attributes:
        layers: widths of its tanh layers.
    """

    type: Literal["good_shepherd"] = "good_shepherd"
    layers: tuple[Count, ...] = (16, 16)


@settings
class MFOS:
    """An actor and a critic conditioned by a meta-network once an episode (Lu et al. 2022).

    Attributes:
        width: of all layers.
        context: let the meta-network condition later episodes.
        history: use what happened earlier in the episode.
        mix: how hidden states of the games of one co-player are mixed: not at all, averaged, by attention.
    """

    type: Literal["mfos"] = "mfos"
    width: Count = 16
    context: bool = True
    history: bool = True
    mix: Mix = "none"

    def __post_init__(self) -> None:
        if self.mix == "att" and self.width % 8:
            raise fault(self, "width", "a multiple of 8, the number of attention heads")


@settings
class PPO:
    """How a co-player learns after each episode.

    Attributes:
        lr: Adam's step size.
        epochs: passes over the episode.
        minibatches: updates per pass.
        gamma: discount.
        lam: of generalised advantages.
        clip: of probability ratios and value changes.
        value_weight: of the value loss.
        entropy: weight of the entropy.
        max_norm: the largest norm of a gradient.
    """

    lr: Positive = 1.0
    epochs: Count = 2
    minibatches: Count = 4
    gamma: Discount = 0.96
    lam: Share = 0.95
    clip: Positive = 0.2
    value_weight: NotNegative = 0.5
    entropy: NotNegative = 0.02
    max_norm: Positive = 0.5


@settings
class TableLearner:
    """PPO on a table over the five states of a matrix game.

    Attributes:
        ppo: how it learns.
    """

    type: Literal["table"] = "table"
    ppo: PPO = PPO()


@settings
class RecurrentLearner:
    """PPO on a GRU, in any game.

    Attributes:
        width: of the GRU.
        ppo: how it learns.
    """

    type: Literal["recurrent"] = "recurrent"
    width: Count = 16
    ppo: PPO = PPO(lr=0.1)


@settings
class Reinforce:
    """Policy gradients with a baseline on a table or, outside matrix games, a GRU: one update after each episode.

    Attributes:
        width: of the GRU.
        lr: Adam's step size.
        gamma: discount.
        lam: of generalised advantages.
        entropy: weight of the entropy.
    """

    type: Literal["reinforce"] = "reinforce"
    width: Count = 16
    lr: Positive = 1.0
    gamma: Discount = 0.96
    lam: Share = 0.95
    entropy: NotNegative = 0.02


@settings
class Alignment:
    """Advantage Alignment (Duque et al. 2025) on a table or, outside matrix games, a GRU.

    Attributes:
        weight: beta, of the co-player's advantages.
        width: of the GRU.
        ppo: how it learns.
    """

    type: Literal["alignment"] = "alignment"
    weight: NotNegative = 1.0
    width: Count = 16
    ppo: PPO = PPO(lr=0.1)


@settings
class Strategy:
    """A fixed strategy of a matrix game.

    Attributes:
        name: tit_for_tat, grim, win_stay_lose_shift, all_c, all_d, random, or zd:CHI:PHI[:KAPPA].
    """

    type: Literal["strategy"] = "strategy"
    name: str = "tit_for_tat"

    def __post_init__(self) -> None:
        strategy(self.name)
