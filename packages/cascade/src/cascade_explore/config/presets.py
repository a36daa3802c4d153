"""Runs by name."""

from __future__ import annotations

from cascade_explore.config.envs import Crafter, FourRooms, Gym, KeyCorridor, Walker
from cascade_explore.config.learning import Actor, Cascade, WorldModel
from cascade_explore.config.runs import TrainConfig

__all__ = ["PRESETS", "PRESET_HELP"]

_SMALL = WorldModel(deter=64, hidden=64, units=64, length=16, lr=3e-3, ensemble_lr=3e-3)
_SMALL_ACTOR = Actor(starts=32, units=64, lr=1e-3, critic_lr=1e-3)
_IMAGES = WorldModel(batch=4, length=32)
_IMAGE_ACTOR = Actor(starts=64, entropy=3e-3)

PRESETS: dict[str, TrainConfig] = {
    "small": TrainConfig(
        world=_SMALL, explorer=Cascade(agents=4, share=0.3, actor=_SMALL_ACTOR), deployments=5, env_steps=2000,
        updates=2000, explorers_every=4, updates_per_step=100,
    ),
    "multi_room": TrainConfig(),
    "four_rooms": TrainConfig(env=FourRooms()),
    "key_corridor": TrainConfig(env=KeyCorridor()),
    "walker": TrainConfig(
        env=Walker(), world=WorldModel(free_nats=1.0), deployments=15, env_steps=10_000,
        explorer=Cascade(agents=10, actor=Actor(horizon=5, entropy=1e-3)), envs=1,
    ),
    "crafter": TrainConfig(
        env=Crafter(), world=_IMAGES, explorer=Cascade(actor=_IMAGE_ACTOR), deployments=3, env_steps=5000, envs=1,
        updates=200,
    ),
    "montezuma": TrainConfig(
        env=Gym(id="ale_py:ALE/MontezumaRevenge-v5"), world=_IMAGES, explorer=Cascade(actor=_IMAGE_ACTOR),
        deployments=3, env_steps=5000, envs=1, updates=200,
    ),
}  # fmt: skip

PRESET_HELP: dict[str, str] = {
    "small": "four rooms behind doors with small networks; a few minutes of one core",
    "multi_room": "four rooms behind closed doors",
    "four_rooms": "four rooms without doors",
    "key_corridor": "a key, a locked door and a ball",
    "walker": "dm_control's walker from proprioception, ten agents, fifteen deployments (extra dmc)",
    "crafter": "Crafter in pixels, five agents, a model for a CPU (extra crafter)",
    "montezuma": "Montezuma's Revenge in pixels (extra atari, which is under the GPL)",
}
