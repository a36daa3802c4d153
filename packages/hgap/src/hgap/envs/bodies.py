"""What a body is: its model, how its observation is read off positions and velocities, and what the slices are called.

Observations are those of gymnasium's `HalfCheetah-v5`, `Walker2d-v5` and `Humanoid-v5` (the last one with
`include_cinert_in_observation=False` and the other three likewise): positions without the root's place on the ground,
and velocities. All of it is a function of `qpos` and `qvel`, in metres, radians and seconds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from paperloop.errors import UserError
from paperloop.settings import did_you_mean

__all__ = ["BODIES", "Body", "find_body"]

Slices = Mapping[str, tuple[int, int]]


@dataclasses.dataclass(frozen=True)
class Body:
    """A body in plain MuJoCo.

    Attributes:
        env_id: gymnasium's name of it.
        file: the model, among gymnasium's.
        frame_skip: physics steps in a control step.
        skip: entries of `qpos` that are not observed: the root's place on the ground.
        velocity_limit: observed velocities are clipped to it.
        reset_noise: how far a start is from the model's pose: uniform on the positions ...
        velocity_noise: ... and on the velocities; None: normal, with standard deviation `reset_noise`.
        height: (low, high), of the root's height; outside it the body has fallen.
        pitch: (low, high) likewise, of the root's angle.
        slices: name -> (start, stop) within an observation.
        max_steps: control steps after which gymnasium truncates an episode.
    """

    env_id: str
    file: str
    frame_skip: int
    skip: int
    velocity_limit: float
    reset_noise: float
    velocity_noise: float | None
    height: tuple[float, float] | None
    pitch: tuple[float, float] | None
    slices: Slices
    max_steps: int = 1000

    @property
    def model_path(self) -> Path:
        """Where the installed gymnasium keeps the model."""
        from gymnasium.envs import mujoco

        return Path(str(mujoco.__file__)).with_name("assets") / self.file

    def observe(self, qpos: np.ndarray, qvel: np.ndarray) -> np.ndarray:
        """Return observations [..., S] of positions [..., nq] and velocities [..., nv]."""
        limit = self.velocity_limit
        return np.concatenate([qpos[..., self.skip :], np.clip(qvel, -limit, limit)], -1)

    def fallen(self, observations: np.ndarray) -> np.ndarray:
        """Return whether the body has fallen, booleans [...]; never for a body without limits."""
        bad = np.asarray(~np.isfinite(observations).all(-1))
        for name, limits in (("height", self.height), ("pitch", self.pitch)):
            if limits is not None:
                value = observations[..., self.slices[name][0]]
                bad = bad | ~((value > limits[0]) & (value < limits[1]))
        return np.asarray(bad)


def _planar(joints: tuple[str, ...]) -> dict[str, tuple[int, int]]:
    """The slices of a body that moves in the plane: two root coordinates, joints, three root velocities, joints."""
    n = len(joints)
    roots = {"height": 0, "pitch": 1, "velocity_x": 2 + n, "velocity_z": 3 + n, "pitch_rate": 4 + n}
    slices = {name: (at, at + 1) for name, at in roots.items()}
    slices |= {"joints": (2, 2 + n), "joint_velocities": (5 + n, 5 + 2 * n)}
    slices |= {f"joint_{name}": (2 + i, 3 + i) for i, name in enumerate(joints)}
    return slices


_LEGS = ("back_thigh", "back_shin", "back_foot", "front_thigh", "front_shin", "front_foot")
_WALKER = ("right_thigh", "right_leg", "right_foot", "left_thigh", "left_leg", "left_foot")

BODIES: dict[str, Body] = {
    body.env_id: body
    for body in (
        Body(
            env_id="HalfCheetah-v5", file="half_cheetah.xml", frame_skip=5, skip=1, velocity_limit=np.inf,
            reset_noise=0.1, velocity_noise=None, height=None, pitch=None, slices=_planar(_LEGS),
        ),
        Body(
            env_id="Walker2d-v5", file="walker2d_v5.xml", frame_skip=4, skip=1, velocity_limit=10.0,
            reset_noise=5e-3, velocity_noise=5e-3, height=(0.8, 2.0), pitch=(-1.0, 1.0), slices=_planar(_WALKER),
        ),
        Body(
            env_id="Humanoid-v5", file="humanoid.xml", frame_skip=5, skip=2, velocity_limit=np.inf,
            reset_noise=1e-2, velocity_noise=1e-2, height=(1.0, 2.0), pitch=None,
            slices={
                "height": (0, 1), "orientation": (1, 5), "joints": (5, 22), "velocity_x": (22, 23),
                "velocity_y": (23, 24), "velocity_z": (24, 25), "roll_rate": (25, 26), "pitch_rate": (26, 27),
                "yaw_rate": (27, 28), "joint_velocities": (28, 45),
            },
        ),
    )
}  # fmt: skip


def find_body(name: str) -> Body:
    """Return the body of an environment's name.

    Raises:
        UserError: there is none.
    """
    if name not in BODIES:
        raise UserError(f"There is no body {name!r}{did_you_mean(name, BODIES)}; there are {', '.join(BODIES)}.")
    return BODIES[name]
