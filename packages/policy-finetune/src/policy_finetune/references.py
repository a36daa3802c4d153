"""Returns of uniformly random policies, which the scale of a collapse is measured from."""

from __future__ import annotations

import functools

import numpy as np

__all__ = ["RANDOM_RETURNS", "measure_random_return", "random_return"]

#: Mean returns of uniformly random actions with gymnasium 1.4 and mujoco 4.0: 4000 episodes of Hopper and Walker2d,
#: 8000 of the double pendulum, 160 of HalfCheetah; standard errors .4, .1, .2 and 5. `policy-finetune evaluate`
#: measures its own beside the agents.
RANDOM_RETURNS = {"Hopper-v5": 17.5, "HalfCheetah-v5": -288.0, "Walker2d-v5": 1.7, "InvertedDoublePendulum-v5": 47.6}


@functools.cache
def random_return(env_id: str) -> float:
    """Return what a random policy gets in an environment: the value on record, else a measurement, once a process.

    Raises:
        UserError: there is no value on record, and the environment cannot be made or its spaces do not fit.
    """
    return RANDOM_RETURNS[env_id] if env_id in RANDOM_RETURNS else measure_random_return(env_id)


def measure_random_return(env_id: str, *, episodes: int = 20, max_steps: int = 20_000, seed: int = 0) -> float:
    """Return the mean undiscounted return of uniform actions.

    Args:
        env_id: gymnasium's name of the environment.
        episodes: so many, where `max_steps` allow.
        max_steps: no episode begins after so many steps. Each is run to its end, because half an episode has no return.
        seed: of the resets and the actions; the result is a function of it.

    Raises:
        UserError: the environment cannot be made, or has spaces that no learner here takes.
        NonFiniteError: a reward is NaN or infinite.
    """
    from paperloop.errors import NonFiniteError
    from paperloop.seeds import fold_seed
    from policy_finetune.envs import EnvSpec, make_env, step_env

    spec = EnvSpec.of(env_id)
    rng = np.random.default_rng(fold_seed(seed, "random return"))
    returns, steps = [], 0
    env = make_env(env_id)
    try:
        while len(returns) < episodes and (steps < max_steps or not returns):
            env.reset(seed=fold_seed(seed, "random return", len(returns)))
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
        raise NonFiniteError(f"{env_id}: uniform actions get a reward that is NaN or infinite; mend the environment.")
    return mean
