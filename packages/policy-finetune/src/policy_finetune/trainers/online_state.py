"""Where an online run stands, on the device and on the host."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import Array

from paperloop.errors import CheckpointError
from policy_finetune.envs.pool import EnvState
from policy_finetune.replay.buffers import ReplayState
from policy_finetune.trainers.guard import GuardState

__all__ = ["DeviceState", "OnlineState", "filled"]


@partial(jax.tree_util.register_dataclass, data_fields=["learner", "replay", "home", "key"], meta_fields=[])
@dataclasses.dataclass(frozen=True)
class DeviceState:
    """The part of the state that lives on the device; every leaf has a leading axis A.

    Attributes:
        learner: the learners' states; None in the part of a checkpoint that does not hold them.
        replay: the online transitions, and what a replay policy learns.
        home: the actors to return to after a collapse, and the reference "best"; None where they are not needed.
        key: typed PRNG keys.
    """

    learner: Any
    replay: ReplayState
    home: Any
    key: Array


@dataclasses.dataclass
class OnlineState:
    """Where a fine-tuning run stands.

    Attributes:
        device: the part on the device.
        env: where the environments stand.
        guard: training returns, and what the collapse detector remembers.
        block: blocks done.
        seed: what `init` was given.
    """

    device: DeviceState
    env: EnvState
    guard: GuardState
    block: int
    seed: int


def filled(like: Any, arrays: Mapping[str, np.ndarray], name: str, folder: Path) -> Any:
    """Return a dataclass of arrays from `name.field` entries, checked against `like`."""
    values = {}
    for field in dataclasses.fields(like):
        key, old = f"{name}.{field.name}", getattr(like, field.name)
        if key not in arrays:
            raise CheckpointError(f"{folder / 'host.npz'} has no {key}: the checkpoint is of another version.")
        value = arrays[key]
        if value.shape != old.shape or value.dtype != old.dtype:
            raise CheckpointError(
                f"The checkpoint in {folder} does not fit this configuration: {key} is {value.dtype}{value.shape}, not "
                f"{old.dtype}{old.shape}."
            )
        values[field.name] = value.copy()
    return type(like)(**values)
