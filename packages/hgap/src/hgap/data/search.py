"""Linear policies by augmented random search: the behaviours of which unlabelled motion is made.

Mania, Guy, Recht: Simple random search of static linear policies is competitive for reinforcement learning (2018),
https://arxiv.org/abs/1803.07055, algorithm 2, version V2-t.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from hgap.envs.objectives import Objective, Trajectory
from hgap.envs.simulator import Simulator

__all__ = ["LinearPolicy", "SearchState", "improve", "play", "start"]


class LinearPolicy(NamedTuple):
    """Actions clip(W (s - mean) / std); arrays may have leading axes, one policy for each row of states.

    Attributes:
        weights: [..., A, S].
        mean: [S], of the states met in search.
        std: [S].
    """

    weights: np.ndarray
    mean: np.ndarray
    std: np.ndarray

    @property
    def size(self) -> int:
        """How many policies there are."""
        return len(self.weights)

    def begin(self, copies: int) -> None:
        """Do nothing: these policies have no memory."""

    def choose(self, chosen: np.ndarray, states: np.ndarray) -> np.ndarray:
        """Return actions [B, A] for states [B, S] of the policies with the numbers `chosen` [B]."""
        return LinearPolicy(*(part[chosen] for part in self)).act(states)

    def act(self, states: np.ndarray) -> np.ndarray:
        """Return actions [B, A] for states [B, S]."""
        scaled = (states - self.mean) / self.std
        return np.einsum("...as,...s->...a", self.weights, scaled)


class SearchState(NamedTuple):
    """Where the search is.

    Attributes:
        weights: [A, S].
        count: states met.
        mean: [S], of them.
        second: [S], sum of their squared distances from the mean.
        iteration: how many are done.
        value: mean return of the last iteration's perturbed policies.
    """

    weights: np.ndarray
    count: np.ndarray
    mean: np.ndarray
    second: np.ndarray
    iteration: np.ndarray
    value: np.ndarray

    @property
    def policy(self) -> LinearPolicy:
        """The present policy."""
        std = np.sqrt(self.second / np.maximum(self.count, 1))
        return LinearPolicy(self.weights, self.mean, np.where(std < 1e-7, 1.0, std))


def start(simulator: Simulator) -> SearchState:
    """Return the policy that does nothing."""
    size = simulator.observation_size
    zero, one = np.zeros(()), np.ones(size)
    return SearchState(np.zeros((simulator.action_size, size)), zero, np.zeros(size), one * 0, zero, zero)


def play(
    simulator: Simulator, policy: LinearPolicy, states: np.ndarray, steps: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Let policies act in B copies.

    Returns:
        Observations after each action [B, T, S], actions [B, T, A], and whether the body had not fallen before the
        step, [B, T].
    """
    observation = simulator.observe(states)
    seen, done, alive = [], [], np.ones(len(states), bool)
    standing = []
    for _ in range(steps):
        action = np.clip(policy.act(observation), simulator.action_low, simulator.action_high)
        after = simulator.roll(states, action[:, None])
        states, observation = after.states[:, -1], after.observations[:, -1]
        standing.append(alive)
        seen.append(observation)
        done.append(action)
        alive = alive & ~simulator.fallen(states)
    return np.stack(seen, 1), np.stack(done, 1), np.stack(standing, 1)


def improve(
    search: SearchState,
    simulator: Simulator,
    objective: Objective,
    *,
    directions: int,
    top: int,
    sigma: float,
    step: float,
    steps: int,
    alive_bonus: float,
    seed: int,
) -> SearchState:
    """Do one iteration.

    Args:
        search: where the search is.
        simulator: of the body.
        objective: what is improved, on true trajectories.
        directions: N; 2 N episodes are played.
        top: b, how many of the best directions count.
        sigma: nu, of the perturbations.
        step: alpha.
        steps: of an episode.
        alive_bonus: reward of each step before a fall.
        seed: of this iteration's noise.
    """
    rng = np.random.default_rng([seed, int(search.iteration)])
    noise = rng.standard_normal((directions, *search.weights.shape))
    policy = search.policy
    signs = np.concatenate([noise, -noise])
    perturbed = policy._replace(weights=search.weights + sigma * signs)
    # A pair of directions begins in the same pose: the difference of their returns is due to the weights alone.
    starts = np.tile(simulator.reset(directions, rng), (2, 1))
    seen, done, alive = play(simulator, perturbed, starts, steps)
    rewards = np.where(alive, objective(Trajectory(seen, done, simulator.body.slices)) + alive_bonus, 0.0)
    returns = np.nan_to_num(rewards.sum(1), nan=-1e6)
    plus, minus = returns[:directions], returns[directions:]
    best = np.argsort(-np.maximum(plus, minus), kind="stable")[:top]
    spread = np.concatenate([plus[best], minus[best]]).std() + 1e-8
    gradient = np.einsum("n,nas->as", plus[best] - minus[best], noise[best]) / (top * spread)
    count, mean, second = _moments(search, seen[alive & np.isfinite(seen).all(-1)])
    return SearchState(
        search.weights + step * gradient, count, mean, second, search.iteration + 1, np.asarray(returns.mean())
    )


def _moments(search: SearchState, seen: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Merge moments of new states into the old (Chan, Golub and LeVeque's parallel formula)."""
    n, m = search.count, len(seen)
    mean, second = seen.mean(0), ((seen - seen.mean(0)) ** 2).sum(0)
    delta = mean - search.mean
    return (
        np.asarray(n + m, float),
        search.mean + delta * m / (n + m),
        search.second + second + delta**2 * n * m / (n + m),
    )
