"""The compiled program of an online run: what agents share on the device, and the functions of a block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from policy_finetune.agents.programs import AgentLayout, stack_weights
from policy_finetune.agents.structure import weights_of
from policy_finetune.config import OnlineAgent, OnlineConfig
from policy_finetune.learners.base import Learner
from policy_finetune.replay.buffers import Replay
from policy_finetune.trainers.block import adjust_agents, collect_block, update_agents
from policy_finetune.trainers.online_state import DeviceState

__all__ = ["OnlineProgram"]


class OnlineProgram:
    """The functions of a block, compiled for all agents; each consumes the device state that it is given.

    Args:
        config: the run.
        members: its A agents.
        learner: the structure that they have in common.
        replay: what their batches are drawn from.
        layout: how they are spread over devices.
        nu_boost: added to ν of an agent whose policy the guard brings back.
    """

    def __init__(
        self, config: OnlineConfig, members: Sequence[OnlineAgent], learner: Learner, replay: Replay,
        layout: AgentLayout, *, nu_boost: float,
    ) -> None:  # fmt: skip
        self.replay, self.layout, self._agents = replay, layout, len(members)
        self._shared = layout.share(replay.offline_rows)
        act_dim = replay.layout.act_dim
        weights = [weights_of(agent.learner, agent.replay, agent.switch, act_dim=act_dim) for agent in members]
        self._own = layout.place({"weights": stack_weights(weights), **replay.own})
        self.collect = self._compile(partial(collect_block, replay=replay))
        rounds = config.rounds_per_block
        self.update = self._compile(
            partial(update_agents, replay=replay, learner=learner, layout=layout, rounds=rounds)
        )
        self.adjust = jax.jit(partial(adjust_agents, nu_boost=nu_boost), donate_argnums=0)
        self._zero_info: dict[str, Any] = {}  # metrics of a block without updates, once their shapes are known

    def _compile(self, function: Any) -> Any:
        """Return the function of (device state, offline rows, rows of the block, data of the agents)."""
        call = self.layout.per_device(function)
        return jax.jit(lambda device, shared, *own: call(shared, (device, *own)), donate_argnums=0)

    def block(
        self, device: DeviceState, rows: np.ndarray, number: int, *, learning: bool
    ) -> tuple[DeviceState, Mapping[str, Any]]:
        """Return the device state after block `number`, whose rows are [A, K, width], and its metrics, (A,) each.

        Without `learning` the rows enter the replay, and all metrics are 0.
        """
        own = {**self._own, "block": np.full(self._agents, self.replay.number(number))}
        arguments = device, self._shared, jnp.asarray(rows), own
        if learning:
            return self.update(*arguments)
        if not self._zero_info:
            shapes = jax.eval_shape(self.update, *arguments)[1]
            self._zero_info = {name: np.zeros(value.shape, np.float32) for name, value in shapes.items()}
        return self.collect(*arguments), self._zero_info
