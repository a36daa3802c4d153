"""A trial: `E` episodes of `T` steps of `B` games between two players, who may learn between episodes.

Everything is written for one pair of players; candidates, co-players and seeds are added by `vmap`. All random numbers
follow from one key. Where that key is not mapped, as over the candidates of a population, they are drawn once and
shared: common random numbers, so that candidates are compared on the same games against the same co-players.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from opshape.agents.players import Episode, Mind, Player
from opshape.games.base import Game

__all__ = ["Outcome", "Trial"]


class Outcome(NamedTuple):
    """What a trial gives.

    Attributes:
        rewards: mean reward per step of the first player in each episode, `[E]`.
        other_rewards: the same of the second player.
        statistics: counts of the game, summed over steps, averaged over games: name -> `[E, ...]`; empty unless asked.
        minds: both players' minds after the trial.
        record: what the first player kept of every step, `[E, T, B, ...]`, and its rewards; None unless asked.
    """

    rewards: Array
    other_rewards: Array
    statistics: dict[str, Array]
    minds: tuple[Mind, Mind]
    record: Any


@dataclasses.dataclass(frozen=True)
class Trial:
    """The shape of a trial.

    Attributes:
        game: what is played.
        steps: T, steps of an episode.
        episodes: E.
        games: B, games at a time against one co-player.
        last_pays: False sets both rewards of an episode's last step to 0, as the reference does in CoinGame and
            InTheMatrix.
        statistics: count what the game counts.
        records: keep the first player's steps.
    """

    game: Game
    steps: int
    episodes: int
    games: int
    last_pays: bool = True
    statistics: bool = False
    records: bool = False

    @property
    def joint_steps(self) -> int:
        """Steps of all games, in which both act."""
        return self.steps * self.episodes * self.games

    def __call__(
        self,
        players: tuple[Player, Player],
        minds: tuple[Mind, Mind],
        key: Array,
        *,
        stop: Array | int | None = None,
        blind: int = 0,
    ) -> Outcome:
        """Play.

        Args:
            players: both sides; the first is the shaper where there is one.
            minds: theirs at the start.
            key: of the games, of both players' actions, and of what the learners shuffle.
            stop: the number of episodes after which the second player no longer learns (hard stop).
            blind: in so many of the games, the first player sees nothing but the first observation.
        """
        memories = tuple(player.start(mind, self.games) for player, mind in zip(players, minds, strict=True))

        def episode(carry: tuple, number: Array) -> tuple[tuple, tuple]:
            minds, memories = carry
            memories, episodes, totals, statistics = self._episode(
                players, minds, memories, jax.random.fold_in(key, number), number == self.episodes - 1, blind
            )
            keys = jax.random.split(jax.random.fold_in(jax.random.fold_in(key, number), 1), 2)
            turned = [
                player.between(mind, memory, played, key)
                for player, mind, memory, played, key in zip(players, minds, memories, episodes, keys, strict=True)
            ]
            changed, memories = zip(*turned, strict=True)
            if stop is not None:
                after = jax.tree.map(lambda new, old: jnp.where(number < stop, new, old), changed[1], minds[1])
                changed = (changed[0], after)
            record = (episodes[0].record, episodes[0].rewards) if self.records else None
            return (changed, memories), (totals, statistics, record)

        carry, (totals, statistics, record) = jax.lax.scan(episode, (tuple(minds), memories), jnp.arange(self.episodes))
        scale = 1.0 / (self.steps * self.games)
        statistics = {name: value / self.games for name, value in statistics.items()}
        return Outcome(totals[0] * scale, totals[1] * scale, statistics, carry[0], record)

    def _episode(
        self, players: tuple, minds: tuple, memories: tuple, key: Array, final: Array, blind: int
    ) -> tuple[tuple, list[Episode], tuple[Array, Array], dict[str, Array]]:
        game, shape = self.game, (self.games,)
        noise = jax.random.uniform(key, (self.steps, self.games, 2 + game.step_noise))
        state = game.reset(jax.random.uniform(jax.random.fold_in(key, 0), (*shape, game.reset_noise)))
        first = game.observe(state)[0]
        pays = jnp.ones(self.steps).at[-1].set(float(self.last_pays))

        def see(state: Any) -> tuple[Any, Any]:
            own, other = game.observe(state)
            if blind:
                own = jax.tree.map(lambda x, x0: jnp.concatenate([x0[:blind], x[blind:]]), own, first)
            return own, other

        def step(carry: tuple, now: tuple[Array, Array]) -> tuple[tuple, tuple]:
            state, memories, counted = carry
            u, pay = now
            acted = [
                player.act(mind, memory, seen, u[..., i])
                for i, (player, mind, memory, seen) in enumerate(zip(players, minds, memories, see(state), strict=True))
            ]
            memories, actions, records = zip(*acted, strict=True)
            after, rewards = game.step(state, actions, u[..., 2:])
            rewards = tuple(pay * r for r in rewards) if not self.last_pays else rewards
            if self.statistics:
                found = game.statistics(state, actions, after)
                counted = {name: counted[name] + found[name].sum(0) for name in found}
            return (after, memories, counted), (records, rewards)

        counted = {}
        if self.statistics:
            zero = (jnp.zeros(shape, jnp.int32),) * 2
            found = jax.eval_shape(game.statistics, state, zero, state)
            counted = {name: jnp.zeros(x.shape[1:], jnp.float32) for name, x in found.items()}
        (state, memories, counted), (records, rewards) = jax.lax.scan(step, (state, memories, counted), (noise, pays))
        last = jnp.asarray(1.0) if game.ends else final.astype(jnp.float32)
        following = see(game.reset(jnp.zeros((*shape, game.reset_noise)))) if not game.ends else see(state)
        episodes = [Episode(records[i], rewards[i], rewards[1 - i], following[i], last) for i in (0, 1)]
        return memories, episodes, (rewards[0].sum(), rewards[1].sum()), counted
