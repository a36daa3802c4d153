"""What acts in many copies of a body at once, and the controllers that have no planner."""

from __future__ import annotations

from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from hgap.loading import Model
from hgap.planner.budget import Budgeted
from hgap.planner.plan import Planner

__all__ = ["Controller", "Planned", "RandomCodes"]


class Controller(Protocol):
    """Chooses actions for E copies of a body."""

    def begin(self, copies: int, seed: int) -> None:
        """Forget everything: E episodes begin."""
        ...

    def act(self, states: np.ndarray, observations: np.ndarray) -> np.ndarray:
        """Return actions [E, A] for full physics states [E, nstate] and observations [E, S]."""
        ...


class Planned:
    """A planner of ours."""

    def __init__(self, planner: Planner | Budgeted) -> None:
        self.planner = planner

    def begin(self, copies: int, seed: int) -> None:
        """Start without a last plan."""
        self._memory = self.planner.start(copies, seed)

    def act(self, states: np.ndarray, observations: np.ndarray) -> np.ndarray:
        """Plan from the observations; the physics states are not looked at."""
        self._memory, plan = self.planner(self._memory, observations)
        return np.asarray(plan.action)


class RandomCodes:
    """Codes drawn uniformly and decoded, of which the first action is executed: the decoder without the planner."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._act = jax.jit(self._decoded)

    def begin(self, copies: int, seed: int) -> None:
        """Seed the draws."""
        self._key, self._done = jax.random.key(seed), 0

    def act(self, states: np.ndarray, observations: np.ndarray) -> np.ndarray:
        """Return actions of random codes."""
        self._done += 1
        return np.asarray(self._act(jnp.asarray(observations, jnp.float32), jax.random.fold_in(self._key, self._done)))

    def _decoded(self, observations: Any, key: Any) -> Any:
        model, first = self._model, self._model.state_scale.normalise(observations)
        shape = (len(observations), model.autoencoder.tokens)
        codes = jax.random.randint(key, shape, 0, model.autoencoder.quantizer.vocabulary)
        _, actions = model.autoencoder.decode(model.weights, model.autoencoder.vectors(model.weights, codes), first)
        return model.action_scale.restore(actions[:, 0])
