"""The outer loop of a training run: one protocol, exact resume, run folders, settings."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from paperloop.errors import CheckpointError, NonFiniteError, UserError
    from paperloop.loop.runner import Interrupted, evaluate, restore, run
    from paperloop.protocol import Evaluator, Metrics, Sink, Trainer
    from paperloop.seeds import fold_seed

__all__ = [
    "CheckpointError", "Evaluator", "Interrupted", "Metrics", "NonFiniteError", "Sink", "Trainer", "UserError",
    "evaluate", "fold_seed", "restore", "run",
]  # fmt: skip

# Imported on first use (PEP 562), so that `--help` of a command that says `from paperloop.cli import App` does not
# wait for NumPy.
_HOME = {
    "errors": ("CheckpointError", "NonFiniteError", "UserError"),
    "protocol": ("Evaluator", "Metrics", "Sink", "Trainer"),
    "loop.runner": ("Interrupted", "evaluate", "restore", "run"),
    "seeds": ("fold_seed",),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOME.items():
        if name in names:
            return getattr(importlib.import_module(f"paperloop.{module}"), name)
    raise AttributeError(f"module 'paperloop' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
