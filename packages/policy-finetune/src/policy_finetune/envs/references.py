"""Returns of uniformly random policies, which the scale of a collapse is measured from."""

from __future__ import annotations

import functools

from policy_finetune.envs.rollouts import UniformPolicy, evaluate
from policy_finetune.envs.spec import EnvSpec

__all__ = ["RANDOM_RETURNS", "random_return"]

#: Mean returns of uniformly random actions with gymnasium 1.4 and mujoco 4.0: 4000 episodes of Hopper and Walker2d,
#: 8000 of the double pendulum, 160 of HalfCheetah; standard errors .4, .1, .2 and 5. `policy-finetune evaluate`
#: measures its own next to the agents.
RANDOM_RETURNS = {"Hopper-v5": 17.5, "HalfCheetah-v5": -288.0, "Walker2d-v5": 1.7, "InvertedDoublePendulum-v5": 47.6}

#: Episodes of a measurement.
EPISODES = 20


def random_return(environment: str | EnvSpec) -> float:
    """Return what a random policy gets in an environment: the value on record, else the mean of 20 episodes.

    Args:
        environment: its gymnasium id, or its spec where it is made with arguments or another time limit.

    Raises:
        UserError: there is no value on record, and the environment cannot be made or its spaces do not fit.
        NonFiniteError: a reward is NaN or infinite.
    """
    if isinstance(environment, str):
        return _of_id(environment)
    return _of_id(environment.env_id) if environment.is_default else _measured(environment)


@functools.cache
def _of_id(env_id: str) -> float:
    return RANDOM_RETURNS[env_id] if env_id in RANDOM_RETURNS else _measured(EnvSpec.of(env_id))


def _measured(spec: EnvSpec) -> float:
    return float(evaluate(UniformPolicy(spec, 0), spec, episodes=EPISODES).mean[0])
