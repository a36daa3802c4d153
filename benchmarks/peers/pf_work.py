"""What all contestants of `policy_finetune_speed.py` train on and with: sizes, data and the arithmetic of one update.

NumPy only, as it runs in every peer's environment.
"""

from __future__ import annotations

import importlib.metadata
from typing import Any

import numpy as np

__all__ = ["ACT", "BATCH", "HIDDEN", "OBS", "ROWS", "dataset", "macs_per_update", "parameters", "versions"]

OBS, ACT = 11, 3  # Hopper
HIDDEN, BATCH, ROWS = 256, 256, 100_000


def dataset(rows: int = ROWS) -> dict[str, np.ndarray]:
    """Random transitions: what an update costs does not depend on their content."""
    rng = np.random.default_rng(0)
    return {
        "observations": rng.normal(size=(rows, OBS)).astype(np.float32),
        "actions": rng.uniform(-1, 1, (rows, ACT)).astype(np.float32),
        "rewards": rng.normal(size=rows).astype(np.float32),
        "next_observations": rng.normal(size=(rows, OBS)).astype(np.float32),
        "terminals": rng.random(rows) < 0.01,
    }


def macs_per_update() -> int:
    """Multiplications and additions of the matrix products that one critic update and half an actor update need.

    Critic: forward passes of target actor and two target critics; forward, weight gradients and hidden gradients of two
    critics. Actor: forward, weight and hidden gradients of the actor; forward and input gradients of one critic. No
    gradient with respect to an input that nobody asks for.
    """
    actor = OBS * HIDDEN + HIDDEN * HIDDEN + HIDDEN * ACT
    critic = (OBS + ACT) * HIDDEN + HIDDEN * HIDDEN + HIDDEN
    critic_step = actor + 2 * critic + 2 * (3 * critic - (OBS + ACT) * HIDDEN)
    actor_step = 3 * actor - OBS * HIDDEN + 2 * critic - OBS * HIDDEN
    return BATCH * (critic_step + actor_step // 2)


def parameters(layer_norm: bool = False) -> int:
    """Parameters of the actor and both critics, without targets."""
    actor = (OBS + 1) * HIDDEN + (HIDDEN + 1) * HIDDEN + (HIDDEN + 1) * ACT
    critic = (OBS + ACT + 1) * HIDDEN + (HIDDEN + 1) * HIDDEN + HIDDEN + 1 + (4 * HIDDEN if layer_norm else 0)
    return actor + 2 * critic


def versions(*names: str) -> dict[str, Any]:
    """Versions of distributions, as far as they are installed."""
    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
