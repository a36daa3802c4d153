"""Unsupervised environment design in JAX: students trained on curricula of levels, in one compiled program."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from minimax_ued.buffer import BufferState, LevelBuffer
    from minimax_ued.config import PRESETS, BufferConfig, MazeConfig, PPOConfig, StudentConfig, TrainConfig
    from minimax_ued.cycle import TrainState
    from minimax_ued.envs.autoreset import AutoReset
    from minimax_ued.envs.base import Environment, Timestep
    from minimax_ued.envs.maze.level import Level, check_level
    from minimax_ued.envs.maze.maze import Maze
    from minimax_ued.envs.maze.suite import TEST_MAZES
    from minimax_ued.evaluate import OOD_MAZES, HeldOut, OODMazes, play
    from minimax_ued.methods import METHODS, Method
    from minimax_ued.scores import SCORES, Rollout, register_score
    from minimax_ued.trainer import UEDTrainer

__all__ = [
    "METHODS",
    "OOD_MAZES",
    "PRESETS",
    "SCORES",
    "TEST_MAZES",
    "AutoReset",
    "BufferConfig",
    "BufferState",
    "Environment",
    "HeldOut",
    "Level",
    "LevelBuffer",
    "Maze",
    "MazeConfig",
    "Method",
    "OODMazes",
    "PPOConfig",
    "Rollout",
    "StudentConfig",
    "Timestep",
    "TrainConfig",
    "TrainState",
    "UEDTrainer",
    "check_level",
    "play",
    "register_score",
]

# Imported on first use (PEP 562): configurations and command lines must not wait for jax.
_HOME = {
    "buffer": ("BufferState", "LevelBuffer"),
    "config": ("PRESETS", "BufferConfig", "MazeConfig", "PPOConfig", "StudentConfig", "TrainConfig"),
    "cycle": ("TrainState",),
    "envs.autoreset": ("AutoReset",),
    "envs.base": ("Environment", "Timestep"),
    "envs.maze.level": ("Level", "check_level"),
    "envs.maze.maze": ("Maze",),
    "envs.maze.suite": ("TEST_MAZES",),
    "evaluate": ("OOD_MAZES", "HeldOut", "OODMazes", "play"),
    "methods": ("METHODS", "Method"),
    "scores": ("SCORES", "Rollout", "register_score"),
    "trainer": ("UEDTrainer",),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOME.items():
        if name in names:
            return getattr(importlib.import_module(f"minimax_ued.{module}"), name)
    raise AttributeError(f"module 'minimax_ued' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
