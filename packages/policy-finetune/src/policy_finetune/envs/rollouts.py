"""Evaluation: whole episodes of deterministic policies, in environments that training never sees.

Axes: A agents, E episodes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import gymnasium
import numpy as np

from paperloop.errors import NonFiniteError, UserError
from paperloop.seeds import fold_seed
from policy_finetune.envs.acting import Policy
from policy_finetune.envs.simulators import reset_env, step_env
from policy_finetune.envs.spec import EnvSpec, as_vector

__all__ = ["ActingPolicy", "Returns", "RolloutEnvs", "UniformPolicy", "evaluate"]

#: Environments that run side by side. More save little: the simulator takes most of the time, acting the rest.
MAX_ENVS = 64


class ActingPolicy(Protocol):
    """What can be evaluated: A policies in one callable, such as `policy_finetune.envs.acting.HostPolicy`."""

    @property
    def num_agents(self) -> int:
        """A."""
        ...

    def __call__(self, observations: np.ndarray) -> np.ndarray:
        """Return canonical actions (A, n, act) for observations (A, n, obs)."""
        ...


class UniformPolicy:
    """Uniformly random actions, as one agent."""

    num_agents = 1

    def __init__(self, spec: EnvSpec, seed: int) -> None:
        self._act_dim, self._rng = spec.act_dim, np.random.default_rng(fold_seed(seed, "random actions"))

    def __call__(self, observations: np.ndarray) -> np.ndarray:
        """Return actions (1, n, act)."""
        return self._rng.uniform(-1, 1, (*observations.shape[:-1], self._act_dim)).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Returns:
    """What A agents got in E episodes each.

    Attributes:
        returns: (A, E) float64, undiscounted.
        lengths: (A, E) int64, steps.
        terminated: (A, E) booleans: the environment ended the episode itself.
    """

    returns: np.ndarray
    lengths: np.ndarray
    terminated: np.ndarray

    @property
    def mean(self) -> np.ndarray:
        """(A,) the mean return."""
        return self.returns.mean(axis=1)

    @property
    def std(self) -> np.ndarray:
        """(A,) the standard deviation of the returns over episodes (ddof 0)."""
        return self.returns.std(axis=1)


class RolloutEnvs:
    """Environments that evaluations share: made when first needed, then used again.

    Every episode starts from a seeded reset, so nothing carries over from one evaluation to the next.
    """

    def __init__(self, spec: EnvSpec) -> None:
        self.spec = spec
        self._envs: list[gymnasium.Env] = []

    def take(self, count: int) -> list[gymnasium.Env]:
        """Return `count` environments."""
        while len(self._envs) < count:
            self._envs.append(self.spec.make())
        return self._envs[:count]

    def close(self) -> None:
        """Close them all."""
        for env in self._envs:
            with contextlib.suppress(Exception):
                env.close()
        self._envs = []

    def __enter__(self) -> RolloutEnvs:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def evaluate(
    policy: ActingPolicy | Policy,
    spec: EnvSpec,
    *,
    episodes: int = 10,
    seed: int = 0,
    noise: float = 0.0,
    envs: RolloutEnvs | None = None,
) -> Returns:
    """Run E whole episodes with each of A policies.

    All agents meet the same starts (and the same noise), so that differences between them are differences of policies.
    With `HostPolicy` the result is that of a plain loop over one environment, bit for bit, whatever runs side by side.

    Args:
        policy: the policies; deterministic. A callable gives canonical actions.
        spec: the environment.
        episodes: E.
        seed: what the resets and the noise derive from: a stream of their own, never one of training's.
        noise: σ of Gaussian noise on the canonical actions, which are clipped after it. Tasks whose starts hardly vary
            (MuJoCo's) give nearly equal episodes without it, so that a policy on a knife's edge looks safe.
        envs: environments to use again; by default they are made here and closed.

    Raises:
        UserError: no episodes, or negative noise.
        NonFiniteError: an action, an observation or a reward is NaN or infinite.
    """
    if isinstance(policy, Policy):
        policy = policy.canonical
    if episodes < 1:
        raise UserError("An evaluation has at least one episode; give episodes of 1 or more.")
    seeds = [fold_seed(seed, "evaluation", number) for number in range(episodes)]
    if not (np.isfinite(noise) and noise >= 0):
        raise UserError(f"The noise of an evaluation is at least 0 and finite; got {noise}.")
    agents, count = policy.num_agents, len(seeds)
    shape = (agents, count)
    found = Returns(np.zeros(shape), np.zeros(shape, np.int64), np.zeros(shape, bool))
    side = max(1, MAX_ENVS // agents)
    with contextlib.ExitStack() as stack:
        if envs is None:
            envs = stack.enter_context(RolloutEnvs(spec))
        for first in range(0, count, side):
            part = slice(first, min(first + side, count))
            _run(policy, spec, envs, seeds[part], noise, seed, first, _part(found, part))
    return found


def _part(found: Returns, part: slice) -> Returns:
    return Returns(found.returns[:, part], found.lengths[:, part], found.terminated[:, part])


def _run(
    policy: ActingPolicy,
    spec: EnvSpec,
    envs: RolloutEnvs,
    seeds: Sequence[int],
    noise: float,
    seed: int,
    first: int,
    found: Returns,
) -> None:
    """Run the episodes of `seeds` side by side, and fill in `found`."""
    agents, count = policy.num_agents, len(seeds)
    flat = envs.take(agents * count)
    simulators = [[flat[a * count + e] for e in range(count)] for a in range(agents)]
    observation = np.empty((agents, count, spec.obs_dim), np.float32)
    for a in range(agents):
        for e in range(count):
            observation[a, e] = as_vector(reset_env(simulators[a][e], seeds[e]), spec)
    shocks = _noise(seed, first, count, spec, noise)
    running = [(a, e) for a in range(agents) for e in range(count)]
    step = 0
    while running:
        actions = policy(observation)
        if shocks is not None:
            actions = actions + shocks[:, step]
        if not np.isfinite(actions).all():
            agent = int((~np.isfinite(actions)).reshape(agents, -1).any(axis=1).argmax())
            raise NonFiniteError(f"{spec.env_id}: agent {agent} gave an action that is NaN or infinite; it diverged.")
        commands = spec.to_env(np.clip(actions, np.float32(-1), np.float32(1)))
        ended = False
        for a, e in running:
            seen, reward, terminated, truncated = step_env(simulators[a][e], commands[a, e])
            observation[a, e] = as_vector(seen, spec)
            found.returns[a, e] += reward
            if terminated or truncated:
                found.lengths[a, e] = step + 1
                found.terminated[a, e] = terminated
                ended = True
        if ended:
            running = [(a, e) for a, e in running if not found.lengths[a, e]]
        step += 1
        if not np.isfinite(observation).all() or not np.isfinite(found.returns).all():
            raise NonFiniteError(f"{spec.env_id}: an observation or a reward is NaN or infinite in step {step}.")


def _noise(seed: int, first: int, count: int, spec: EnvSpec, noise: float) -> np.ndarray | None:
    """The noise of every episode, (E, T, act) float32, a function of the seed and the episode's number alone."""
    if noise == 0:
        return None
    return np.stack(
        [
            np.random.default_rng(fold_seed(seed, "evaluation noise", first + e)).standard_normal(
                (spec.max_episode_steps, spec.act_dim), np.float32
            )
            for e in range(count)
        ]
    ) * np.float32(noise)
