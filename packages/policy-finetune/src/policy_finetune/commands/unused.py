"""Settings that do nothing for the learner, replay or switch that they are given with. Imports no jax."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from paperloop.errors import UserError, setting
from policy_finetune.config import (
    ConstraintConfig,
    GuardConfig,
    LearnerConfig,
    NetworkConfig,
    OfflineConfig,
    OnlineConfig,
    ReplayConfig,
    SwitchConfig,
)

__all__ = ["refuse_idle_constraint", "unused_settings"]

_CRITICS = {"discount", "tau", "critic_lr"}
#: What each family of learners reads, next to what all of them do.
_READ = {
    "bc": {"bc_loss"},
    "td3": _CRITICS
    | {
        "target_update", "target_subset", "actor_q", "target_noise", "noise_clip", "normalize_q", "q_weight",
        "bc_weight", "bc_decay_steps", "bc_floor",
    },
    "iql": _CRITICS | {"expectile", "temperature", "max_weight", "stale_value"},
    "sac": _CRITICS
    | {
        "target_subset", "actor_q", "init_alpha", "alpha_lr", "target_entropy_scale", "backup_entropy", "cql_alpha",
        "cql_actions", "cql_temperature", "calibrated",
    },
}  # fmt: skip
_ALL = {
    "name", "network", "constraint", "batch_size", "actor_lr", "adam_eps", "actor_lr_steps", "max_grad_norm",
    "policy_delay",
}  # fmt: skip
#: What each replay policy reads, next to its kind and capacity.
_REPLAY = {
    "append": {"top_fraction"},
    "drop": set(),
    "symmetric": {"rho", "top_fraction"},
    "decay": {"rho", "rho_final", "decay_steps", "top_fraction"},
    "balanced": {"rho", "temperature", "ratio_lr", "top_fraction"},
}


def unused_settings(config: OfflineConfig | OnlineConfig) -> list[str]:
    """Return one sentence for each setting that differs from its default and has no effect.

    Constraints that are not enabled are left to `refuse_idle_constraint`.
    """
    said: list[str] = []
    for learner in [agent.learner for agent in config.agents] or [config.learner]:
        said += _learner(learner)
    if isinstance(config, OfflineConfig):
        said += _cosine(config)
    else:
        for replay in [agent.replay for agent in config.agents] or [config.replay]:
            unread = _changed(replay, ReplayConfig()) - _REPLAY[replay.kind] - {"kind", "capacity"}
            said += _sentences("replay", unread, f"the replay {replay.kind}")
        said += _guard(config)
        if not config.start:
            for switch in [agent.switch for agent in config.agents] or [config.switch]:
                unread = _changed(switch, SwitchConfig()) - {"warmup_env_steps", "critic_warmup"}
                said += _sentences("switch", unread, "learning from nothing")
        noisy = config.exploration_noise != OnlineConfig.exploration_noise
        if noisy and config.structure.name == "sac":
            said.append(f"{setting('exploration_noise')} has no effect: sac samples its actions.")
    return list(dict.fromkeys(said))


def refuse_idle_constraint(config: OfflineConfig | OnlineConfig) -> None:
    """Refuse settings of a constraint that is not enabled.

    Agents named one by one are let be: in one program, those without the constraint share its form with the others.

    Raises:
        UserError: a field of `learner.constraint` was changed without effect.
    """
    constraint = config.learner.constraint
    changed = _changed(constraint, ConstraintConfig())
    if changed and not constraint.enabled and not config.agents:
        name = sorted(changed)[0]
        raise UserError(
            f"{setting(f'learner.constraint.{name}')} is {getattr(constraint, name)!r}, but the constraint is not "
            f"enabled: give {setting('learner.constraint.enabled', True)}, or choose the preset td3c."
        )


def _learner(learner: LearnerConfig) -> list[str]:
    default = LearnerConfig(network=NetworkConfig())
    unread = _changed(learner, default) - _READ[learner.name] - _ALL
    said = _sentences("learner", unread, learner.name)
    network = _changed(learner.network, NetworkConfig())
    said += _sentences("learner.network", network & _unread_network(learner.name), learner.name)
    if learner.name == "sac" and not learner.cql_alpha:
        said += _sentences(
            "learner", _changed(learner, default) & {"cql_actions", "cql_temperature"}, "a learner with cql_alpha 0"
        )
    if learner.name == "td3" and not learner.bc_weight:
        said += _sentences(
            "learner", _changed(learner, default) & {"bc_decay_steps", "bc_floor"}, "a learner with bc_weight 0"
        )
    elif learner.name == "td3" and not learner.bc_decay_steps:
        said += _sentences("learner", _changed(learner, default) & {"bc_floor"}, "a learner with bc_decay_steps 0")
    return said + _constraint(learner.constraint)


def _unread_network(name: str) -> set[str]:
    return {"bc": {"critics", "layer_norm"}, "iql": set()}.get(name, {"actor_dropout"})


def _constraint(constraint: ConstraintConfig) -> list[str]:
    if not constraint.enabled:
        return []
    changed = _changed(constraint, ConstraintConfig())
    if constraint.penalty == "fixed":
        unread = {"nu0", "dual_lr", "nu_min", "epsilon", "epsilon_final", "epsilon_steps"}
    else:
        unread = {"coefficient", "decay_steps", "coefficient_floor"}
    said = _sentences("learner.constraint", changed & unread, f"the penalty {constraint.penalty}")
    if constraint.penalty == "fixed" and not constraint.decay_steps:
        said += _sentences("learner.constraint", changed & {"coefficient_floor"}, "decay_steps 0")
    if constraint.penalty == "dual" and constraint.epsilon_final is None:
        said += _sentences("learner.constraint", changed & {"epsilon_steps"}, "no epsilon_final")
    unread = {"target": {"reference_period"}, "periodic": {"reference_tau"}}.get(
        constraint.reference, {"reference_period", "reference_tau"}
    )
    said += _sentences("learner.constraint", changed & unread, f"the reference {constraint.reference}")
    if constraint.distance != "gauss_kl":
        said += _sentences("learner.constraint", changed & {"kl_sigma"}, f"the distance {constraint.distance}")
    return said


def _cosine(config: OfflineConfig) -> list[str]:
    """Say where the actor's learning rate does not come to its end within the run."""
    for learner in [agent.learner for agent in config.agents] or [config.learner]:
        rounds = config.num_steps * config.updates_per_step // learner.policy_delay
        if learner.actor_lr_steps > rounds:
            return [
                f"{setting('learner.actor_lr_steps')} is {learner.actor_lr_steps}: the actor's learning rate falls "
                f"over so many of its updates, and this run has {rounds}; "
                f"{setting('learner.actor_lr_steps', rounds)} lets it fall to the end."
            ]
    return []


def _guard(config: OnlineConfig) -> list[str]:
    learners = [agent.learner for agent in config.agents] or [config.learner]
    if config.guard.enabled:
        dual = any(learner.constraint.enabled and learner.constraint.penalty == "dual" for learner in learners)
        unread = set() if dual else _changed(config.guard, GuardConfig()) & {"nu_boost"}
        return _sentences("guard", unread, "a learner without an adapting multiplier")
    best = any(learner.constraint.enabled and learner.constraint.reference == "best" for learner in learners)
    unread = _changed(config.guard, GuardConfig()) - ({"episodes"} if best else set())
    return _sentences("guard", unread, "a guard that is not enabled")


def _changed(config: Any, default: Any) -> set[str]:
    return {f.name for f in dataclasses.fields(config) if getattr(config, f.name) != getattr(default, f.name)}


def _sentences(group: str, names: Iterable[str], reader: str) -> list[str]:
    return [f"{setting(f'{group}.{name}')} has no effect with {reader}." for name in sorted(names)]
