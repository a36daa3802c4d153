"""Crafter in 64 x 64 pixels, without its reward."""

from __future__ import annotations

import importlib
import warnings
from importlib.util import find_spec
from typing import Any

import numpy as np

from cascade_explore.config import Crafter
from cascade_explore.envs.spec import Actions, Pixels
from paperloop.errors import UserError

__all__ = ["CrafterEnv"]


class CrafterEnv:
    """Crafter as a `HostEnv`. Facts are its achievements: 1 in the step that unlocks one in this episode.

    Raises:
        UserError: crafter is missing.
    """

    observation = Pixels(3)

    def __init__(self, config: Crafter) -> None:
        try:
            crafter: Any = importlib.import_module("crafter")
        except ImportError:
            raise UserError("crafter is not installed: pip install 'cascade-explore[crafter]'.") from None
        if find_spec("numba") is None:
            warnings.warn("Without numba a reset of Crafter takes seconds: pip install numba.", stacklevel=2)
        self._make: Any = lambda seed: crafter.Env(size=(64, 64), reward=False, length=config.max_steps, seed=seed)
        self.facts: tuple[str, ...] = tuple(sorted(crafter.constants.achievements))
        self.actions, self.limit = Actions(len(crafter.constants.actions), discrete=True), config.max_steps
        self._env = self._make(0)
        self._had, self._new = np.zeros(len(self.facts), bool), np.zeros(len(self.facts), bool)

    def reset(self, seed: int | None) -> np.ndarray:
        """Begin an episode in a world of its own."""
        if seed is not None:
            self._env = self._make(seed)
        self._had, self._new = np.zeros_like(self._had), np.zeros_like(self._new)
        return self._env.reset()

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool]:
        """Do a step; terminal is death."""
        image, reward, over, info = self._env.step(int(action))
        have = np.array([info["achievements"][name] > 0 for name in self.facts])
        self._new, self._had = have & ~self._had, have
        dead = info["discount"] == 0
        return image, float(reward), bool(over and dead), bool(over and not dead)

    def measure(self) -> np.ndarray:
        """Return which achievements were unlocked in the last step."""
        return self._new

    def close(self) -> None:
        """Nothing to release."""
