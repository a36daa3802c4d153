"""Mazes: levels, dynamics, random and fixed levels, exact shortest paths."""

from minimax_ued.envs.maze.level import Level, check_level, pack_levels, pad_level, stack_levels, unpack_levels
from minimax_ued.envs.maze.maze import ACTIONS, Maze, MazeState
from minimax_ued.envs.maze.observe import Observation, PreparedLevel

__all__ = [
    "ACTIONS",
    "Level",
    "Maze",
    "MazeState",
    "Observation",
    "PreparedLevel",
    "check_level",
    "pack_levels",
    "pad_level",
    "stack_levels",
    "unpack_levels",
]
