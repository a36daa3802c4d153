"""How far a critic is from the returns that its own policy gets, measured in the simulator while agents train.

At every evaluation each policy plays whole episodes. At the states that it meets the critic's Q(s, π(s)) is compared
with the discounted return that the policy then gets, up to the end of the episode and beyond its time limit.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from paperloop.seeds import fold_seed
from policy_finetune.envs.acting import HostPolicy
from policy_finetune.envs.rollouts import RolloutEnvs, evaluate
from policy_finetune.envs.spec import EnvSpec, as_vector
from policy_finetune.learners.base import value_to_climb

#: Size of the step along the critic's gradient, a root mean square over action dimensions.
CLIMB = 0.1

#: States at which a critic is compared with returns, drawn from those met.
STATES = 2000


def values_of(
    policy: HostPolicy, spec: EnvSpec, envs: RolloutEnvs, *, episodes: int, seed: int, discount: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the observations (n, obs) that one policy meets, their discounted returns (n,), and episode returns (E,).

    Episodes go on beyond the time limit, so that the returns of states before it are whole (less than 1 % is missing).
    """
    limit, tail = spec.max_episode_steps, math.ceil(math.log(0.01) / math.log(discount))
    together = [env.unwrapped for env in envs.take(episodes)]  # without the wrapper that keeps the time limit
    seen = np.stack([as_vector(e.reset(seed=fold_seed(seed, "values", i))[0], spec) for i, e in enumerate(together)])
    observations, rewards = np.zeros((limit, *seen.shape), np.float32), np.zeros((limit + tail, episodes))
    lengths, alive = np.zeros(episodes, int), np.ones(episodes, bool)
    for step in range(limit + tail):
        if not alive.any():
            break
        observations[min(step, limit - 1)] = seen if step < limit else observations[-1]
        commands = spec.to_env(np.clip(policy(seen[None])[0], np.float32(-1), np.float32(1)))
        for i in np.flatnonzero(alive):
            found, rewards[step, i], terminated, _, _ = together[i].step(commands[i])
            seen[i] = as_vector(found, spec)
            lengths[i], alive[i] = step + 1, not terminated
    to_go = np.zeros_like(rewards)
    for t in reversed(range(limit + tail)):
        to_go[t] = rewards[t] + (discount * to_go[t + 1] if t + 1 < limit + tail else 0.0)
    rows = np.arange(limit)[:, None] < lengths
    return observations[rows], to_go[:limit][rows], rewards[:limit].sum(0)


_value = jax.jit(value_to_climb, static_argnames="how")


@partial(jax.jit, static_argnames="how")
def _uphill(critics: Any, obs: jax.Array, action: jax.Array, how: str) -> jax.Array:
    """Return actions [B, act] after a step of CLIMB along the gradient of the value that the actor climbs."""
    slope = jax.grad(lambda a: value_to_climb(critics, obs, a, how=how).sum())(action)
    return action + CLIMB * slope * jax.lax.rsqrt(jnp.square(slope).mean(-1, keepdims=True) + 1e-12)


class Climber:
    """A policy whose actions take a step along its critic's gradient."""

    num_agents = 1

    def __init__(self, critics: Any, policy: HostPolicy, how: str) -> None:
        self._critics, self._policy, self._how = critics, policy, how

    def __call__(self, observations: np.ndarray) -> np.ndarray:
        """Return actions (1, n, act) for observations (1, n, obs)."""
        seen, action = self._policy.normalised(observations)[0], self._policy(observations)[0]
        return np.asarray(_uphill(self._critics, seen, action, self._how))[None]


class CriticError:
    """Evaluator: return of each agent, and how far its critic is from the returns that its policy gets.

    Metrics, (A,) each: `return`; `value`, the mean discounted return of the states met; `level`, `spread` and
    `correlation` of the critic (the module says what these are); `climbed`.
    """

    def __init__(self, trainer: Any, spec: EnvSpec, *, episodes: int) -> None:
        self.trainer, self.spec, self.episodes = trainer, spec, episodes
        self._envs = RolloutEnvs(spec)

    def __call__(self, state: Any, seed: int) -> dict[str, np.ndarray]:
        """Return the metrics of `state`."""
        learner = state.learner if hasattr(state, "learner") else state.device.learner
        policies, config = self.trainer.canonical_policy(state), self.trainer.learner.config
        rows = []
        for i in range(policies.num_agents):
            policy, critics = policies.agent(i), jax.tree.map(lambda x, i=i: x[i], learner.params["critic"])
            obs, value, returns = values_of(
                policy, self.spec, self._envs, episodes=self.episodes, seed=seed, discount=config.discount
            )
            some = np.random.default_rng(seed).integers(len(obs), size=STATES)  # of one number: compiled once
            obs, value = obs[some], value[some]
            q = np.asarray(_value(critics, policy.normalised(obs[None])[0], policy(obs[None])[0], how=config.actor_q))
            climber = Climber(critics, policy, config.actor_q)
            up = evaluate(climber, self.spec, episodes=-(-self.episodes // 2), seed=seed, envs=self._envs)
            rows.append(
                {
                    "return": returns.mean(), "value": value.mean(), "level": q.mean() / value.mean(),
                    "spread": (q - value).std(), "correlation": _correlation(q, value), "climbed": up.mean[0],
                }
            )  # fmt: skip
        return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def _correlation(x: np.ndarray, y: np.ndarray) -> float:
    x, y = x - x.mean(), y - y.mean()
    return float((x * y).mean() / max(x.std() * y.std(), 1e-12))
