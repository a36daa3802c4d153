"""Unsupervised environment design in JAX: students trained on curricula of levels, in one compiled program."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from minimax_ued.config import (
        BufferConfig,
        CartPoleConfig,
        DRConfig,
        EditorConfig,
        GRUConfig,
        LSTMConfig,
        MazeConfig,
        MutationConfig,
        NCCConfig,
        OwnConfig,
        PPOConfig,
        ReplayConfig,
        S5Config,
        SFLConfig,
        StudentConfig,
        TaughtConfig,
        TeacherConfig,
        TrainConfig,
    )
    from minimax_ued.cycle.state import TrainState
    from minimax_ued.envs.autoreset import AutoReset
    from minimax_ued.envs.base import Environment, LevelEditor, Timestep
    from minimax_ued.envs.maze.level import Level, check_level
    from minimax_ued.envs.maze.maze import Maze
    from minimax_ued.envs.maze.mutate import MUTATIONS, register_mutation
    from minimax_ued.evaluation.cvar import CVaR
    from minimax_ued.evaluation.evaluate import HeldOut
    from minimax_ued.evaluation.mazes import OODMazes
    from minimax_ued.levels.files import load_levels, save_levels
    from minimax_ued.levels.suite import OOD_MAZES, TEST_MAZES
    from minimax_ued.methods import METHODS, NamedMethod
    from minimax_ued.nets.students import Student, StudentOutput
    from minimax_ued.presets import PRESETS
    from minimax_ued.replay.buffer import BufferState, LevelBuffer
    from minimax_ued.replay.scores import SCORES, Rollout, register_score
    from minimax_ued.teachers.regret import OBJECTIVES
    from minimax_ued.trainer import UEDTrainer
    from minimax_ued.use.loading import LoadedRun, LoadedStudent, load_run
    from minimax_ued.use.numpy_student import NumpyStudent

__all__ = [
    "METHODS", "MUTATIONS", "OBJECTIVES", "OOD_MAZES", "PRESETS", "SCORES", "TEST_MAZES", "AutoReset",
    "BufferConfig", "BufferState", "CVaR", "CartPoleConfig", "DRConfig", "EditorConfig", "Environment", "GRUConfig",
    "HeldOut", "LSTMConfig", "Level", "LevelBuffer", "LevelEditor", "LoadedRun", "LoadedStudent", "Maze",
    "MazeConfig", "MutationConfig", "NCCConfig", "NamedMethod", "NumpyStudent", "OODMazes", "OwnConfig",
    "PPOConfig", "ReplayConfig", "Rollout", "S5Config", "SFLConfig", "Student", "StudentConfig", "StudentOutput",
    "TaughtConfig", "TeacherConfig", "Timestep", "TrainConfig", "TrainState", "UEDTrainer", "check_level",
    "load_levels", "load_run", "register_mutation", "register_score", "save_levels",
]  # fmt: skip

# Imported on first use (PEP 562): configurations and command lines must not wait for jax.
_HOME = {
    "replay.buffer": ("BufferState", "LevelBuffer"),
    "config": (
        "BufferConfig", "CartPoleConfig", "DRConfig", "EditorConfig", "GRUConfig", "LSTMConfig", "MazeConfig",
        "MutationConfig", "NCCConfig", "OwnConfig", "PPOConfig", "ReplayConfig", "S5Config", "SFLConfig",
        "StudentConfig", "TaughtConfig", "TeacherConfig", "TrainConfig",
    ),
    "cycle.state": ("TrainState",),
    "envs.autoreset": ("AutoReset",),
    "envs.base": ("Environment", "LevelEditor", "Timestep"),
    "envs.maze.level": ("Level", "check_level"),
    "envs.maze.maze": ("Maze",),
    "envs.maze.mutate": ("MUTATIONS", "register_mutation"),
    "levels.suite": ("OOD_MAZES", "TEST_MAZES"),
    "evaluation.cvar": ("CVaR",),
    "evaluation.evaluate": ("HeldOut",),
    "evaluation.mazes": ("OODMazes",),
    "levels.files": ("load_levels", "save_levels"),
    "use.loading": ("LoadedRun", "LoadedStudent", "load_run"),
    "methods": ("METHODS", "NamedMethod"),
    "presets": ("PRESETS",),
    "teachers.regret": ("OBJECTIVES",),
    "replay.scores": ("SCORES", "Rollout", "register_score"),
    "nets.students": ("Student", "StudentOutput"),
    "trainer": ("UEDTrainer",),
    "use.numpy_student": ("NumpyStudent",),
}  # fmt: skip


def __getattr__(name: str) -> Any:
    for module, names in _HOME.items():
        if name in names:
            return getattr(importlib.import_module(f"minimax_ued.{module}"), name)
    raise AttributeError(f"module 'minimax_ued' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
