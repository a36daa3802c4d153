"""What the two trainers share: what a program may mix, and what is written besides the state."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from paperloop.errors import UserError
from policy_finetune.agents.structure import constraint_form, structure_of
from policy_finetune.config import DualConstraint, LearnerConfig, SACConfig, TD3Config
from policy_finetune.envs.acting import HostPolicy
from policy_finetune.learners.base import LearnerState
from policy_finetune.replay.packing import OfflineData

__all__ = ["check_program", "host_policy", "reference_of", "state_folder", "with_nu0"]


def check_program(learners: Sequence[LearnerConfig], data: OfflineData | None) -> None:
    """Refuse learners that cannot share a program, or that the data's returns to go do not fit."""
    first = structure_of(learners[0])
    for learner in learners[1:]:
        here = structure_of(learner)
        for name in ("type", *(field.name for field in dataclasses.fields(here))):
            if getattr(here, name) != getattr(first, name):
                raise UserError(
                    f"Agents of one program differ in learner.{name} ({getattr(first, name)} and "
                    f"{getattr(here, name)}): train them in separate runs."
                )
    forms = {constraint_form(learner) for learner in learners} - {None}
    if len(forms) > 1:
        raise UserError(
            "Agents of one program differ in learner.constraint.distance or penalize_target: train them in separate "
            "runs."
        )
    for learner in learners:
        calibrated = isinstance(learner, SACConfig) and learner.cql is not None and learner.cql.calibrated
        if calibrated and data is not None and learner.discount != data.discount:
            raise UserError(
                f"learner.discount is {learner.discount:g}, but the returns to go that Cal-QL is calibrated by were "
                f"packed with {data.discount:g}: give all agents of a program one discount."
            )


def with_nu0(state: LearnerState, learner: LearnerConfig) -> LearnerState:
    """Return an agent's first state with its own initial multiplier, where the program has one."""
    if "nu" not in state.params:
        return state
    limit = learner.constraint if isinstance(learner, TD3Config) else None
    nu0 = limit.nu0 if isinstance(limit, DualConstraint) else DualConstraint().nu0
    nu = jnp.full_like(state.params["nu"], nu0)
    return state.replace(params=state.params | {"nu": nu})


def reference_of(learner: LearnerConfig) -> Any:
    """Return what a learner's constraint holds the policy to, or None."""
    return learner.constraint.reference if isinstance(learner, TD3Config) and learner.constraint else None


def host_policy(actor: Any, mean: np.ndarray, std: np.ndarray) -> HostPolicy:
    """Return stacked actors [A, ...] as policies on the host."""
    actor = jax.device_get({"hidden": actor["hidden"], "mean": actor["mean"]})
    return HostPolicy([(layer["w"], layer["b"][:, None, :]) for layer in (*actor["hidden"], actor["mean"])], mean, std)


def state_folder(folder: str | Path) -> Path:
    """Return a folder that a trainer's state can be written into, made if it is absent.

    Raises:
        UserError: it cannot be made, or holds a state already.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder} cannot be made ({error.strerror or error}): choose another folder.") from None
    if (folder / "tree.json").exists():
        raise UserError(f"{folder} holds a saved state already: choose another folder, or remove it first.")
    return folder
