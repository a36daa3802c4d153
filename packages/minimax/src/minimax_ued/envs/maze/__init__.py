"""Mazes: levels, dynamics, random and fixed levels, mutations, the teacher's editor, exact shortest paths."""

from minimax_ued.envs.maze.editor import EditorState, MazeEditor
from minimax_ued.envs.maze.level import Level, check_level, pack_levels, pad_level, stack_levels, unpack_levels
from minimax_ued.envs.maze.maze import ACTIONS, Maze, MazeState
from minimax_ued.envs.maze.mutate import MUTATIONS, register_mutation
from minimax_ued.envs.maze.observe import Observation, PreparedLevel

__all__ = [
    "ACTIONS", "MUTATIONS", "EditorState", "Level", "Maze", "MazeEditor", "MazeState", "Observation",
    "PreparedLevel", "check_level", "pack_levels", "pad_level", "register_mutation", "stack_levels",
    "unpack_levels",
]  # fmt: skip
