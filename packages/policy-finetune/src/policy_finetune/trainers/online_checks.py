"""What is refused before an online run begins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from paperloop.errors import UserError
from policy_finetune.config import OnlineAgent
from policy_finetune.envs.spec import EnvSpec
from policy_finetune.replay.packing import Layout, OfflineData
from policy_finetune.trainers.switch import Pretrained

__all__ = ["check_data", "check_members", "check_units"]


def check_members(members: Sequence[OnlineAgent], start: Pretrained | None, spec: EnvSpec) -> None:
    """Refuse agents that cannot share a program, or that the pre-trained ones do not fit."""
    for agent in members:
        if agent.switch.warmup_env_steps != members[0].switch.warmup_env_steps:
            raise UserError(
                "Agents of one program have the same switch.warmup_env_steps: fine-tune them in separate runs."
            )
        constraint = agent.learner.constraint
        if start is None and constraint.enabled and constraint.reference == "offline":
            raise UserError(
                "learner.constraint.reference is 'offline', but learning begins from nothing: there is no offline "
                "policy; choose target, periodic or best."
            )
        if start is not None and not 0 <= agent.start < start.num_agents:
            raise UserError(f"An agent starts from pre-trained agent {agent.start}, but there are {start.num_agents}.")
    if start is not None and start.mean.shape[1] != spec.obs_dim:
        raise UserError(
            f"The pre-trained agents observe {start.mean.shape[1]} numbers, {spec.env_id} gives "
            f"{spec.obs_dim}: it is another environment."
        )


def check_data(data: OfflineData, datasets: Sequence[int], layout: Layout, spec: EnvSpec) -> None:
    """Refuse offline data of another environment, or fewer datasets than agents need.

    Args:
        data: the packed data.
        datasets: the dataset of each agent.
        layout: of the rows that the environment gives.
        spec: the environment.
    """
    if data.layout != layout:
        raise UserError(
            f"The offline data has observations of {data.layout.obs_dim} and actions of {data.layout.act_dim} "
            f"numbers, {spec.env_id} {spec.obs_dim} and {spec.act_dim}: it is of another environment."
        )
    if max(datasets) >= data.num_datasets:
        raise UserError(f"An agent needs dataset {max(datasets)}, but there are {data.num_datasets}.")


def check_units(data: OfflineData, datasets: Sequence[int], *, mean: Any, std: Any, scale: Any, bias: float) -> None:
    """Refuse packed data whose observations or rewards are in other units than those of the pre-trained agents."""
    if not (np.array_equal(data.mean[datasets], mean) and np.array_equal(data.std[datasets], std)):
        raise UserError(
            "The packed offline data was standardised otherwise than the pre-trained agents' observations: give "
            "the datasets themselves, or pack them with the agents' mean and std."
        )
    if not (np.allclose(data.scale[datasets], scale, rtol=1e-6) and np.isclose(data.bias, bias)):
        raise UserError(
            "The packed offline data has its rewards scaled otherwise than the pre-trained agents had: give the "
            "datasets themselves, or pack them with the agents' scale."
        )
