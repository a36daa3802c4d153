"""The learners, one file each."""

from __future__ import annotations

from policy_finetune.config import BCConfig, IQLConfig, LearnerConfig, TD3Config
from policy_finetune.learners.base import Batch, Learner, LearnerState
from policy_finetune.learners.bc import BC
from policy_finetune.learners.iql import IQL
from policy_finetune.learners.sac import SAC
from policy_finetune.learners.td3 import TD3, Terms

__all__ = ["BC", "IQL", "SAC", "TD3", "Batch", "Learner", "LearnerState", "Terms", "make_learner"]


def make_learner(config: LearnerConfig, obs_dim: int, act_dim: int, *others: LearnerConfig) -> Learner:
    """Return the learner that `config` names.

    Args:
        config: the learner.
        obs_dim: size of an observation.
        act_dim: size of an action.
        others: learners of other agents of the same program; the actor's loss gets the terms of all of them.
    """
    if isinstance(config, TD3Config):
        family = [other for other in others if isinstance(other, TD3Config)]
        return TD3(config, obs_dim, act_dim, Terms.of(config, *family))
    if isinstance(config, BCConfig):
        return BC(config, obs_dim, act_dim)
    return IQL(config, obs_dim, act_dim) if isinstance(config, IQLConfig) else SAC(config, obs_dim, act_dim)
