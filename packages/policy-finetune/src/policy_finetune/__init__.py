"""Offline reinforcement learning, and its online fine-tuning without policy collapse.

    from policy_finetune import OfflineConfig, OfflineTrainer, LEARNERS, load_for, EnvSpec

Names are loaded when they are first used, so that importing the package does not start jax.
"""

from __future__ import annotations

import importlib
from typing import Any

_WHERE = {
    "envs.acting": ("HostPolicy", "Policy"),
    "config": (
        "SCHEMA", "ActorNetwork", "AppendReplay", "BCConfig", "BalancedReplay", "Best", "CQLConfig", "DataOptions",
        "DecayReplay", "DropReplay", "DualConstraint", "Fade", "FixedPenalty", "Growth", "GuardConfig", "IQLConfig",
        "NetworkConfig", "Offline", "OfflineAgent", "OfflineConfig", "OnlineAgent", "OnlineConfig", "Periodic",
        "SACConfig", "SwitchConfig", "SymmetricReplay", "TD3Config", "Target",
    ),
    "data.checks": ("load_for",),
    "envs.pool": ("EnvPool",),
    "envs.recorded": ("spec_of_recorded",),
    "envs.spec": ("EnvSpec",),
    "trainers.evaluators": ("EvaluationReturns",),
    "data.make": ("make_dataset",),
    "data.onnx_files": ("export_onnx",),
    "measures.collapse": ("collapse_metrics",),
    "trainers.offline": ("OfflineTrainer",),
    "trainers.online": ("OnlineTrainer",),
    "replay.packing": ("OfflineData",),
    "data.policies": ("GradedPolicy", "export_policy", "load_policy", "save_policy", "shipped"),
    "presets": ("LEARNERS", "learner"),
    "envs.rollouts": ("evaluate",),
    "data.saved_policies": ("load_policies",),
    "trainers.loading": ("LoadedRun", "load_run"),
    "trainers.runs": ("load_start",),
    "trainers.pretrained": ("Pretrained",),
}  # fmt: skip
_MODULE_OF = {name: module for module, names in _WHERE.items() for name in names}

__all__ = sorted(_MODULE_OF)


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *__all__]
