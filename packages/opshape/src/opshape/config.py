"""The settings of a run and the presets. Loads no array library."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from opshape.agents.config import (
    MFOS,
    PPO,
    Alignment,
    GoodShepherd,
    RecurrentLearner,
    Reinforce,
    Shaper,
    Strategy,
    TableLearner,
)
from opshape.games.config import CoinGame, InTheMatrix, Matrix
from opshape.meta.config import CoAla, Evolution, Genetic, MetaPPO
from paperloop.settings import Count, fault, settings

__all__ = ["PRESETS", "PRESET_HELP", "TrainConfig", "TrialShape"]


@settings
class TrialShape:
    """The shape of a trial.

    Attributes:
        steps: T, of an episode.
        episodes: E, of a trial; the co-player learns after each.
        games: B, played at a time against one co-player, which learns from all of them.
        co_players: K, independent co-players for each candidate.
        last_pays: whether the last step of an episode pays; None: as in the reference (not in CoinGame and
            InTheMatrix).
    """

    steps: Count = 50
    episodes: Count = 40
    games: Count = 2
    co_players: Count = 2
    last_pays: bool | None = None


@settings
class TrainConfig:
    """A run: who shapes whom in which game, and how the shaper is improved.

    Attributes:
        game: what is played.
        trial: how long, and in how many games.
        shaper: who shapes.
        co_player: who is shaped.
        meta: how the shaper is improved.
        generations: improvements in all.
        generations_per_step: of them in one dispatch.
        seeds: independent runs side by side.
        devices: that candidates are spread over.
    """

    game: Annotated[Matrix | CoinGame | InTheMatrix, Field(discriminator="type")] = Matrix()
    trial: TrialShape = TrialShape()
    shaper: Annotated[Shaper | GoodShepherd | MFOS, Field(discriminator="type")] = Shaper()
    co_player: Annotated[
        TableLearner | RecurrentLearner | Reinforce | Alignment | Strategy, Field(discriminator="type")
    ] = TableLearner()
    meta: Annotated[Evolution | Genetic | MetaPPO | CoAla, Field(discriminator="type")] = Evolution()
    generations: Count = 200
    generations_per_step: Count = 5
    seeds: Count = 1
    devices: Count = 1

    def __post_init__(self) -> None:
        matrix, kind = isinstance(self.game, Matrix), self.co_player.type
        if not matrix and kind in ("table", "strategy"):
            raise fault(
                self, "co_player.type", f"recurrent, reinforce or alignment in the game {self.game.type}, because "
                "tables and strategies know the five states of a matrix game only",
            )  # fmt: skip
        if isinstance(self.co_player, TableLearner | RecurrentLearner | Alignment):
            samples, parts = self.trial.steps * self.trial.games, self.co_player.ppo.minibatches
            if samples % parts:
                raise fault(
                    self, "co_player.ppo.minibatches", f"a divisor of {{trial.steps}} x {{trial.games}} = {samples}"
                )
        if isinstance(self.shaper, Shaper | MFOS) and self.shaper.mix == "att" and self.trial.games == 1:
            raise fault(self, "trial.games", "at least 2 with {shaper.mix} = att, because attention mixes games")
        if isinstance(self.meta, MetaPPO) and self.meta.unroll == "step" and getattr(self.shaper, "mix", "") == "att":
            raise fault(self, "meta.unroll", "trial with {shaper.mix} = att, because single steps know one game each")
        if self.generations % self.generations_per_step:
            raise fault(self, "generations_per_step", f"a divisor of {{generations}} = {self.generations}")
        if self.devices > 1:
            if not isinstance(self.meta, Evolution | Genetic):
                raise fault(self, "devices", "1 unless candidates of a population can be spread over them")
            if (self.meta.chunk or self.meta.population) % self.devices:
                raise fault(self, "devices", "a divisor of {meta.population} and of {meta.chunk}")

    @property
    def steps(self) -> int:
        """Dispatches of the whole run."""
        return self.generations // self.generations_per_step

    @property
    def joint_steps(self) -> int:
        """Steps of all games in one generation, for one seed."""
        trial = self.trial
        candidates = self.meta.population if isinstance(self.meta, Evolution | Genetic) else 1
        return candidates * trial.co_players * trial.games * trial.episodes * trial.steps


_ROOM = RecurrentLearner(width=8, ppo=PPO(lr=0.005, minibatches=8, entropy=0.1))
_PAPER = Evolution(population=1000, sigma=0.04, lr=0.1, shaping="mean")
_PAPER_ROOM = Evolution(
    population=1024, sigma=0.075, lr=0.05, lr_decay=0.999, shaping="centered_rank", weight_decay=0.1, chunk=128
)

PRESETS: dict[str, TrainConfig] = {
    "imp": TrainConfig(game=Matrix(name="imp")),
    "ipd": TrainConfig(game=Matrix(name="ipd")),
    "coin_game": TrainConfig(
        game=CoinGame(),
        trial=TrialShape(steps=16, episodes=60, games=8, co_players=1),
        co_player=RecurrentLearner(ppo=PPO(lr=0.02, minibatches=4, entropy=0.1)),
        meta=Evolution(population=64, sigma=0.05, lr=0.05, shaping="centered_rank"),
    ),
    "in_the_matrix": TrainConfig(
        game=InTheMatrix(),
        trial=TrialShape(steps=76, episodes=40, games=4, co_players=1),
        shaper=Shaper(width=32),
        co_player=_ROOM,
        meta=Evolution(population=32, sigma=0.075, lr=0.05, shaping="centered_rank"),
        generations_per_step=1,
    ),
    "paper_ipd": TrainConfig(
        game=Matrix(name="ipd"),
        trial=TrialShape(steps=100, episodes=100, games=2, co_players=10),
        meta=_PAPER,
        generations=1000,
    ),
    "paper_imp": TrainConfig(
        game=Matrix(name="imp"),
        trial=TrialShape(steps=100, episodes=100, games=2, co_players=10),
        meta=_PAPER,
        generations=1000,
    ),
    "paper_coin_game": TrainConfig(
        game=CoinGame(),
        trial=TrialShape(steps=16, episodes=600, games=100, co_players=1),
        co_player=RecurrentLearner(ppo=PPO(lr=0.005, minibatches=8, entropy=0.1)),
        meta=Evolution(population=4000, sigma=0.04, lr=0.1, shaping="centered_rank", weight_decay=0.1, chunk=1000),
        generations=3000,
        generations_per_step=1,
    ),
    "paper_in_the_matrix": TrainConfig(
        game=InTheMatrix(),
        trial=TrialShape(steps=152, episodes=500, games=50, co_players=1),
        shaper=Shaper(width=32),
        co_player=_ROOM,
        meta=_PAPER_ROOM,
        generations=1000,
        generations_per_step=1,
    ),
}

PRESET_HELP: dict[str, str] = {
    "imp": "matching pennies against a learning table; minutes on two cores",
    "ipd": "the prisoner's dilemma against a learning table; minutes on two cores",
    "coin_game": "CoinGame, reduced",
    "in_the_matrix": "InTheMatrix, reduced",
    "paper_ipd": "the paper's prisoner's dilemma; for a GPU",
    "paper_imp": "the paper's matching pennies; for a GPU",
    "paper_coin_game": "the paper's CoinGame; for GPUs",
    "paper_in_the_matrix": "the paper's InTheMatrix; for GPUs",
}
