"""Any gymnasium environment with a Box of numbers to see and a Box or Discrete to do, stepped on the host."""

from __future__ import annotations

from typing import Any

import numpy as np

from cascade_explore.envs.spec import Actions, Numbers
from paperloop.errors import UserError, setting

__all__ = ["HostEnvs"]


class HostEnvs:
    """Several copies of one environment. Actions are indices, or numbers in [-1, 1] that are scaled to the bounds.

    After the last row of an episode, the next call resets instead of stepping: no first observation is ever taken for
    the result of an action.

    Args:
        name: id of the environment; `module:Id` imports the module first.
        count: copies.

    Attributes:
        limit: steps after which an episode is cut; 1000 where the environment does not say.

    Raises:
        UserError: gymnasium is missing, there is no such environment, or its spaces are of another kind.
    """

    def __init__(self, name: str, count: int) -> None:
        try:
            import gymnasium
        except ImportError:
            raise UserError("gymnasium is not installed: pip install 'cascade-explore[gym]'.") from None
        try:
            self.envs = [gymnasium.make(name) for _ in range(count)]
        except Exception as error:  # each package fails in its own way
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise UserError(f"{setting('env.id')} = {name} cannot be made: {reason}") from None
        self.name = name
        self.observation, self.actions = _spaces(self.envs[0], name)
        box: Any = self.envs[0].action_space
        self._low, self._high = (None, None) if self.actions.discrete else (box.low.ravel(), box.high.ravel())
        spec = self.envs[0].spec
        self.limit: int = (spec.max_episode_steps if spec is not None else None) or 1000
        self._over = np.ones(count, bool)
        self._seeds: list[int | None] = [None] * count

    def begin(self, seeds: np.ndarray) -> None:
        """Make the next `step` start new episodes from these seeds, whatever was going on."""
        self._over[:] = True
        self._seeds = [int(seed) for seed in seeds]

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return observations `[W, n]`, rewards, and whether rows are first, terminal, or cut.

        Raises:
            UserError: an environment fails, or what it returns is not of its own space.
        """
        seen, reward = np.zeros((len(self.envs), self.observation.size), np.float32), np.zeros(len(self.envs))
        first, terminal, cut = self._over.copy(), np.zeros(len(self.envs), bool), np.zeros(len(self.envs), bool)
        for i, env in enumerate(self.envs):
            try:
                if first[i]:
                    observation, _ = env.reset(seed=self._seeds[i])
                    self._seeds[i] = None
                else:
                    observation, reward[i], terminal[i], cut[i], _ = env.step(self._action(env, actions[i]))
                seen[i] = np.asarray(observation, np.float32).ravel()
            except Exception as error:  # the simulator's own
                raise UserError(f"{self.name} fails in {'reset' if first[i] else 'step'}: {error}") from error
        if not np.isfinite(seen).all():
            raise UserError(f"{self.name} returns an observation that is not finite.")
        self._over = terminal | cut
        return seen, reward, first, terminal, cut & ~terminal

    def _action(self, env: Any, action: np.ndarray) -> Any:
        if self._low is None or self._high is None:
            return int(action) + int(env.action_space.start)
        scaled = self._low + (np.asarray(action) + 1.0) / 2.0 * (self._high - self._low)
        return scaled.reshape(env.action_space.shape).astype(env.action_space.dtype)

    def close(self) -> None:
        """Release the environments."""
        for env in self.envs:
            env.close()


def _spaces(env: Any, name: str) -> tuple[Numbers, Actions]:
    from gymnasium.spaces import Box, Discrete

    seen, done = env.observation_space, env.action_space
    if not isinstance(seen, Box):
        raise UserError(
            f"{name} shows a {type(seen).__name__}, and a Box of numbers is needed: flatten it with a wrapper, and "
            "give the wrapped environment's id."
        )
    if isinstance(done, Discrete):
        return Numbers(int(np.prod(seen.shape))), Actions(int(done.n), discrete=True)
    if not isinstance(done, Box):
        raise UserError(f"{name} takes a {type(done).__name__} as action, and a Box or Discrete is needed.")
    if not (np.isfinite(done.low).all() and np.isfinite(done.high).all()):
        raise UserError(f"{name} has actions without bounds, which explorers need: clip them with a wrapper.")
    return Numbers(int(np.prod(seen.shape))), Actions(int(np.prod(done.shape)), discrete=False)
