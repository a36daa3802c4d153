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
from paperloop.files import write_json
from paperloop.jax_backend import save_pytree
from paperloop.settings import read_json
from policy_finetune.envs.pool import EnvState
from policy_finetune.replay.buffers import ReplayState
from policy_finetune.trainers.guard import GuardState

__all__ = ["DeviceState", "OnlineState", "read_host", "read_place", "write_state"]


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


def write_state(state: OnlineState, folder: Path, **place: Any) -> None:
    """Write all but the learners: what lies on the device, where the environments stand, and `place` with it."""
    save_pytree(dataclasses.replace(state.device, learner=None), folder)
    host = {f"env.{f.name}": getattr(state.env, f.name) for f in dataclasses.fields(state.env)}
    host |= {f"guard.{f.name}": getattr(state.guard, f.name) for f in dataclasses.fields(state.guard)}
    np.savez(folder / "host.npz", **host)
    write_json(folder / "place.json", {"block": state.block, "seed": state.seed} | place)


def read_place(folder: Path) -> dict[str, Any]:
    """Return block, seed and what else `write_state` was given."""
    return read_json(folder / "place.json")


def read_host(like: OnlineState, folder: Path) -> tuple[EnvState, GuardState]:
    """Return where the environments stand and what the guard remembers.

    Raises:
        CheckpointError: they do not fit `like`.
    """
    with np.load(folder / "host.npz", allow_pickle=False) as host:
        arrays = {name: host[name] for name in host.files}
    return _filled(like.env, arrays, "env", folder), _filled(like.guard, arrays, "guard", folder)


def _filled(like: Any, arrays: Mapping[str, np.ndarray], name: str, folder: Path) -> Any:
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
