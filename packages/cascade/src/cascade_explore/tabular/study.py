"""Methods of exploration side by side over layouts, with intervals."""

from __future__ import annotations

from typing import NamedTuple

import jax
import numpy as np

from cascade_explore.config import FourRooms, KeyCorridor, MultiRoom
from cascade_explore.envs.families import make_layouts
from cascade_explore.tabular.rooms import Explored, Method, explore, make_rooms

__all__ = ["Study", "study"]


class Study(NamedTuple):
    """Coverage of every method; rows are layouts.

    Attributes:
        coverage: method -> `[layouts, K]`, share of reachable state-actions tried after each deployment.
        success: method -> `[layouts, K]`, share of goals that a plan in the learned model reaches.
        visits: method -> `[B, W, H]`, visits of cells by each agent in the first layout.
    """

    coverage: dict[str, np.ndarray]
    success: dict[str, np.ndarray]
    visits: dict[str, np.ndarray]


def study(
    env: FourRooms | MultiRoom | KeyCorridor,
    methods: tuple[Method, ...],
    *,
    agents: int,
    deployments: int,
    steps: int = 100,
    goals: int = 20,
    seed: int = 0,
) -> Study:
    """Explore each layout of a family with each method; layout i has random stream i in all methods."""
    coverage, success, visits = {}, {}, {}
    layouts = make_layouts(env)
    for method in methods:
        found = [
            explore(make_rooms(layout), jax.random.fold_in(jax.random.key(seed), i), method=method, agents=agents,
                    deployments=deployments, steps=steps, goals=goals)
            for i, layout in enumerate(layouts)
        ]  # fmt: skip
        host: list[Explored] = jax.device_get(found)
        coverage[method] = np.stack([one.coverage for one in host])
        success[method] = np.stack([one.success for one in host])
        shape = layouts[0].cells.shape[:2]
        visits[method] = host[0].visits.reshape(agents, *shape, 4).sum(-1)
    return Study(coverage, success, visits)
