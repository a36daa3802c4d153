"""Collecting a deployment in environments on the host."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import Array

from cascade_explore.deploy.acting import Memory
from cascade_explore.deploy.replay import Rows
from cascade_explore.envs.host import HostEnvs

__all__ = ["collect_host"]


def collect_host(
    envs: HostEnvs, choose: Callable[[Memory, Any, Any, Array], Memory], memory: Memory, key: Array, *, steps: int
) -> tuple[Rows, np.ndarray]:
    """Let every agent of every seed act for `steps` rows, from fresh episodes, as `collect` does on the device.

    Args:
        envs: seeds x B x E environments, in this order.
        choose: memory, observations `[seeds, B, E, n]`, which are first, key -> memory with the action.
        memory: before the first observation, with its leading seed axis.
        key: of everything random.
        steps: T.

    Returns:
        Rows `[seeds, T, B E, ...]`, and the number of episodes that ended, per seed.
    """
    seeds, agents, each = memory.action.shape[:3]
    discrete = envs.actions.discrete
    one, key = jax.random.split(key)
    envs.begin(np.asarray(jax.random.randint(one, (len(envs.envs),), 0, 2**31 - 1)))
    found = []
    for step_key in jax.random.split(key, steps):
        came = np.asarray(memory.action).reshape(len(envs.envs), -1)
        action = came.argmax(-1).astype(np.uint8) if discrete else came
        row = envs.step(action)
        shape = (seeds, agents, each)
        memory = choose(memory, row.observation.reshape(*shape, -1), row.first.reshape(shape), step_key)
        facts = row.facts if envs.facts else ()
        rows = Rows._make([row.observation, action, row.reward, row.first, row.terminal, facts])
        found.append(jax.tree.map(lambda x: x.reshape(seeds, agents * each, *x.shape[1:]), rows))
    stacked = jax.tree.map(lambda *parts: np.stack(parts, 1), *found)
    return stacked, stacked.first[:, 1:].sum((1, 2))
