"""Several copies of one environment, stepped on the host."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cascade_explore.config import Cheetah, Crafter, Gym, Walker
from cascade_explore.envs.crafter import CrafterEnv
from cascade_explore.envs.gymnasium_envs import GymEnv
from cascade_explore.envs.planar import PlanarEnv
from cascade_explore.envs.spec import HostEnv, Pixels, Symbols
from paperloop.errors import UserError

__all__ = ["HostEnvs", "HostSettings", "Stepped"]

HostSettings = Gym | Walker | Cheetah | Crafter


class Stepped(NamedTuple):
    """A row of every copy, NumPy arrays `[W, ...]`; `deploy.replay.Rows` says what they are.

    Attributes:
        observation: `[W, n]`.
        reward: float32.
        first: an episode begins here.
        terminal: it ended here for good.
        facts: float32 `[W, F]`.
    """

    observation: np.ndarray
    reward: np.ndarray
    first: np.ndarray
    terminal: np.ndarray
    facts: np.ndarray


def make_one(config: HostSettings) -> HostEnv:
    """Return one environment of some settings."""
    if isinstance(config, Gym):
        return GymEnv(config.id)
    return CrafterEnv(config) if isinstance(config, Crafter) else PlanarEnv(config)


class HostEnvs:
    """Several copies of one environment. Actions are indices, or numbers in [-1, 1].

    After the last row of an episode, the next call resets instead of stepping: no first observation is ever taken for
    the result of an action.

    Args:
        config: which environment.
        count: copies.

    Attributes:
        name: what messages call it.
        observation: what is observed.
        actions: what can be done.
        limit: steps after which an episode is cut.
        facts: names of what labels may read besides.

    Raises:
        UserError: a package is missing, the environment is unknown, or its spaces are of another kind.
    """

    def __init__(self, config: HostSettings, count: int) -> None:
        self.config, self.name = config, getattr(config, "id", config.type)
        self.envs = [make_one(config) for _ in range(count)]
        one = self.envs[0]
        self.observation, self.actions, self.limit, self.facts = one.observation, one.actions, one.limit, one.facts
        self._over = np.ones(count, bool)
        self._seeds: list[int | None] = [None] * count

    def begin(self, seeds: np.ndarray) -> None:
        """Make the next `step` start new episodes from these seeds, whatever was going on."""
        self._over[:] = True
        self._seeds = [int(seed) for seed in seeds]

    def step(self, actions: np.ndarray) -> Stepped:
        """Return the next row of every copy.

        Raises:
            UserError: an environment fails, or what it returns is not of its own space.
        """
        count = len(self.envs)
        dtype = np.uint8 if isinstance(self.observation, Symbols | Pixels) else np.float32
        seen, reward = np.zeros((count, self.observation.size), dtype), np.zeros(count, np.float32)
        first, terminal, cut = self._over.copy(), np.zeros(count, bool), np.zeros(count, bool)
        facts = np.zeros((count, len(self.facts)), np.float32)
        for i, env in enumerate(self.envs):
            where = "reset" if first[i] else "step"
            try:
                if first[i]:
                    observation, self._seeds[i] = env.reset(self._seeds[i]), None
                else:
                    observation, reward[i], terminal[i], cut[i] = env.step(actions[i])
                observation = np.asarray(observation, dtype)
                facts[i] = env.measure()
            except Exception as error:  # the simulator's own
                raise UserError(f"{self.name} fails in {where}: {type(error).__name__}: {error}") from error
            if observation.size != seen.shape[1]:
                raise UserError(
                    f"{self.name} returns {observation.size} numbers in {where}, and its observation space has "
                    f"{seen.shape[1]}: make its space say what it returns."
                )
            seen[i] = observation.ravel()
            for what, values in (("an observation", seen[i]), ("a reward", reward[i])):
                if not np.isfinite(values).all():
                    raise UserError(
                        f"{self.name} returns {what} that is not finite in {where}: repair it, or wrap it so that it "
                        "returns numbers only."
                    )
        self._over = terminal | cut
        return Stepped(seen, reward, first, terminal, facts)

    def close(self) -> None:
        """Release the environments."""
        for env in self.envs:
            env.close()
