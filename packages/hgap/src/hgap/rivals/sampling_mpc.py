"""Model-predictive control by sampling on the true simulator: path integrals and the cross-entropy method.

A `Dynamics` is any function (states [M, n], actions [M, H, A]) -> observations [M, H, S], such as that of
`true_dynamics`; the algorithms are functions of the returns that it leads to.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from hgap.envs.objectives import Objective, Trajectory, total
from hgap.envs.simulator import Simulator

__all__ = ["CEM", "MPPI", "Dynamics", "SamplingMPC", "path_integral", "refit", "true_dynamics"]

Dynamics = Callable[[np.ndarray, np.ndarray], np.ndarray]


class MPPI(NamedTuple):
    """Settings of model-predictive path integral control (Williams et al., 2017).

    Attributes:
        samples: N, at a control step.
        horizon: H, control steps.
        sigma: standard deviation of the noise on the actions, in half ranges.
        temperature: lambda, in units of the standard deviation of the returns; None: `fixed` is used.
        fixed: lambda in the returns' own units.
    """

    samples: int = 64
    horizon: int = 15
    sigma: float = 0.5
    temperature: float | None = 0.1
    fixed: float = 1.0


class CEM(NamedTuple):
    """Settings of the cross-entropy method.

    Attributes:
        samples: N, at a control step, over all rounds.
        horizon: H, control steps.
        sigma: standard deviation that each step begins with, in half ranges.
        rounds: in which the samples are drawn.
        elites: share of each round that the next distribution is fitted to.
        floor: standard deviations do not fall below it.
    """

    samples: int = 64
    horizon: int = 15
    sigma: float = 0.5
    rounds: int = 4
    elites: float = 0.25
    floor: float = 0.05


def path_integral(noise: np.ndarray, returns: np.ndarray, *, temperature: float | np.ndarray) -> np.ndarray:
    """Return the noise averaged with weights exp(R / lambda) / sum: [E, H, A] of [E, N, H, A] and [E, N]."""
    scaled = (returns - returns.max(1, keepdims=True)) / temperature
    weights = np.exp(scaled)
    return np.einsum("en,enha->eha", weights / weights.sum(1, keepdims=True), noise)


def refit(actions: np.ndarray, returns: np.ndarray, *, elites: int, floor: float) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation [E, H, A] of the best `elites` of actions [E, N, H, A]."""
    best = np.argsort(-returns, axis=1, kind="stable")[:, :elites]
    chosen = np.take_along_axis(actions, best[:, :, None, None], 1)
    return chosen.mean(1), np.maximum(chosen.std(1), floor)


def true_dynamics(simulator: Simulator) -> Dynamics:
    """Return the dynamics of a simulator."""
    return lambda states, actions: simulator.roll(states, actions).observations


class SamplingMPC:
    """A controller that samples action sequences around the rest of its last plan and simulates each.

    Args:
        dynamics: what actions lead to.
        objective: on trajectories.
        slices: names within an observation.
        low: of the actions, [A].
        high: of the actions, [A].
        settings: which algorithm, and how.
        first: actions that the first plan holds, [A]; None: the middle of their ranges.
    """

    def __init__(
        self, dynamics: Dynamics, objective: Objective, slices: dict[str, tuple[int, int]], low: np.ndarray,
        high: np.ndarray, settings: MPPI | CEM, first: np.ndarray | None = None,
    ) -> None:  # fmt: skip
        self._first = (low + high) / 2 if first is None else first
        self._dynamics, self._objective, self._slices = dynamics, objective, slices
        self._low, self._high, self._settings = low, high, settings

    def begin(self, copies: int, seed: int) -> None:
        """Start from the first plan."""
        self._mean = np.tile(self._first, (copies, self._settings.horizon, 1))
        self._rng = np.random.default_rng(seed)

    def act(self, states: np.ndarray, observations: np.ndarray) -> np.ndarray:
        """Plan from the physics states, return the first actions, and keep the rest."""
        settings = self._settings
        plan = self._mppi(states, settings) if isinstance(settings, MPPI) else self._cem(states, settings)
        self._mean = np.concatenate([plan[:, 1:], plan[:, -1:]], 1)
        return plan[:, 0]

    def _mppi(self, states: np.ndarray, settings: MPPI) -> np.ndarray:
        wanted = self._mean[:, None] + self._noise(len(states), settings.samples, settings.sigma)
        actions = np.clip(wanted, self._low, self._high)
        returns = self._returns(states, actions)
        temperature: float | np.ndarray = settings.fixed
        if settings.temperature is not None:
            temperature = settings.temperature * returns.std(1, keepdims=True) + 1e-9
        moved = path_integral(actions - self._mean[:, None], returns, temperature=temperature)
        return np.clip(self._mean + moved, self._low, self._high)

    def _cem(self, states: np.ndarray, settings: CEM) -> np.ndarray:
        half = (self._high - self._low) / 2
        mean, std = self._mean, np.broadcast_to(settings.sigma * half, self._mean.shape)
        rounds = min(settings.rounds, settings.samples)
        count = settings.samples // rounds
        elites = max(1, round(settings.elites * count))
        for _ in range(rounds):
            noise = self._rng.standard_normal((len(states), count, *mean.shape[1:]))
            actions = np.clip(mean[:, None] + std[:, None] * noise, self._low, self._high)
            returns = self._returns(states, actions)
            mean, std = refit(actions, returns, elites=elites, floor=settings.floor)
        return mean

    def _noise(self, copies: int, samples: int, sigma: float) -> np.ndarray:
        half = (self._high - self._low) / 2
        return sigma * half * self._rng.standard_normal((copies, samples, *self._mean.shape[1:]))

    def _returns(self, states: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """Return what actions [E, N, H, A] earn, [E, N]; a simulation that blew up earns nothing but its penalty."""
        copies, samples, horizon, size = actions.shape
        seen = self._dynamics(np.repeat(states, samples, 0), actions.reshape(-1, horizon, size))
        seen = seen.reshape(copies, samples, horizon, -1)
        earned = total(self._objective(Trajectory(seen, actions, self._slices)), (copies, samples))
        return np.where(np.isfinite(earned), earned, -1e6)
