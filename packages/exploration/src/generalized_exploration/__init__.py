"""What to learn from next: criteria and samplers with stated axioms, for levels and for examples.

from generalized_exploration import CRITERIA, Evidence, Selector, criterion
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from generalized_exploration.config import GROW_PRESETS, PRESETS, GrowConfig, RunConfig
    from generalized_exploration.criteria.catalogue import CRITERIA, Criterion, criterion
    from generalized_exploration.criteria.combine import filtered, product, weighted_ranks
    from generalized_exploration.criteria.evidence import Evidence
    from generalized_exploration.outer.trainer import GrowthTrainer
    from generalized_exploration.samplers.buffer import Buffer, BufferState
    from generalized_exploration.samplers.draws import Selector, top_k, without_replacement
    from generalized_exploration.supervised.selection import fit, reference_losses
    from generalized_exploration.trainer import SelectionTrainer

__all__ = [
    "CRITERIA", "GROW_PRESETS", "PRESETS", "Buffer", "BufferState", "Criterion", "Evidence", "GrowConfig",
    "GrowthTrainer", "RunConfig", "SelectionTrainer", "Selector", "criterion", "filtered", "fit", "product",
    "reference_losses", "top_k", "weighted_ranks", "without_replacement",
]  # fmt: skip

# Imported on first use (PEP 562): the criteria and `Selector` work without JAX being loaded.
_HOME = {
    "config": ("GROW_PRESETS", "PRESETS", "GrowConfig", "RunConfig"),
    "criteria.catalogue": ("CRITERIA", "Criterion", "criterion"),
    "criteria.combine": ("filtered", "product", "weighted_ranks"),
    "criteria.evidence": ("Evidence",),
    "outer.trainer": ("GrowthTrainer",),
    "samplers.buffer": ("Buffer", "BufferState"),
    "samplers.draws": ("Selector", "top_k", "without_replacement"),
    "supervised.selection": ("fit", "reference_losses"),
    "trainer": ("SelectionTrainer",),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOME.items():
        if name in names:
            return getattr(importlib.import_module(f"generalized_exploration.{module}"), name)
    raise AttributeError(f"module 'generalized_exploration' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
