"""Environments with levels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from minimax_ued.envs.autoreset import AutoReset, AutoResetState
from minimax_ued.envs.base import EditorObservation, Environment, LevelEditor, Mutation, Timestep
from paperloop.settings import fault

if TYPE_CHECKING:
    from minimax_ued.config import TrainConfig

__all__ = [
    "AutoReset", "AutoResetState", "EditorObservation", "Environment", "LevelEditor", "Mutation", "Timestep",
    "make_environment",
]  # fmt: skip


def make_environment(config: TrainConfig) -> Environment[Any, Any, Any]:
    """Return the environment that `config.env` describes.

    Only the environment that is asked for is imported, with what it depends on.

    Raises:
        UserError: it takes a package that is not installed, or is the user's own.
    """
    if config.env.type == "own":
        raise fault(
            config,
            "env.type",
            text="{env.type} is 'own', an environment of yours, which the command line does not know: give it to "
            "UEDTrainer(config, env=...).",
        )
    if config.env.type == "cartpole":
        from minimax_ued.envs.cartpole import CartPole

        return CartPole(config.env)
    from minimax_ued.envs.maze import Maze

    return Maze(config.env)
