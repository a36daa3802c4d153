"""The numbers by which agents of one compiled program may differ: losses' weights, schedules, replay shares.

`weights_of(learner, replay, switch)` gives them as a flat dictionary of scalars; stacked over agents they are an
argument of the program, so that a whole ablation compiles once. `structure_of` is what is left and must agree. Nothing
here imports jax.
"""

from __future__ import annotations

import dataclasses
import functools
import typing
from typing import Any

from policy_finetune.config import (
    AppendReplay,
    BalancedReplay,
    DecayReplay,
    DualConstraint,
    FixedPenalty,
    LearnerConfig,
    Periodic,
    ReplayConfig,
    SACConfig,
    SwitchConfig,
    SymmetricReplay,
    Target,
    TD3Config,
)
from policy_finetune.settings.learners import Traced

__all__ = ["constraint_form", "structure_of", "weights_of"]


@functools.cache
def _traced(cls: Any) -> tuple[str, ...]:
    """Return the fields of settings that are data of the program."""
    hints = typing.get_type_hints(cls, include_extras=True)
    return tuple(name for name, hint in hints.items() if Traced in getattr(hint, "__metadata__", ()))


def weights_of(
    learner: LearnerConfig, replay: ReplayConfig | None = None, switch: SwitchConfig | None = None, *, act_dim: int
) -> dict[str, float]:
    """Return the data of one agent, by name."""
    out = {name: float(getattr(learner, name)) for name in _traced(type(learner))}
    if isinstance(learner, TD3Config):
        out |= _of_td3(learner)
    if isinstance(learner, SACConfig):
        out |= {"target_entropy": -act_dim * learner.target_entropy_scale}
        out |= {"cql_weight": learner.cql.weight if learner.cql else 0.0}
    out["critic_warmup"] = float(switch.critic_warmup if switch else 0)
    return out | (_of_replay(replay) if replay else {})


def _of_td3(learner: TD3Config) -> dict[str, float]:
    """The constraint's numbers; an agent without one, in a program that has one, gets those of the default."""
    limit = learner.constraint or DualConstraint()
    dual = limit if isinstance(limit, DualConstraint) else DualConstraint()
    fixed = limit if isinstance(limit, FixedPenalty) else FixedPenalty()
    out = {name: float(getattr(dual, name)) for name in _traced(DualConstraint)}
    reference, growth, fade, bc = limit.reference, dual.growth, fixed.fade, learner.bc_fade
    tau = reference.tau if isinstance(reference, Target) else 0.0
    return out | {
        "constrained": float(learner.constraint is not None),
        "dual": float(isinstance(limit, DualConstraint)),
        "epsilon_final": growth.to if growth else dual.epsilon,
        "epsilon_steps": float(growth.steps if growth else 1),
        "coefficient": fixed.coefficient,
        "coefficient_floor": fixed.coefficient * (fade.floor if fade else 1.0),
        "coefficient_steps": float(fade.steps if fade else 1),
        "bc_floor": bc.floor if bc else 1.0,
        "bc_steps": float(bc.steps if bc else 1),
        "reference_tau": learner.tau if tau is None else tau,
        "reference_copies": float(isinstance(reference, Periodic)),
        "reference_period": float(reference.period if isinstance(reference, Periodic) else Periodic().period),
    }


def _of_replay(replay: ReplayConfig) -> dict[str, float]:
    first = replay.rho if isinstance(replay, SymmetricReplay | DecayReplay | BalancedReplay) else 0.0
    fades = isinstance(replay, DecayReplay)
    return {
        "rho": first,
        "rho_final": replay.rho_final if fades else first,
        "rho_steps": float(replay.decay_steps if fades else 1),
        "append": float(isinstance(replay, AppendReplay)),
    }


def structure_of(learner: LearnerConfig) -> LearnerConfig:
    """Return the learner with all data at their defaults: two agents share a program if these are equal.

    TD3, TD3+BC and TD3-C run in one program, which then computes all terms for all; only the form of the constraint
    must be the same for those that have one (`constraint_form`).
    """
    default = type(learner)()
    changes: dict[str, Any] = {name: getattr(default, name) for name in _traced(type(learner))}
    if isinstance(learner, TD3Config):
        changes |= {"constraint": None, "bc_fade": None}
    if isinstance(learner, SACConfig) and learner.cql:
        changes["cql"] = dataclasses.replace(learner.cql, weight=1.0)
    return dataclasses.replace(learner, **changes)


def constraint_form(learner: LearnerConfig) -> tuple[str, bool] | None:
    """Return what of a learner's constraint is structure: distance and `penalize_target`; None without a constraint."""
    limit = learner.constraint if isinstance(learner, TD3Config) else None
    return None if limit is None else (limit.distance, limit.penalize_target)
