"""What a diagnosis plays in the environment besides the policies: a critic that is followed alone."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from policy_finetune.envs.acting import HostPolicy
from policy_finetune.learners.networks import q_values

__all__ = ["Greedy"]

#: Actions that the critic chooses from at every state when it is followed alone.
CANDIDATES = 64


@jax.jit
def _best(critics: Any, obs: Array, candidates: Array) -> Array:
    """Return the candidate (B, act) that the first critic likes best, of (B, K, act)."""

    def one(o: Array, c: Array) -> Array:
        q = q_values(critics, jnp.broadcast_to(o, (len(c), len(o))), c)[0]
        return c[q.argmax()]

    return jax.vmap(one)(obs, candidates)


class Greedy:
    """Follows the first critic alone: at every state the best of uniform actions and of the policy's own.

    The first critic, because that is what TD3's actor climbs. The uniform actions are the same at every state, drawn
    from a seed, so that an action is a function of the observation.
    """

    num_agents = 1

    def __init__(self, critics: Any, policy: HostPolicy, seed: int) -> None:
        self._critics, self._policy = critics, policy
        drawn = np.random.default_rng(seed).uniform(-1, 1, (CANDIDATES, policy.act_dim))
        self._drawn = drawn.astype(np.float32)

    def __call__(self, observations: np.ndarray) -> np.ndarray:
        """Return actions (1, n, act) for observations (1, n, obs)."""
        own = self._policy(observations)[0]
        drawn = np.broadcast_to(self._drawn, (len(own), *self._drawn.shape))
        seen = self._policy.normalised(observations)[0]
        return np.asarray(_best(self._critics, seen, np.concatenate([own[:, None], drawn], 1)))[None]
