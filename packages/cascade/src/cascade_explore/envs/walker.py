"""dm_control's planar walker, stepped by MuJoCo itself; of dm_control only the body's description is read."""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from cascade_explore.config import Walker
from cascade_explore.envs.spec import Actions, Numbers
from paperloop.errors import UserError

__all__ = ["WalkerEnv"]

SUBSTEPS = 10  # of 2.5 ms in a control step


class WalkerEnv:
    """The walker as a `HostEnv`: what it sees are orientations, height and velocities, 24 numbers.

    Facts are what its tasks are made of: height of the torso in metres, the cosine of its inclination, horizontal speed
    of the centre of mass in m/s, and angular momentum about the axis across, in kg m²/s.

    Raises:
        UserError: MuJoCo or dm_control is missing.
    """

    facts = ("height", "upright", "speed", "spin")
    observation, actions = Numbers(24), Actions(6, discrete=False)

    def __init__(self, config: Walker) -> None:
        spec = find_spec("dm_control")
        if spec is None or not spec.submodule_search_locations or find_spec("mujoco") is None:
            raise UserError("dm-control is not installed: pip install 'cascade-explore[dmc]'.")
        self._mujoco: Any = importlib.import_module("mujoco")
        file = Path(spec.submodule_search_locations[0]) / "suite" / "walker.xml"
        self._model = self._mujoco.MjModel.from_xml_path(str(file))
        self._data = self._mujoco.MjData(self._model)
        self._torso: int = self._model.body("torso").id
        self._speed: int = self._model.sensor("torso_subtreelinvel").adr[0]
        self._repeat, self._rng = config.repeat, np.random.default_rng()
        self.limit = round(config.seconds / (self._model.opt.timestep * SUBSTEPS * config.repeat))
        self._time = 0

    def reset(self, seed: int | None) -> np.ndarray:
        """Begin from a random pose: limited joints within their range, the torso at any angle."""
        if seed is not None:
            self._rng = np.random.default_rng(seed)
        m, model = self._mujoco, self._model
        m.mj_resetData(model, self._data)
        for i in range(model.njnt):
            low, high = model.jnt_range[i] if model.jnt_limited[i] else (-np.pi, np.pi)
            if model.jnt_limited[i] or model.jnt_type[i] == m.mjtJoint.mjJNT_HINGE:
                self._data.qpos[model.jnt_qposadr[i]] = self._rng.uniform(low, high)
        m.mj_forward(model, self._data)
        self._time = 0
        return self._seen()

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool]:
        """Do `repeat` control steps; without a reward; only the time limit ends an episode."""
        m, model, data = self._mujoco, self._model, self._data
        data.ctrl[:] = np.clip(action, -1.0, 1.0)
        for _ in range(self._repeat):
            # The second half of a step first, so that position and what follows from it are of the same time.
            m.mj_step2(model, data)
            m.mj_step(model, data, nstep=SUBSTEPS - 1)
            m.mj_step1(model, data)
        self._time += 1
        return self._seen(), 0.0, False, self._time >= self.limit

    def step_from(self, qpos: np.ndarray, qvel: np.ndarray, warm: np.ndarray, action: Any) -> np.ndarray:
        """Return what is seen after a step from a given state of MuJoCo, its solver's warm start included."""
        data = self._data
        data.qpos[:], data.qvel[:], data.qacc_warmstart[:] = qpos, qvel, warm
        self._mujoco.mj_step1(self._model, data)
        return self.step(action)[0]

    def _seen(self) -> np.ndarray:
        data = self._data
        return np.concatenate([data.xmat[1:, [0, 2]].ravel(), data.xpos[self._torso, 2:], data.qvel])

    def measure(self) -> tuple[float, ...]:
        """Return height, upright, speed and spin."""
        data, torso = self._data, self._torso
        return (
            data.xpos[torso, 2], data.xmat[torso, 8], data.sensordata[self._speed], data.subtree_angmom[torso, 1]
        )  # fmt: skip

    def close(self) -> None:
        """Nothing to release."""
