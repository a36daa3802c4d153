"""Environments with levels."""

from minimax_ued.envs.autoreset import AutoReset, AutoResetState
from minimax_ued.envs.base import Environment, Timestep

__all__ = ["AutoReset", "AutoResetState", "Environment", "Timestep"]
