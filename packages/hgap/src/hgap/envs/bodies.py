"""What a body is: its model, how its observation is read off its state, and what the slices are called.

Observations of `GymBody` are those of gymnasium's `HalfCheetah-v5`, `Walker2d-v5` and `Humanoid-v5` (the last one with
`include_cinert_in_observation=False` and the other three likewise): positions without the root's place on the ground,
and velocities. All of it is a function of `qpos` and `qvel`, in metres, radians and seconds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from hgap.envs.cmu import CMUHumanoid, standing_frames
from paperloop.errors import UserError
from paperloop.settings import did_you_mean

__all__ = ["BODIES", "Body", "GymBody", "find_body"]

Slices = Mapping[str, tuple[int, int]]


class Body(Protocol):
    """A body in plain MuJoCo. A state is time, positions, velocities, activations and, if it senses, its sensors.

    Attributes:
        env_id: its name.
        frame_skip: physics steps in a control step.
        max_steps: control steps of an episode.
        slices: name -> (start, stop) within an observation.
        senses: whether observations need the model's sensors.
        falls: whether it can fall.
    """

    @property
    def env_id(self) -> str: ...  # noqa: D102
    @property
    def frame_skip(self) -> int: ...  # noqa: D102
    @property
    def max_steps(self) -> int: ...  # noqa: D102
    @property
    def slices(self) -> Slices: ...  # noqa: D102
    @property
    def senses(self) -> bool: ...  # noqa: D102
    @property
    def falls(self) -> bool: ...  # noqa: D102

    def compile(self, mujoco: Any) -> Any:
        """Return the model."""
        ...

    def begin(self, model: Any, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Return positions and velocities of `count` starts."""
        ...

    def observe(self, model: Any, states: np.ndarray) -> np.ndarray:
        """Return observations [..., S] of states."""
        ...

    def fallen(self, model: Any, states: np.ndarray) -> np.ndarray:
        """Return whether the body has fallen or its simulation has blown up, booleans [...]."""
        ...


@dataclasses.dataclass(frozen=True)
class GymBody:
    """A body of gymnasium's.

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
    senses: bool = False

    @property
    def falls(self) -> bool:
        """Whether there are limits."""
        return self.height is not None

    def compile(self, mujoco: Any) -> Any:
        """Return the model that the installed gymnasium has."""
        import gymnasium

        # Not by way of gymnasium.envs.mujoco, which loads a renderer and what that needs.
        assets = Path(str(gymnasium.__file__)).parent / "envs" / "mujoco" / "assets"
        return mujoco.MjModel.from_xml_path(str(assets / self.file))

    def begin(self, model: Any, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Return positions and velocities of `count` starts as gymnasium draws them."""
        noise = self.reset_noise
        positions = model.qpos0 + rng.uniform(-noise, noise, (count, model.nq))
        if self.velocity_noise is None:
            return positions, noise * rng.standard_normal((count, model.nv))
        return positions, rng.uniform(-self.velocity_noise, self.velocity_noise, (count, model.nv))

    def observe(self, model: Any, states: np.ndarray) -> np.ndarray:
        """Return observations [..., S] of states."""
        qpos, qvel = states[..., 1 : 1 + model.nq], states[..., 1 + model.nq : 1 + model.nq + model.nv]
        return np.concatenate([qpos[..., self.skip :], np.clip(qvel, -self.velocity_limit, self.velocity_limit)], -1)

    def fallen(self, model: Any, states: np.ndarray) -> np.ndarray:
        """Return whether the body has fallen, booleans [...]; without limits, whether the simulation blew up."""
        observations = self.observe(model, states)
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
        GymBody(
            env_id="HalfCheetah-v5", file="half_cheetah.xml", frame_skip=5, skip=1, velocity_limit=np.inf,
            reset_noise=0.1, velocity_noise=None, height=None, pitch=None, slices=_planar(_LEGS),
        ),
        GymBody(
            env_id="Walker2d-v5", file="walker2d_v5.xml", frame_skip=4, skip=1, velocity_limit=10.0,
            reset_noise=5e-3, velocity_noise=5e-3, height=(0.8, 2.0), pitch=(-1.0, 1.0), slices=_planar(_WALKER),
        ),
        GymBody(
            env_id="Humanoid-v5", file="humanoid.xml", frame_skip=5, skip=2, velocity_limit=np.inf,
            reset_noise=1e-2, velocity_noise=1e-2, height=(1.0, 2.0), pitch=None,
            slices={
                "height": (0, 1), "orientation": (1, 5), "joints": (5, 22), "velocity_x": (22, 23),
                "velocity_y": (23, 24), "velocity_z": (24, 25), "roll_rate": (25, 26), "pitch_rate": (26, 27),
                "yaw_rate": (27, 28), "joint_velocities": (28, 45),
            },
        ),
        CMUHumanoid(),
    )
}  # fmt: skip


def find_body(name: str, objective: str = "") -> Body:
    """Return the body of an environment's name, for one of whose objectives falls may not count.

    The CMU humanoid begins in one of `hgap.envs.cmu.standing_frames`.

    Raises:
        UserError: there is none.
    """
    if name not in BODIES:
        raise UserError(f"Unknown body {name!r}{did_you_mean(name, BODIES)}")
    if name == "CMUHumanoid":
        return CMUHumanoid(standing_frames(), contact_ends=objective not in ("rotate_x", "rotate_z"))
    return BODIES[name]
