"""When a level buffer replays first, and whether a run gets there. Imports neither jax nor numpy.

A method that learns from replayed levels alone makes no update before its first replay. A run that is too short, or
whose mazes are fewer than the buffer must hold, would end without having learned anything.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from paperloop.settings import fault

if TYPE_CHECKING:
    from minimax_ued.config import MazeConfig, TrainConfig

__all__ = ["check_readiness", "count_levels", "cycles_before_replay", "waits_for_replay"]


def waits_for_replay(config: TrainConfig) -> bool:
    """Whether the method replays from a level buffer, and is not told never to (`replay_prob` 0)."""
    method = config.method_spec
    return method.curator == "buffer" and (method.parallel or config.buffer.replay_prob > 0)


def cycles_before_replay(config: TrainConfig) -> int:
    """Return the cycles before the first that can replay, if every level offered until then is new and finished."""
    return math.ceil(config.buffer.first_replay / (config.n_envs * config.method_spec.parts))


def count_levels(height: int, width: int, walls: range, enough: int) -> int:
    """Return how many mazes there are: places of walls and agent, its direction, and the goal.

    Args:
        height: H.
        width: W.
        walls: the numbers of walls that a maze can have.
        enough: counting stops here; the result is then some number of at least `enough`.
    """
    cells, found = height * width, 0
    for n in walls:
        free = cells - n
        if free < 2:
            break
        agents_and_goals = 4 * free * (free - 1)
        found += agents_and_goals * (math.comb(cells, n) if agents_and_goals < enough else 1)
        if found >= enough:
            break
    return found


def check_readiness(config: TrainConfig) -> None:
    """Refuse a run that cannot replay.

    Raises:
        SettingsError: it is too short to fill the buffer, or the buffer must hold more levels than there are.
    """
    if not waits_for_replay(config):
        return
    buffer, method, needed = config.buffer, config.method_spec, config.buffer.first_replay
    outcome = "no level would be replayed" if "fresh" in method.gradient else "no update would be made"
    if buffer.deduplicate and config.domain == "maze":
        walls = range(config.teacher.editor.n_walls + 1) if method.teacher else _numbers_of_walls(config.env)
        height, width = config.env.height, config.env.width
        there = count_levels(height, width, walls, needed)
        if there < needed:
            raise fault(
                config,
                "buffer.min_fill",
                text=f"{{buffer.min_fill}} is {buffer.min_fill:g}: the buffer must hold {needed} different levels "
                f"before the first replay, but there are only {there} such mazes of {height} x {width} cells, so that "
                f"{outcome}: lower {{buffer.min_fill}} or {{buffer.capacity}}, or make the mazes larger.",
            )
    waiting = cycles_before_replay(config)
    if config.total_cycles <= waiting:
        dispatches = waiting // config.cycles_per_step  # a run of so many is still too short
        least = math.floor(dispatches * config.cycles_per_step * config.env_steps_per_cycle)
        raise fault(
            config,
            "total_env_steps",
            text=f"{{total_env_steps}} is {config.total_env_steps}, which is {config.total_cycles} cycles of "
            f"{config.n_envs * method.parts} new levels each, but {config.method} replays only once the buffer holds "
            f"{needed} levels, so that {outcome}: set {{total_env_steps}} above {least}, or lower {{buffer.min_fill}} "
            "or {buffer.capacity}.",
        )


def _numbers_of_walls(env: MazeConfig) -> range:
    """The numbers of walls of a random maze, see `minimax_ued.envs.maze.random_levels`."""
    if env.sample_n_walls:
        return range(env.n_walls + 1)
    if env.replace_walls:
        return range(min(1, env.n_walls), env.n_walls + 1)
    return range(env.n_walls, env.n_walls + 1)
