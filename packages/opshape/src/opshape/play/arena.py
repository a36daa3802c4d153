"""Candidates against fresh co-players: what a meta-optimiser measures."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.flatten_util import ravel_pytree

from opshape.agents.nets import Params
from opshape.agents.players import Player, PolicyPlayer
from opshape.agents.policies import Policy
from opshape.play.trial import Outcome, Trial

__all__ = ["Arena", "Scores"]


class Scores(NamedTuple):
    """Mean rewards per step in each episode, averaged over co-players: of candidates and of co-players, `[P, E]`."""

    own: Array
    other: Array


@dataclasses.dataclass(frozen=True)
class Arena:
    """Plays trials of a policy, given as a vector of parameters, against `co_players` fresh minds of one player.

    Attributes:
        trial: the shape of a trial.
        policy: the shaper's network.
        co_player: whom it meets.
        co_players: K.
        chunk: candidates at a time; None takes all.
        spread: lays candidates out over devices.
    """

    trial: Trial
    policy: Policy
    co_player: Player
    co_players: int
    chunk: int | None = None
    spread: Callable[[Array], Array] = lambda x: x

    def init(self, key: Array) -> Array:
        """Return freshly initialised parameters as a vector `[D]`."""
        return ravel_pytree(self.policy.init(key))[0]

    def unravel(self, vector: Array) -> Params:
        """Return parameters from their vector `[D]`."""
        like = jax.eval_shape(self.policy.init, jax.random.key(0))
        return ravel_pytree(jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), like))[1](vector)

    def play(self, vector: Array, key: Array, *, stop: int | None = None, blind: int = 0) -> Outcome:
        """Return the outcomes of one candidate `[D]` against K fresh co-players, `[K, ...]` (options: see `Trial`)."""
        shaper = PolicyPlayer(self.policy, self.trial.records)
        params = self.unravel(vector)

        def against(key: Array) -> Outcome:
            first, second = jax.random.split(key)
            minds = params, self.co_player.init(first)
            return self.trial((shaper, self.co_player), minds, second, stop=stop, blind=blind)

        return jax.vmap(against)(jax.random.split(key, self.co_players))

    def score(self, candidates: Array, key: Array) -> Scores:
        """Return the scores of candidates `[P, D]`, who all meet the same co-players in the same games."""

        def one(vector: Array) -> Scores:
            played = self.play(vector, key)
            return Scores(played.rewards.mean(0), played.other_rewards.mean(0))

        size = self.chunk or len(candidates)
        chunks = candidates.reshape(-1, size, candidates.shape[-1])
        scores = jax.lax.map(lambda chunk: jax.vmap(one)(self.spread(chunk)), chunks)
        return jax.tree.map(lambda x: x.reshape(-1, x.shape[-1]), scores)
