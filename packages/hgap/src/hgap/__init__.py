"""A generalist planner from unlabelled motion: one model, any objective at test time.

from hgap import OBJECTIVES, Planner, load
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hgap.config import PRESETS, Data, PlanConfig, TrainConfig
    from hgap.envs.bodies import find_body
    from hgap.envs.objectives import OBJECTIVES, Trajectory, Weighted
    from hgap.envs.simulator import Simulator
    from hgap.fitting import fit
    from hgap.loading import Model, load
    from hgap.planner.budget import Budgeted
    from hgap.planner.plan import Plan, Planner

__all__ = [
    "OBJECTIVES", "PRESETS", "Budgeted", "Data", "Model", "Plan", "PlanConfig", "Planner", "Simulator", "TrainConfig",
    "Trajectory", "Weighted", "find_body", "fit", "load",
]  # fmt: skip

# Imported on first use (PEP 562), so that settings and the command line do not wait for JAX.
_HOME = {
    "config": ("PRESETS", "Data", "PlanConfig", "TrainConfig"),
    "envs.bodies": ("find_body",),
    "envs.objectives": ("OBJECTIVES", "Trajectory", "Weighted"),
    "envs.simulator": ("Simulator",),
    "fitting": ("fit",),
    "loading": ("Model", "load"),
    "planner.budget": ("Budgeted",),
    "planner.plan": ("Plan", "Planner"),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOME.items():
        if name in names:
            return getattr(importlib.import_module(f"hgap.{module}"), name)
    raise AttributeError(f"module 'hgap' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
