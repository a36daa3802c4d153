"""Everybody against everybody, in a matrix game."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from opshape.agents.encoders import OneHot
from opshape.agents.exact import exact_learner, match
from opshape.agents.learners import Learner, PPOSettings
from opshape.agents.players import MemoryOne, Player, PolicyPlayer
from opshape.agents.policies import Recurrent, Tabular
from opshape.agents.strategies import STRATEGIES, strategy
from opshape.agents.tabular import TabularLearner
from opshape.games.matrix import IteratedMatrixGame
from opshape.games.payoffs import Payoffs, swap
from opshape.play.trial import Trial
from paperloop.errors import UserError
from paperloop.seeds import fold_seed

__all__ = ["LEARNERS", "Entrant", "Table", "cross_play", "entrant", "exact_tournament", "trained"]

#: Learners that enter by name.
LEARNERS: dict[str, Callable[[], Player]] = {
    "table": TabularLearner,
    "recurrent": lambda: Learner(Recurrent(OneHot(5), 2), PPOSettings(lr=0.1)),
    "reinforce": lambda: TabularLearner(settings=PPOSettings(epochs=1, minibatches=1, clip=None, max_norm=1.0)),
    "alignment": lambda: Learner(Tabular(5, 2), PPOSettings(lr=0.1, alignment=1.0)),
}


@dataclasses.dataclass(frozen=True)
class Entrant:
    """A player with the mind it enters every trial with; `mind` None begins with a fresh one each time."""

    name: str
    player: Player
    mind: Any = None

    def enter(self, key: jax.Array) -> Any:
        """Return a mind for one trial."""
        return self.player.init(key) if self.mind is None else self.mind


@dataclasses.dataclass(frozen=True)
class Table:
    """A cross-play matrix.

    Attributes:
        names: of rows and columns.
        rewards: of the row's player against the column's, `[n, n, trials]`.
    """

    names: tuple[str, ...]
    rewards: np.ndarray

    @property
    def means(self) -> np.ndarray:
        """The mean rewards, `[n, n]`."""
        return self.rewards.mean(-1)

    @property
    def halves(self) -> np.ndarray:
        """Half the width of the 95 % intervals of the means."""
        return 1.96 * self.rewards.std(-1) / np.sqrt(self.rewards.shape[-1])

    def text(self) -> str:
        """Return the table as Markdown."""
        head = ["reward of \\ against", *self.names]
        rows = [
            [name, *(f"{m:.3f} ± {h:.3f}" for m, h in zip(means, halves, strict=True))]
            for name, means, halves in zip(self.names, self.means, self.halves, strict=True)
        ]
        lines = [head, ["---"] * len(head), *rows]
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)

    def to_json(self) -> dict[str, Any]:
        """Return the table as JSON."""
        return {"names": list(self.names), "means": self.means.tolist(), "halves": self.halves.tolist(),
                "trials": self.rewards.shape[-1]}  # fmt: skip


def entrant(name: str, payoffs: Payoffs) -> Entrant:
    """Return a learner or a fixed strategy by name.

    Raises:
        UserError: there is neither.
    """
    if name in LEARNERS:
        return Entrant(name, LEARNERS[name]())
    if name in STRATEGIES or name.startswith("zd:"):
        return Entrant(name, MemoryOne(strategy(name, payoffs)))
    raise UserError(
        f"{name} is neither a run folder nor an entrant's name; there are {', '.join([*LEARNERS, *STRATEGIES])} and "
        "zd:CHI:PHI[:KAPPA]."
    )


def trained(folder: Path, game: IteratedMatrixGame) -> Entrant:
    """Return a run's shaper (the mean of its search) as an entrant.

    Raises:
        UserError: the run played another kind of game.
    """
    from opshape.loading import load

    shaper = load(folder)
    if not isinstance(shaper.game, IteratedMatrixGame):
        raise UserError(f"{folder} was trained in {shaper.game.name}; a tournament is of matrix games.")
    return Entrant(folder.resolve().name, PolicyPlayer(shaper.policy), shaper.params)


def cross_play(entrants: Sequence[Entrant], trial: Trial, *, trials: int, seed: int) -> Table:
    """Play every ordered pair and return the first player's reward per step, over whole trials.

    In a game that looks the same from both sides a pair is played once and gives both its cells.
    """
    n, game = len(entrants), trial.game
    assert isinstance(game, IteratedMatrixGame)
    symmetric = game.payoffs == swap(game.payoffs)
    rewards = np.zeros((n, n, trials))
    keys = jax.random.split(jax.random.key(fold_seed(seed, "tournament")), trials)
    for i in range(n):
        for j in range(i if symmetric else 0, n):
            pair = entrants[i], entrants[j]

            def play(key: jax.Array, pair: tuple[Entrant, Entrant] = pair) -> tuple[jax.Array, jax.Array]:
                first, second, games = jax.random.split(key, 3)
                minds = pair[0].enter(first), pair[1].enter(second)
                played = trial((pair[0].player, pair[1].player), minds, games)
                return played.rewards.mean(), played.other_rewards.mean()

            own, other = jax.jit(jax.vmap(play))(keys)
            rewards[i, j] = own
            if symmetric and j > i:
                rewards[j, i] = other
    return Table(tuple(e.name for e in entrants), rewards)


def exact_tournament(
    names: Sequence[str], payoffs: Payoffs, *, gamma: float, step: float, updates: int, trials: int, seed: int
) -> Table:
    """Play every ordered pair of exact learners and return the first player's value at the last parameters."""
    n = len(names)
    key = jax.random.key(fold_seed(seed, "exact"))
    learning, playing = jax.random.split(key)
    pairs = {
        side: [exact_learner(name, table, learning, gamma=gamma, step=step) for name in names]
        for side, table in (("first", payoffs), ("second", swap(payoffs)))
    }
    symmetric = payoffs == swap(payoffs)
    rewards = np.zeros((n, n, trials))
    for i in range(n):
        for j in range(i if symmetric else 0, n):
            played = match(
                pairs["first"][i], pairs["second"][j], payoffs, playing, gamma=gamma, updates=updates, trials=trials
            )
            rewards[i, j] = played.final[0]
            if symmetric and j > i:
                rewards[j, i] = played.final[1]
    return Table(tuple(names), rewards)
