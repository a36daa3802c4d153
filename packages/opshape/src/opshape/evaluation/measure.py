"""Trials of trained shapers against fresh co-players that training has not met."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from opshape.agents.strategies import fit_zero_determinant
from opshape.games.matrix import IteratedMatrixGame
from opshape.play.arena import Arena
from opshape.trainer import ShapingTrainer, TrainState
from paperloop.errors import UserError, setting
from paperloop.seeds import fold_seed

__all__ = ["HeldOut", "Measured", "measure"]


@dataclasses.dataclass(frozen=True)
class Measured:
    """What trials gave, on the host.

    Attributes:
        own: mean reward per step of the shaper `[seeds, co_players, episodes]`.
        other: of its co-players.
        statistics: what the game counts in an episode, name -> `[seeds, co_players, episodes, ...]`.
        steps: of an episode.
    """

    own: np.ndarray
    other: np.ndarray
    statistics: Mapping[str, np.ndarray]
    steps: int

    @property
    def tail(self) -> int:
        """How many episodes the last tenth has."""
        return max(1, self.own.shape[-1] // 10)

    def rewards(self) -> dict[str, np.ndarray]:
        """Return name -> one number for each seed: means over trials and over their last tenth."""
        tail = slice(-self.tail, None)
        return {
            "reward": self.own.mean((1, 2)),
            "co_player_reward": self.other.mean((1, 2)),
            "last_reward": self.own[..., tail].mean((1, 2)),
            "last_co_player_reward": self.other[..., tail].mean((1, 2)),
        }

    def behaviour(self, payoffs: Any = None) -> dict[str, np.ndarray]:
        """Return name -> one number for each seed: what the players did in the last tenth of the episodes.

        In matrix games: how often each state was visited, how often it was answered with cooperation (NaN where it did
        not occur), and the zero-determinant strategy nearest to that. In CoinGame: coins per episode and the share of
        own coins. In InTheMatrix: interactions per episode, and at interactions the coins held and the share of red.
        """
        sums = {name: value[:, :, -self.tail :].sum((1, 2)) for name, value in self.statistics.items()}
        episodes = self.own.shape[1] * self.tail
        found: dict[str, np.ndarray] = {}
        with np.errstate(invalid="ignore", divide="ignore"):
            if "visits" in sums:
                for side in ("", "_other"):
                    share = sums[f"cooperations{side}"] / sums[f"visits{side}"]
                    for i, state in enumerate(("CC", "CD", "DC", "DD", "START")):
                        found[f"cooperation{side}/{state}"] = share[:, i]
                for i, state in enumerate(("CC", "CD", "DC", "DD")):
                    found[f"visits/{state}"] = sums["visits"][:, i] / sums["visits"].sum(-1)
                cooperation = sums["cooperations"] / sums["visits"]
                fits = [fit_zero_determinant(row, payoffs) for row in cooperation]
                for name in ("chi", "phi", "kappa", "residual"):
                    found[f"zero_determinant/{name}"] = np.array([getattr(fit, name) for fit in fits])
            elif "own_coins" in sums:
                for side in ("", "_other"):
                    total = sums[f"own_coins{side}"] + sums[f"foreign_coins{side}"]
                    found[f"coins{side}"] = total / episodes
                    found[f"own_coin_share{side}"] = sums[f"own_coins{side}"] / total
            else:
                met = sums["interactions"]
                found["interactions"] = met / episodes
                for side in ("", "_other"):
                    found[f"red_share{side}"] = sums[f"red_share{side}"] / met
                    found[f"coins{side}"] = sums[f"coins{side}"] / met
        return found


def measure(
    trainer: ShapingTrainer,
    vectors: Any,
    *,
    seed: int,
    co_players: int = 32,
    hard_stop: int | None = None,
    blind: int = 0,
    episodes: int | None = None,
    games: int | None = None,
) -> Measured:
    """Play trials of parameter vectors against fresh co-players.

    Args:
        trainer: of the run.
        vectors: `[seeds, D]`.
        seed: of the co-players and the games; streams of training are never used.
        co_players: fresh co-players for each vector; the same ones for all.
        hard_stop: the number of episodes after which co-players no longer learn.
        blind: in so many of the games the shaper sees only the first observation.
        episodes: of a trial; None takes those of training.
        games: at a time against one co-player; None takes those of training.

    Raises:
        UserError: a number is out of range.
    """
    trial = trainer.arena.trial
    trial = dataclasses.replace(
        trial, statistics=True, records=False, episodes=episodes or trial.episodes, games=games or trial.games
    )
    if not 0 <= blind <= trial.games:
        raise UserError(f"{setting('blind', blind)} is not between 0 and the {trial.games} games of a trial.")
    if blind and not isinstance(trial.game, IteratedMatrixGame):
        raise UserError(f"{setting('blind', blind)} goes with matrix games only, whose first observation says nothing.")
    arena = dataclasses.replace(trainer.arena, trial=trial, co_players=co_players)
    key = jax.random.key(fold_seed(seed, "held-out"))
    own, other, statistics = jax.device_get(_compiled(arena, hard_stop, blind)(jnp.asarray(vectors), key))
    return Measured(own, other, statistics, trial.steps)


@functools.cache
def _compiled(arena: Arena, stop: int | None, blind: int) -> Any:
    """Return a compiled function of vectors `[n, D]` and a key; equal requests share it."""

    def play(vector: Any, key: Any) -> tuple[Any, Any, Any]:
        played = arena.play(vector, key, stop=stop, blind=blind)
        return played.rewards, played.other_rewards, played.statistics

    return jax.jit(jax.vmap(play, in_axes=(0, None)))


class HeldOut:
    """An evaluator of a run: the mean of the search and its best candidate, each on held-out co-players.

    Attributes:
        trainer: of the run.
        co_players: how many.
    """

    def __init__(self, trainer: ShapingTrainer, co_players: int = 16) -> None:
        self.trainer, self.co_players = trainer, co_players

    def __call__(self, state: TrainState, seed: int) -> dict[str, np.ndarray]:
        """Return rewards of both, with a leading seed axis."""
        vectors = jnp.concatenate([self.trainer.parameters(state, best=best) for best in (False, True)])
        rewards = measure(self.trainer, vectors, seed=seed, co_players=self.co_players).rewards()
        parts = {
            metric: dict(zip(("mean", "best"), np.split(value, 2), strict=True)) for metric, value in rewards.items()
        }
        return {f"{name}/{metric}": part[name] for name in ("mean", "best") for metric, part in parts.items()}
