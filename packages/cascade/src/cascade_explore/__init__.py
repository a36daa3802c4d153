"""Reward-free exploration by a population of explorers in a handful of deployments.

from cascade_explore import PRESETS, ExploreTrainer
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cascade_explore.config import PRESETS, LabelConfig, TrainConfig
    from cascade_explore.tabular.study import study
    from cascade_explore.tasks.trainer import TaskTrainer, TrueReturn
    from cascade_explore.trainer import ExploreTrainer

__all__ = ["PRESETS", "ExploreTrainer", "LabelConfig", "TaskTrainer", "TrainConfig", "TrueReturn", "study"]

# Imported on first use (PEP 562), so that settings and the command line do not wait for JAX.
_HOME = {
    "config": ("PRESETS", "LabelConfig", "TrainConfig"),
    "tabular.study": ("study",),
    "tasks.trainer": ("TaskTrainer", "TrueReturn"),
    "trainer": ("ExploreTrainer",),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOME.items():
        if name in names:
            return getattr(importlib.import_module(f"cascade_explore.{module}"), name)
    raise AttributeError(f"module 'cascade_explore' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
