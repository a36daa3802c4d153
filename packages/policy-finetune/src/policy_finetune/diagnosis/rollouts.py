"""What a diagnosis plays in the environment: recorded episodes, a critic that is followed alone, random actions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from paperloop.seeds import fold_seed
from policy_finetune.envs.rollouts import RolloutEnvs
from policy_finetune.envs.spec import EnvSpec
from policy_finetune.learners.networks import q_values

__all__ = ["Critic", "Greedy", "Tape", "Uniform"]

#: Actions that the critic chooses from at every state when it is followed alone.
CANDIDATES = 64


class Recorder(gymnasium.Wrapper):
    """Writes (observations, rewards) of every episode onto a tape."""

    def __init__(self, env: gymnasium.Env, episodes: list[tuple[list[np.ndarray], list[float]]]) -> None:
        super().__init__(env)
        self._episodes = episodes

    def reset(self, **options: Any) -> Any:
        found = self.env.reset(**options)
        self._episodes.append(([np.asarray(found[0], np.float32).reshape(-1)], []))
        return found

    def step(self, action: Any) -> Any:
        found = self.env.step(action)
        seen, rewards = self._episodes[-1]
        seen.append(np.asarray(found[0], np.float32).reshape(-1))
        rewards.append(float(np.asarray(found[1]).reshape(-1)[0]))
        return found


class Tape(RolloutEnvs):
    """Environments whose episodes are recorded, in the order in which they began."""

    def __init__(self, spec: EnvSpec) -> None:
        super().__init__(spec)
        self.episodes: list[tuple[list[np.ndarray], list[float]]] = []

    def __enter__(self) -> Tape:
        return self

    def take(self, count: int) -> list[gymnasium.Env]:
        """Return `count` environments that are recorded."""
        plain = super().take(count)
        self._envs[:count] = [env if isinstance(env, Recorder) else Recorder(env, self.episodes) for env in plain]
        return self._envs[:count]


class Critic:
    """One agent's critics on raw observations."""

    def __init__(self, params: Any, mean: np.ndarray, std: np.ndarray) -> None:
        self.params, self.mean, self.std = params, mean, std

    def __call__(self, observations: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """Return (critics, B) for observations (B, obs) and canonical actions (B, act)."""
        return np.asarray(_q(self.params, (observations - self.mean) / self.std, actions))

    def best(self, observations: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        """Return the candidate that the first critic likes best, (B, act), of candidates (B, K, act)."""
        return np.asarray(_best(self.params, (observations - self.mean) / self.std, candidates))


@jax.jit
def _q(params: Any, obs: Array, action: Array) -> Array:
    return q_values(params, obs, action)


@jax.jit
def _best(params: Any, obs: Array, candidates: Array) -> Array:
    def one(o: Array, c: Array) -> Array:
        q = q_values(params, jnp.broadcast_to(o, (len(c), len(o))), c)[0]
        return c[q.argmax()]

    return jax.vmap(one)(obs, candidates)


class Greedy:
    """Follows the first critic alone: at every state the best of uniform actions and of the policy's own.

    The first critic, because that is what TD3's actor climbs. The uniform actions are the same at every state, drawn
    from a seed, so that an action is a function of the observation.
    """

    num_agents = 1

    def __init__(self, critic: Critic, policy: Callable[[np.ndarray], np.ndarray], spec: EnvSpec, seed: int) -> None:
        self._critic, self._policy = critic, policy
        drawn = np.random.default_rng(seed).uniform(-1, 1, (CANDIDATES, spec.act_dim))
        self._drawn = drawn.astype(np.float32)

    def __call__(self, observations: np.ndarray) -> np.ndarray:
        """Return actions (1, n, act) for observations (1, n, obs)."""
        own = self._policy(observations)[0]
        drawn = np.broadcast_to(self._drawn, (len(own), *self._drawn.shape))
        return self._critic.best(observations[0], np.concatenate([own[:, None], drawn], 1))[None]


class Uniform:
    """Uniformly random actions."""

    num_agents = 1

    def __init__(self, spec: EnvSpec, seed: int) -> None:
        self._act_dim, self._rng = spec.act_dim, np.random.default_rng(fold_seed(seed, "random actions"))

    def __call__(self, observations: np.ndarray) -> np.ndarray:
        """Return actions (1, n, act)."""
        return self._rng.uniform(-1, 1, (*observations.shape[:-1], self._act_dim)).astype(np.float32)
