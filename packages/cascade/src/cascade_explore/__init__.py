"""Reward-free exploration by a population of explorers in a handful of deployments.

from cascade_explore import PRESETS, TrainConfig
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cascade_explore.config import PRESETS, TrainConfig
    from cascade_explore.tabular.study import study

__all__ = ["PRESETS", "TrainConfig", "study"]

# Imported on first use (PEP 562), so that settings and the command line do not wait for JAX.
_HOME = {"config": ("PRESETS", "TrainConfig"), "tabular.study": ("study",)}


def __getattr__(name: str) -> Any:
    for module, names in _HOME.items():
        if name in names:
            return getattr(importlib.import_module(f"cascade_explore.{module}"), name)
    raise AttributeError(f"module 'cascade_explore' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
