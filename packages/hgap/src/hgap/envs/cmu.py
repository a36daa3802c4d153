"""The CMU humanoid: 56 servos, 224 observations, and when it has fallen."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hgap.envs.cmu_model import END_EFFECTORS, model_path
from hgap.files import read_arrays
from paperloop.errors import UserError

__all__ = ["OBSERVABLES", "CMUHumanoid", "standing_frames"]

#: Name and width of the parts of an observation, in their order (that of the alphabet, as in MoCapAct and H-GAP).
OBSERVABLES: tuple[tuple[str, int], ...] = (
    ("actuator_activation", 56), ("appendages_pos", 15), ("body_height", 1), ("end_effectors_pos", 12),
    ("joints_pos", 56), ("joints_vel", 56), ("sensors_accelerometer", 3), ("sensors_gyro", 3), ("sensors_torque", 6),
    ("sensors_touch", 10), ("sensors_velocimeter", 3), ("world_zaxis", 3),
)  # fmt: skip
UPRIGHT = (0.0, 0.0, 1.143, 0.859, 1.0, 1.0, 0.859)
_TOUCHED, _TORQUE = 1e-3, 60.0


def _slices() -> dict[str, tuple[int, int]]:
    ends = np.cumsum([width for _, width in OBSERVABLES]).tolist()
    found = {name: (end - width, end) for (name, width), end in zip(OBSERVABLES, ends, strict=True)}
    return found | {"height": found["body_height"]}


def standing_frames() -> np.ndarray:
    """Return the frames of our own that episodes begin with: standing, positions and velocities [12, 63 + 62]."""
    return read_arrays(Path(__file__).with_name("cmu_standing.npz"), "the standing frames")["frames"].astype(float)


@dataclasses.dataclass(frozen=True)
class CMUHumanoid:
    """Position-controlled CMU humanoid of dm-control (V2020) in plain MuJoCo; axes of the body: x left, y up, z ahead.

    Attributes:
        starts: positions and velocities that episodes begin with, [K, 63 + 62]; None: dm-control's upright pose, in
            which nothing holds it. `find_body` gives it `standing_frames`.
        velocity_noise: standard deviation of what is added to the root's velocities.
        contact_ends: whether a contact of anything but the feet with the floor is a fall.
        max_steps: control steps of an episode: 12 s.
    """

    starts: np.ndarray | None = None
    velocity_noise: float = 0.1
    contact_ends: bool = True
    max_steps: int = 400
    env_id: str = "CMUHumanoid"
    frame_skip: int = 6
    slices: Mapping[str, tuple[int, int]] = dataclasses.field(default_factory=_slices)
    senses: bool = True
    falls: bool = True

    def compile(self, mujoco: Any) -> Any:
        """Return the model."""
        return mujoco.MjModel.from_xml_path(str(model_path(mujoco)))

    def begin(self, model: Any, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Return positions [count, 63] and velocities [count, 62] of starts."""
        upright = np.concatenate([UPRIGHT, np.zeros(model.nq - 7 + model.nv)])[None]
        starts = upright if self.starts is None else np.asarray(self.starts, float)
        if starts.ndim != 2 or starts.shape[1] != model.nq + model.nv or not np.isfinite(starts).all():
            raise UserError(f"Starts have shape {list(starts.shape)}; they must be finite, [K, {model.nq + model.nv}].")
        chosen = starts[rng.integers(len(starts), size=count)]
        qpos, qvel = chosen[:, : model.nq].copy(), chosen[:, model.nq :].copy()
        qpos[:, 3:7] /= np.linalg.norm(qpos[:, 3:7], axis=1, keepdims=True)
        qvel[:, :6] += self.velocity_noise * rng.standard_normal((count, 6))
        return qpos, qvel

    def observe(self, model: Any, states: np.ndarray) -> np.ndarray:
        """Return observations [..., 224] of states [..., physics and sensors]."""
        nq, nv, na = model.nq, model.nv, model.na
        qpos, qvel, act, sensors = np.split(states[..., 1:], np.cumsum([nq, nv, na]), -1)
        position, velocity = _joint_addresses(model)
        places = np.concatenate([_sensor(model, sensors, f"place_{name}") for name in END_EFFECTORS], -1)
        parts = {
            "actuator_activation": act,
            "appendages_pos": places,
            "body_height": qpos[..., 2:3],
            "end_effectors_pos": places[..., :12],
            "joints_pos": qpos[..., position],
            "joints_vel": qvel[..., velocity],
            "sensors_accelerometer": _sensor(model, sensors, "sensor_root_accel"),
            "sensors_gyro": _sensor(model, sensors, "sensor_root_gyro"),
            "sensors_torque": np.tanh(2 * _sensors(model, sensors, "sensor_torque_") / _TORQUE),
            "sensors_touch": (_sensors(model, sensors, "sensor_touch_") > _TOUCHED).astype(float),
            "sensors_velocimeter": _sensor(model, sensors, "sensor_root_veloc"),
            "world_zaxis": _world_up(qpos[..., 3:7]),
        }
        return np.concatenate([parts[name] for name, _ in OBSERVABLES], -1)

    def fallen(self, model: Any, states: np.ndarray) -> np.ndarray:
        """Return whether something other than the feet touches the floor, or the simulation blew up, booleans [...]."""
        bad = ~np.isfinite(states).all(-1)
        if self.contact_ends:
            sensors = states[..., -model.nsensordata :]
            bad = bad | (_sensors(model, sensors, "down_") > 0).any(-1)
        return np.asarray(bad)


def _joint_addresses(model: Any) -> tuple[np.ndarray, np.ndarray]:
    """Where each actuator's joint is in `qpos` and `qvel`."""
    joints = model.actuator_trnid[:, 0]
    return model.jnt_qposadr[joints], model.jnt_dofadr[joints]


def _sensor(model: Any, sensors: np.ndarray, name: str) -> np.ndarray:
    sensor = model.sensor(name)
    return sensors[..., int(sensor.adr[0]) : int(sensor.adr[0] + sensor.dim[0])]


def _sensors(model: Any, sensors: np.ndarray, prefix: str) -> np.ndarray:
    names = (model.sensor(i).name for i in range(model.nsensor))
    return np.concatenate([_sensor(model, sensors, name) for name in names if name.startswith(prefix)], -1)


def _world_up(quaternion: np.ndarray) -> np.ndarray:
    """Return the world's z axis in a body's frame, [..., 3], of the body's quaternion w, x, y, z."""
    w, x, y, z = np.moveaxis(quaternion / np.linalg.norm(quaternion, axis=-1, keepdims=True), -1, 0)
    return np.stack([2 * (x * z - w * y), 2 * (y * z + w * x), w * w - x * x - y * y + z * z], -1)
