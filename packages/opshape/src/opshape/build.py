"""From settings to the objects that play."""

from __future__ import annotations

from opshape.agents import config as agents
from opshape.agents.encoders import make_encoder
from opshape.agents.learners import Learner, PPOSettings
from opshape.agents.mfos import MFOS
from opshape.agents.players import MemoryOne, Player
from opshape.agents.policies import Feedforward, Policy, Recurrent, Tabular
from opshape.agents.strategies import strategy
from opshape.agents.tabular import TabularLearner
from opshape.config import TrainConfig, TrialShape
from opshape.games import config as games
from opshape.games.base import Game
from opshape.games.coin_game import CoinGame
from opshape.games.in_the_matrix import ROOM_PAYOFFS, InTheMatrix
from opshape.games.matrix import IteratedMatrixGame
from opshape.play.trial import Trial

__all__ = ["make_co_player", "make_game", "make_shaper", "make_trial"]


def make_game(config: games.Matrix | games.CoinGame | games.InTheMatrix) -> Game:
    """Return the game that settings describe."""
    if isinstance(config, games.Matrix):
        return IteratedMatrixGame(config.table)
    if isinstance(config, games.CoinGame):
        return CoinGame(config.egocentric, config.taken)
    return InTheMatrix(ROOM_PAYOFFS[config.payoffs], config.fixed_coins, directions=config.directions)


def make_trial(shape: TrialShape, game: Game, *, statistics: bool = False, records: bool = False) -> Trial:
    """Return the trial that settings describe; by default the last step pays only in matrix games."""
    pays = shape.last_pays if shape.last_pays is not None else not game.ends
    return Trial(game, shape.steps, shape.episodes, shape.games, pays, statistics, records)


def make_shaper(
    config: agents.Shaper | agents.GoodShepherd | agents.MFOS, game: Game, *, population: bool = False
) -> Policy:
    """Return the shaper's network. Its layers before the GRU are the reference's for each game.

    Args:
        config: who it is.
        game: what it sees.
        population: many candidates act and none is differentiated.
    """
    flat = game.name == "matrix"
    unrolled = flat and population  # elsewhere a candidate has enough games to fill a matrix product
    if isinstance(config, agents.GoodShepherd):
        return Feedforward(make_encoder(game), game.actions, config.layers, flat, unrolled)
    if isinstance(config, agents.MFOS):
        return MFOS(
            make_encoder(game), game.actions, config.width, config.context, config.history, config.mix, unrolled
        )
    return Recurrent(
        make_encoder(game), game.actions, config.width, config.context, config.history, config.mix, flat, unrolled
    )


def make_co_player(config: TrainConfig, game: Game) -> Player:
    """Return the co-player that settings describe."""
    co_player = config.co_player
    if isinstance(co_player, agents.Strategy):
        table = config.game.table if isinstance(config.game, games.Matrix) else None
        assert table is not None  # the configuration has seen to that
        return MemoryOne(strategy(co_player.name, table))
    if isinstance(co_player, agents.Reinforce):
        settings = PPOSettings(
            lr=co_player.lr, epochs=1, minibatches=1, gamma=co_player.gamma, lam=co_player.lam, clip=None,
            entropy=co_player.entropy, max_norm=1.0,
        )  # fmt: skip
    else:
        weight = co_player.weight if isinstance(co_player, agents.Alignment) else None
        ppo = co_player.ppo
        settings = PPOSettings(
            ppo.lr, ppo.epochs, ppo.minibatches, ppo.gamma, ppo.lam, ppo.clip, ppo.value_weight, ppo.entropy,
            ppo.max_norm, weight,
        )  # fmt: skip
    if game.name == "matrix" and not isinstance(co_player, agents.RecurrentLearner):
        if settings.alignment is None:
            return TabularLearner(settings=settings)
        return Learner(Tabular(5, game.actions), settings)
    assert not isinstance(co_player, agents.TableLearner)
    return Learner(Recurrent(make_encoder(game), game.actions, co_player.width, flat=game.name == "matrix"), settings)
