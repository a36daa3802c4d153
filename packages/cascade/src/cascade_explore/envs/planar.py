"""dm_control's planar bodies, stepped by MuJoCo itself; of dm_control only a body's description is read."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cascade_explore.config import Cheetah, Walker
from cascade_explore.envs.spec import Actions, Numbers, Observed, Pixels
from paperloop.errors import UserError, setting

__all__ = ["PlanarEnv"]


class Body(NamedTuple):
    """What one of dm_control's tasks makes of a body.

    Attributes:
        file: of its description.
        substeps: of MuJoCo in a control step.
        settle: steps of MuJoCo after a reset, in which the body comes to rest.
        turns: whether joints without limits start at any angle; otherwise at 0.
        sees: what is observed, from MuJoCo's data.
        width: of that.
    """

    file: str
    substeps: int
    settle: int
    turns: bool
    sees: Callable[[Any], np.ndarray]
    width: int


BODIES = {
    # Orientations of the parts, height of the torso, velocities.
    "walker": Body(
        "walker.xml", 10, 0, True, lambda d: np.concatenate([d.xmat[1:, [0, 2]].ravel(), d.xpos[1, 2:], d.qvel]), 24
    ),
    # Positions but the horizontal one, velocities.
    "cheetah": Body("cheetah.xml", 1, 200, False, lambda d: np.concatenate([d.qpos[1:], d.qvel]), 17),
}


class PlanarEnv:
    """The walker or the cheetah from proprioception, or from the side as an image, as a `HostEnv`.

    Facts are what the tasks are made of: height of the torso in metres, the cosine of its inclination, horizontal speed
    of the centre of mass in m/s, and angular momentum about the axis across, in kg m²/s.

    Raises:
        UserError: MuJoCo or dm_control is missing, or images are asked for where none can be made.
    """

    facts = ("height", "upright", "speed", "spin")
    actions = Actions(6, discrete=False)

    def __init__(self, config: Walker | Cheetah) -> None:
        spec = find_spec("dm_control")
        if spec is None or not spec.submodule_search_locations or find_spec("mujoco") is None:
            raise UserError("dm-control is not installed: pip install 'cascade-explore[dmc]'.")
        try:
            self._mujoco: Any = importlib.import_module("mujoco")
        except Exception as error:  # it looks for OpenGL at once
            raise UserError(f"MuJoCo cannot be imported: {_first_line(error)} (MUJOCO_GL=egl may help).") from None
        self._body = BODIES[config.type]
        file = Path(spec.submodule_search_locations[0]) / "suite" / self._body.file
        self._model = self._mujoco.MjModel.from_xml_path(str(file))
        self._data = self._mujoco.MjData(self._model)
        self._torso: int = self._model.body("torso").id
        self._speed: int = self._model.sensor("torso_subtreelinvel").adr[0]
        self._repeat, self._rng = config.repeat, np.random.default_rng()
        self.observation: Observed = Pixels(3) if config.pixels else Numbers(self._body.width)
        self._renderer = _renderer(file) if config.pixels else None
        self.limit = round(config.seconds / (self._model.opt.timestep * self._body.substeps * config.repeat))
        self._time = 0

    def reset(self, seed: int | None) -> np.ndarray:
        """Begin from a random pose, as dm_control draws it: limited joints within their range."""
        if seed is not None:
            self._rng = np.random.default_rng(seed)
        m, model = self._mujoco, self._model
        m.mj_resetData(model, self._data)
        m.mj_forward(model, self._data)
        for i in range(model.njnt):
            low, high = model.jnt_range[i] if model.jnt_limited[i] else (-np.pi, np.pi)
            if model.jnt_limited[i] or (self._body.turns and model.jnt_type[i] == m.mjtJoint.mjJNT_HINGE):
                self._data.qpos[model.jnt_qposadr[i]] = self._rng.uniform(low, high)
        if self._body.settle:
            self._advance(self._body.settle)
        m.mj_forward(model, self._data)
        self._time = 0
        return self._seen()

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool]:
        """Do `repeat` control steps; without a reward; only the time limit ends an episode."""
        self._data.ctrl[:] = np.clip(action, -1.0, 1.0)
        for _ in range(self._repeat):
            self._advance(self._body.substeps)
        self._time += 1
        return self._seen(), 0.0, False, self._time >= self.limit

    def _seen(self) -> np.ndarray:
        if self._renderer is None:
            return self._body.sees(self._data)
        self._renderer.update_scene(self._data, camera=0)
        return self._renderer.render()

    def _advance(self, steps: int) -> None:
        """Do the second half of a step first, so that position and what follows from it are of the same time."""
        m, model, data = self._mujoco, self._model, self._data
        m.mj_step2(model, data)
        if steps > 1:
            m.mj_step(model, data, nstep=steps - 1)
        m.mj_step1(model, data)

    def step_from(self, qpos: np.ndarray, qvel: np.ndarray, warm: np.ndarray, action: Any) -> np.ndarray:
        """Return what is seen after a step from a given state of MuJoCo, its solver's warm start included."""
        data = self._data
        data.qpos[:], data.qvel[:], data.qacc_warmstart[:] = qpos, qvel, warm
        self._mujoco.mj_step1(self._model, data)
        return self.step(action)[0]

    def measure(self) -> tuple[float, ...]:
        """Return height, upright, speed and spin."""
        data, torso = self._data, self._torso
        return (
            data.xpos[torso, 2], data.xmat[torso, 8], data.sensordata[self._speed], data.subtree_angmom[torso, 1]
        )  # fmt: skip

    def close(self) -> None:
        """Nothing to release."""


@cache
def _renderer(file: Path) -> Any:
    """Return what draws a body, one for all its copies: each would hold an OpenGL context of its own."""
    mujoco: Any = importlib.import_module("mujoco")
    try:
        return mujoco.Renderer(mujoco.MjModel.from_xml_path(str(file)), 64, 64)
    except Exception as error:  # OpenGL's many ways to be absent
        raise UserError(
            f"{setting('env.pixels')} needs OpenGL, which MuJoCo cannot start ({_first_line(error)}): set "
            "MUJOCO_GL=egl, which needs no display but a GPU or Mesa (Debian's libegl1), or leave it out."
        ) from None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
