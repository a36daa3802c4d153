"""The units that agents learn in: how observations are standardised and rewards scaled, the same in both phases."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from paperloop.errors import UserError
from paperloop_data import EpisodeDataset
from policy_finetune.config import DataOptions, Offline, OnlineAgent, OnlineConfig
from policy_finetune.envs.spec import EnvSpec
from policy_finetune.replay.packing import Layout, OfflineData
from policy_finetune.trainers.common import reference_of
from policy_finetune.trainers.pretrained import Pretrained

__all__ = ["Units", "check_members", "datasets_of", "packed"]


class Units(NamedTuple):
    """Of A agents.

    Attributes:
        mean: (A, obs) f32, subtracted from observations ...
        std: (A, obs) f32, ... which are then divided by this.
        scale: (A,) what rewards are multiplied by ...
        bias: ... and what is then added.
    """

    mean: np.ndarray
    std: np.ndarray
    scale: np.ndarray
    bias: float

    @classmethod
    def of(cls, config: OnlineConfig, members: Sequence[OnlineAgent], start: Pretrained | None, obs_dim: int) -> Units:
        """Return those of the pre-trained agents, or from scratch those of the environment, scaled as configured."""
        agents = len(members)
        if start is None:
            mean, std = np.zeros((agents, obs_dim), np.float32), np.ones((agents, obs_dim), np.float32)
            return cls(mean, std, np.full(agents, config.reward_scale), config.reward_bias)
        picks = [agent.start for agent in members]
        scale = start.scale[picks] * config.reward_scale
        bias = start.bias * config.reward_scale + config.reward_bias
        return cls(start.mean[picks], start.std[picks], scale, bias)


def datasets_of(members: Sequence[OnlineAgent], start: Pretrained | None) -> list[int]:
    """Return the index of each agent's dataset."""
    return [start.dataset[agent.start] if start else 0 for agent in members]


def packed(
    data: OfflineData | EpisodeDataset | Sequence[EpisodeDataset] | None, used: Sequence[int], units: Units,
    config: OnlineConfig, start: Pretrained | None, spec: EnvSpec,
) -> tuple[OfflineData | None, Units]:  # fmt: skip
    """Return the offline data packed in the agents' units; from scratch, the units are those of packed data.

    Raises:
        UserError: it is of another environment, there are fewer datasets than agents need, or packed data are in other
            units than those of the pre-trained agents.
    """
    if data is None:
        return None, units
    if not isinstance(data, OfflineData):
        datasets = [data] if isinstance(data, EpisodeDataset) else list(data)
        mean = std = scales = None
        if start is not None:
            if len(datasets) <= max(used):
                raise UserError(
                    f"The pre-trained agents learned from {max(used) + 1} datasets and {len(datasets)} are given: give "
                    "the same ones in the same order."
                )
            first = [used.index(d) if d in used else 0 for d in range(len(datasets))]
            mean, std, scales = units.mean[first], units.std[first], units.scale[first]
        loading = config.loading.over(start.loading if start else DataOptions())
        data = OfflineData.pack(
            datasets, discount=config.structure.discount, normalize_observations=False,
            reward_scale=config.reward_scale, reward_bias=units.bias, mean=mean, std=std, scales=scales,
            semantics=loading.semantics or "exact",
        )  # fmt: skip
    if data.layout != Layout(spec.obs_dim, spec.act_dim):
        raise UserError(
            f"The offline data has observations of {data.layout.obs_dim} and actions of {data.layout.act_dim} "
            f"numbers, {spec.env_id} {spec.obs_dim} and {spec.act_dim}: it is of another environment."
        )
    if max(used) >= data.num_datasets:
        raise UserError(f"An agent needs dataset {max(used)}, but there are {data.num_datasets}.")
    if start is None:
        return data, Units(data.mean[used], data.std[used], data.scale[used], data.bias)
    alike = np.array_equal(data.mean[used], units.mean) and np.array_equal(data.std[used], units.std)
    if not (alike and np.allclose(data.scale[used], units.scale, rtol=1e-6) and np.isclose(data.bias, units.bias)):
        raise UserError(
            "The packed offline data has its observations standardised or its rewards scaled otherwise than the "
            "pre-trained agents had: give the datasets themselves, or pack them with the agents' mean, std and scale."
        )
    return data, units


def check_members(members: Sequence[OnlineAgent], start: Pretrained | None, spec: EnvSpec) -> None:
    """Refuse agents that cannot share a program, or that the pre-trained ones do not fit."""
    for agent in members:
        if agent.switch.warmup_env_steps != members[0].switch.warmup_env_steps:
            raise UserError(
                "Agents of one program have the same switch.warmup_env_steps: fine-tune them in separate runs."
            )
        if start is None and isinstance(reference_of(agent.learner), Offline):
            raise UserError(
                "learner.constraint.reference is offline, but learning begins from nothing: there is no offline "
                "policy; choose target, periodic or best."
            )
        if start is not None and not 0 <= agent.start < start.num_agents:
            raise UserError(f"An agent starts from pre-trained agent {agent.start}, but there are {start.num_agents}.")
    if start is not None and start.mean.shape[1] != spec.obs_dim:
        raise UserError(
            f"The pre-trained agents observe {start.mean.shape[1]} numbers, {spec.env_id} gives "
            f"{spec.obs_dim}: it is another environment."
        )
