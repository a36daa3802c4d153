"""Returns of uniformly random policies, which the scale of a collapse is measured from."""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from policy_finetune.envs.spec import EnvSpec

__all__ = ["RANDOM_RETURNS", "measure_random_return", "random_return"]

#: Mean returns of uniformly random actions with gymnasium 1.4 and mujoco 4.0: 4000 episodes of Hopper and Walker2d,
#: 8000 of the double pendulum, 160 of HalfCheetah; standard errors .4, .1, .2 and 5. `policy-finetune evaluate`
#: measures its own next to the agents.
RANDOM_RETURNS = {"Hopper-v5": 17.5, "HalfCheetah-v5": -288.0, "Walker2d-v5": 1.7, "InvertedDoublePendulum-v5": 47.6}


def random_return(environment: str | EnvSpec) -> float:
    """Return what a random policy gets in an environment: the value on record, else a measurement, once a process.

    Args:
        environment: its gymnasium id, or its spec where it is made with arguments or another time limit.

    Raises:
        UserError: there is no value on record, and the environment cannot be made or its spaces do not fit.
    """
    if isinstance(environment, str):
        return _by_id(environment)
    if environment.is_default:
        return _by_id(environment.env_id)
    return _by_spec(json.dumps(environment.to_json(), sort_keys=True))


@functools.cache
def _by_id(env_id: str) -> float:
    return RANDOM_RETURNS[env_id] if env_id in RANDOM_RETURNS else measure_random_return(env_id)


@functools.cache
def _by_spec(text: str) -> float:
    from policy_finetune.envs.spec import EnvSpec

    return measure_random_return(EnvSpec.from_json(json.loads(text), "the environment"))


def measure_random_return(
    environment: str | EnvSpec, *, episodes: int = 20, max_steps: int = 20_000, seed: int = 0
) -> float:
    """Return the mean undiscounted return of uniform actions.

    Args:
        environment: its gymnasium id, or its spec.
        episodes: so many, where `max_steps` allow.
        max_steps: no episode begins after so many steps. Each is run to its end, because half an episode has no return.
        seed: of the resets and the actions; the result is a function of it.

    Raises:
        UserError: the environment cannot be made, or has spaces that no learner here takes.
        NonFiniteError: a reward is NaN or infinite.
    """
    from paperloop.errors import NonFiniteError
    from paperloop.seeds import fold_seed
    from policy_finetune.envs.simulators import reset_env, step_env
    from policy_finetune.envs.spec import EnvSpec

    spec = EnvSpec.of(environment) if isinstance(environment, str) else environment
    rng = np.random.default_rng(fold_seed(seed, "random return"))
    returns, steps = [], 0
    env = spec.make()
    try:
        while len(returns) < episodes and (steps < max_steps or not returns):
            reset_env(env, fold_seed(seed, "random return", len(returns)))
            returns.append(0.0)
            ended = False
            while not ended:
                action = rng.uniform(-1, 1, spec.act_dim).astype(np.float32)
                _, reward, terminated, truncated = step_env(env, spec.to_env(action))
                returns[-1] += reward
                ended = terminated or truncated
                steps += 1
    finally:
        env.close()
    mean = float(np.mean(returns))
    if not np.isfinite(mean):
        raise NonFiniteError(
            f"{spec.env_id}: uniform actions get a reward that is NaN or infinite; fix the environment."
        )
    return mean
