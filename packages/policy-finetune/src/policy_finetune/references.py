"""Returns of uniformly random policies, which the scale of a collapse is measured from."""

from __future__ import annotations

__all__ = ["RANDOM_RETURNS", "random_return"]

#: Mean returns of uniformly random actions with gymnasium 1.4 and mujoco 4.0. `policy-finetune evaluate` measures its
#: own beside the agents.
RANDOM_RETURNS = {"Hopper-v5": 15.5, "HalfCheetah-v5": -260.0, "Walker2d-v5": 1.4, "InvertedDoublePendulum-v5": 48.0}


def random_return(env_id: str) -> float:
    """Return what a random policy gets in an environment, where that is on record, else 0."""
    return RANDOM_RETURNS.get(env_id, 0.0)
