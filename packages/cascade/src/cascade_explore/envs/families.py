"""The layouts that settings describe."""

from __future__ import annotations

from cascade_explore.config import FourRooms, KeyCorridor, MultiRoom
from cascade_explore.envs.layouts import Layout, four_rooms, key_corridor, multi_room

__all__ = ["episode_limit", "make_layouts"]

Grid = FourRooms | MultiRoom | KeyCorridor


def make_layouts(env: Grid) -> list[Layout]:
    """Return the fixed layouts of an environment's settings."""
    seeds = range(env.layout_seed, env.layout_seed + env.layouts)
    if isinstance(env, FourRooms):
        return [four_rooms(seed) for seed in seeds]
    if isinstance(env, MultiRoom):
        return [multi_room(seed, rooms=env.rooms, size=env.size) for seed in seeds]
    return [key_corridor(seed, rows=env.rows, size=env.size) for seed in seeds]


def episode_limit(env: Grid) -> int:
    """Return the steps after which an episode is cut."""
    if isinstance(env, FourRooms):
        return env.max_steps
    if isinstance(env, MultiRoom):
        return env.max_steps or 20 * env.rooms
    return env.max_steps or 30 * env.size**2
