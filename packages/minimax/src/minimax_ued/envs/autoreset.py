"""A batch of environments in which an episode that ends is followed by the next one.

Drawing a random level costs far more than a step, so that drawing one at every step, in case it is needed, makes the
levels the most expensive part of a rollout. Here every environment i has its own endless sequence of levels, level n
from `fold_in(key_i, n)`, and the next few of each sequence are kept ready, prepared for stepping. When one environment
has used its own up, they are redrawn for all. How many are kept ready changes the speed and nothing else: every
episode has its own fresh level, and the levels do not depend on batch layout or on the number of devices.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax import lax

from minimax_ued.envs.base import Environment, Timestep
from paperloop.errors import UserError

__all__ = ["AutoReset", "AutoResetState"]


class AutoResetState(struct.PyTreeNode):
    """B environments under way.

    Attributes:
        env_state: the environments' states, leading axis B.
        levels: prepared levels, leading axes [B, K]: the current one and those that follow; K is 1 where an episode
            is followed by one on the same level.
        slot: i32[B], which of the K is the current one.
        episode: i32[B], number of the current episode, from 0.
        keys: key[B], from which the levels of each environment are drawn.
    """

    env_state: Any
    levels: Any
    slot: jax.Array
    episode: jax.Array
    keys: jax.Array


@dataclasses.dataclass(frozen=True)
class AutoReset:
    """Steps a batch and starts the next episode wherever one has ended.

    B denotes the number of environments. In a rollout:

        state = auto.reset(key, levels)
        def body(state, action_key):
            observation = auto.observe(state)
            actions = policy(observation)
            state, timestep = auto.step(step_key, state, actions)

    The observation after a step with `timestep.done` is the first of the next episode. Where the last observation of
    the episode that was cut off is wanted (to continue with its value), take `step_and_last`.

    Attributes:
        env: the environment.
        fresh: follow an episode by one on a freshly drawn level (domain randomisation); otherwise by one on the same
            level (replay).
        ahead: with `fresh`, how many levels to keep ready for each environment. About the number of episodes that one
            environment ends in a rollout is best; it does not change the result.
    """

    env: Environment
    fresh: bool = True
    ahead: int = 4

    def __post_init__(self) -> None:
        if isinstance(self.ahead, bool) or not isinstance(self.ahead, int) or self.ahead < 1:
            raise UserError(f"AutoReset.ahead is an integer of at least 1; got {self.ahead!r}.")

    def sample_levels(self, key: jax.Array, n: int) -> Any:
        """Draw `n` levels, leading axis n: the first episodes of a rollout."""
        return jax.vmap(self.env.sample_level)(jax.random.split(key, n))

    def reset(self, key: jax.Array, levels: Any) -> AutoResetState:
        """Start an episode on each level.

        Args:
            key: for the starts and for all levels that follow.
            levels: levels with leading axis B, not prepared.
        """
        n_envs = jax.tree.leaves(levels)[0].shape[0]
        reset_key, level_key = jax.random.split(key)
        # One key an environment by its number, and not `split`: the same whatever the size of the batch.
        keys = jax.vmap(lambda i: jax.random.fold_in(level_key, i))(jnp.arange(n_envs))
        prepared = jax.vmap(self.env.prepare)(levels)
        env_state = jax.vmap(self.env.reset)(_fold_each(reset_key, n_envs), prepared)
        episode = jnp.zeros((n_envs,), jnp.int32)
        if not self.fresh:
            bank = jax.tree.map(lambda leaf: leaf[:, None], prepared)
            return AutoResetState(env_state=env_state, levels=bank, slot=episode, episode=episode, keys=keys)
        # On the last slot: the levels that follow are drawn when the first episode ends.
        bank = jax.tree.map(lambda leaf: jnp.repeat(leaf[:, None], self.ahead + 1, axis=1), prepared)
        return AutoResetState(env_state=env_state, levels=bank, slot=episode + self.ahead, episode=episode, keys=keys)

    def observe(self, state: AutoResetState) -> Any:
        """Return the observations, leading axis B."""
        return jax.vmap(self.env.observe)(self.current_levels(state), state.env_state)

    def step(self, key: jax.Array, state: AutoResetState, actions: jax.Array) -> tuple[AutoResetState, Timestep]:
        """Take one step in every environment, and start the next episode in those that end.

        Args:
            key: for the environments' own randomness.
            state: the batch.
            actions: i32[B].

        Returns:
            The new state and the `Timestep` with leading axis B, of the episodes that were running.
        """
        state, timestep, _ = self.step_and_last(key, state, actions)
        return state, timestep

    def step_and_last(
        self, key: jax.Array, state: AutoResetState, actions: jax.Array
    ) -> tuple[AutoResetState, Timestep, AutoResetState]:
        """Like `step`, and return also the batch as it stood before any episode was restarted.

        `observe` of the third value gives the true next observations. Unused, it costs nothing.
        """
        n_envs = actions.shape[0]
        step_key, reset_key = jax.random.split(key)
        levels = self.current_levels(state)
        env_state, timestep = jax.vmap(self.env.step)(_fold_each(step_key, n_envs), levels, state.env_state, actions)
        last = state.replace(env_state=env_state)
        done = timestep.done
        if self.fresh:
            state = self._advance(state, done)
            levels = self.current_levels(state)
        start = jax.vmap(self.env.reset)(_fold_each(reset_key, n_envs), levels)
        env_state = jax.tree.map(lambda new, old: _where(done, new, old), start, env_state)
        episode = state.episode if self.fresh else state.episode + done
        return state.replace(env_state=env_state, episode=episode), timestep, last

    def current_levels(self, state: AutoResetState) -> Any:
        """Return the prepared levels that are being played, leading axis B."""
        if not self.fresh:
            return jax.tree.map(lambda leaf: leaf[:, 0], state.levels)
        return jax.tree.map(lambda leaf: jax.vmap(lambda bank, slot: bank[slot])(leaf, state.slot), state.levels)

    def _advance(self, state: AutoResetState, done: jax.Array) -> AutoResetState:
        """Go to the next level where `done`; draw new ones for all if one environment has none left."""
        state = state.replace(episode=state.episode + done, slot=state.slot + done)

        def exhausted(carry: tuple[AutoResetState, jax.Array]) -> jax.Array:
            return jnp.any(carry[0].slot > self.ahead)

        def refill(carry: tuple[AutoResetState, jax.Array]) -> tuple[AutoResetState, jax.Array]:
            # Environments that still have levels left draw the same ones again, since a level is a function of the
            # environment's key and of the number of its episode. The first level was given and not drawn, so that the
            # current one is kept, except where it is the one that is missing.
            state, rounds = carry
            missing = state.slot > self.ahead
            kept = self.current_levels(state.replace(slot=jnp.minimum(state.slot, self.ahead)))
            numbers = state.episode[:, None] + rounds + jnp.arange(self.ahead + 1)
            bank = self._draw(state.keys, numbers)
            first = jax.tree.map(lambda new, old: _where(missing, new[:, 0], old), bank, kept)
            bank = jax.tree.map(lambda one, more: jnp.concatenate([one[:, None], more[:, 1:]], axis=1), first, bank)
            return state.replace(levels=bank, slot=jnp.zeros_like(state.slot)), rounds + 1

        # A loop of at most one round, and not `cond`: under `vmap` over seeds a `cond` would draw at every step. The
        # count of rounds, always 0 where it is used, ties the draw to the loop; else XLA moves it in front of the loop,
        # where it is computed at every step as well.
        return lax.while_loop(exhausted, refill, (state, jnp.int32(0)))[0]

    def _draw(self, keys: jax.Array, episodes: jax.Array) -> Any:
        """Return prepared levels [B, n] for the keys [B] and the numbers of episodes [B, n]."""

        def level(key: jax.Array, episode: jax.Array) -> Any:
            return self.env.prepare(self.env.sample_level(jax.random.fold_in(key, episode)))

        return jax.vmap(jax.vmap(level, (None, 0)))(keys, episodes)


def _fold_each(key: jax.Array, n: int) -> jax.Array:
    return jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(n))


def _where(mask: jax.Array, new: jax.Array, old: jax.Array) -> jax.Array:
    return jnp.where(mask.reshape(mask.shape + (1,) * (new.ndim - mask.ndim)), new, old)
