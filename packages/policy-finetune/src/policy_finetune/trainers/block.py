"""What a block does on the device: its rows enter the replay, then every agent does its updates.

Functions of `shared`, the offline rows, and of `own`, a tree whose leaves have a leading axis of agents: (device state,
rows of the block [A, K, width], data of the agents). `AgentLayout.per_device` gives each device the agents it holds.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from policy_finetune.agents.programs import AgentLayout, summary
from policy_finetune.learners.base import Learner, LearnerState, q_over_bound
from policy_finetune.replay.buffers import Replay, ReplayState
from policy_finetune.trainers.guard import carried_out
from policy_finetune.trainers.online_state import DeviceState

__all__ = ["adjust_agents", "collect_block", "update_agents"]


def collect_block(shared: Array, own: Any, *, replay: Replay) -> DeviceState:
    """Return the device state after a block without updates."""
    device, rows, data = own
    block = data["block"][0]
    rings = replay.insert(device.replay.rows, rows, block)
    balanced = device.replay.balanced
    if balanced is not None:
        balanced = jax.vmap(lambda state: replay.enter(state, block))(balanced)
    return dataclasses.replace(device, replay=ReplayState(rings, balanced))


def update_agents(
    shared: Array, own: Any, *, replay: Replay, learner: Learner, layout: AgentLayout, rounds: int
) -> tuple[DeviceState, dict[str, Array]]:
    """Return the device state after a block and its `rounds` rounds of updates, and the metrics [A]."""
    device, rows, data = own
    # The rings stay outside of what is mapped over agents: each agent only reads its own by index.
    rings = replay.insert(device.replay.rows, rows, data["block"][0])

    def one(x: Any) -> Any:
        index, *rest = x
        return _update_agent(shared, lambda at: rings[index, at], *rest, replay=replay, learner=learner, rounds=rounds)

    agents = (jnp.arange(len(rows)), device.learner, device.replay.balanced, device.key, data)
    states, balanced, key, info = layout.each(one, agents)
    return DeviceState(states, ReplayState(rings, balanced), device.home, key), info


def _update_agent(
    shared: Array, online: Any, state: LearnerState, balanced: Any, key: Array, data: Any, *, replay: Replay,
    learner: Learner, rounds: int,
) -> Any:  # fmt: skip
    """Do one agent's updates of a block; return its learner, what its replay learned, its key and the metrics."""
    weights, config = data["weights"], learner.config
    balanced = replay.prepare(replay.enter(balanced, data["block"]), data)
    shape = (config.policy_delay, config.batch_size)

    def body(carry: Any, _: None) -> tuple[Any, dict[str, Array]]:
        state, balanced, key = carry
        key, draw_key, round_key = jax.random.split(key, 3)
        rows, balanced, share = replay.sample(balanced, online, shared, draw_key, shape, data, state.updates)
        batches = replay.layout.split(rows)
        state, info = learner.round(state, batches, round_key, weights)
        info |= q_over_bound(info, batches.reward, weights["discount"])
        return (state, balanced, key), info | {"offline_share": share}

    (state, balanced, key), infos = jax.lax.scan(body, (state, balanced, key), length=rounds)
    return state, balanced, key, summary(infos, state.params)


def adjust_agents(device: DeviceState, orders: Any, *, nu_boost: float) -> DeviceState:
    """Return the device state after what the guard ordered: remember this actor, or go home."""
    adjust = jax.vmap(lambda learner, home, one: carried_out(learner, home, one, nu_boost=nu_boost))
    learner, home = adjust(device.learner, device.home, orders)
    return dataclasses.replace(device, learner=learner, home=home)
