"""Opponent shaping: agents that learn how other agents learn, and steer it.

from opshape import PRESETS, ShapingTrainer, load
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opshape.config import PRESETS, TrainConfig
    from opshape.evaluation.measure import HeldOut, measure
    from opshape.loading import LoadedShaper, load
    from opshape.trainer import ShapingTrainer

__all__ = ["PRESETS", "HeldOut", "LoadedShaper", "ShapingTrainer", "TrainConfig", "load", "measure"]

# Imported on first use (PEP 562), so that settings and the command line do not wait for JAX.
_HOME = {
    "config": ("PRESETS", "TrainConfig"),
    "evaluation.measure": ("HeldOut", "measure"),
    "loading": ("LoadedShaper", "load"),
    "trainer": ("ShapingTrainer",),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOME.items():
        if name in names:
            return getattr(importlib.import_module(f"opshape.{module}"), name)
    raise AttributeError(f"module 'opshape' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
