"""The settings of a run and the presets. Loads no array library."""

from cascade_explore.config.envs import Cheetah, Crafter, FourRooms, Gym, KeyCorridor, MultiRoom, Walker
from cascade_explore.config.learning import (
    Actor,
    Cascade,
    InfoGain,
    LogDet,
    NearestNeighbours,
    Plan2Explore,
    Population,
    Random,
    Variance,
    WorldModel,
)
from cascade_explore.config.presets import PRESET_HELP, PRESETS
from cascade_explore.config.runs import LabelConfig, TrainConfig

__all__ = [
    "PRESETS", "PRESET_HELP", "Actor", "Cascade", "Cheetah", "Crafter", "FourRooms", "Gym", "InfoGain",
    "KeyCorridor", "LabelConfig", "LogDet", "MultiRoom", "NearestNeighbours", "Plan2Explore", "Population", "Random",
    "TrainConfig", "Variance", "Walker", "WorldModel",
]  # fmt: skip
