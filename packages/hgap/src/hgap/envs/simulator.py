"""Many copies of a body, stepped and rolled out together by `mujoco.rollout`."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import mujoco as _mujoco
import numpy as np
from mujoco import rollout

from hgap.envs.bodies import Body

__all__ = ["Rollout", "Simulator"]

mujoco: Any = _mujoco  # its extension module has no types


class Rollout(NamedTuple):
    """What followed from B starts and T actions each.

    Attributes:
        states: full physics states [B, T, nstate]; `Simulator.roll` takes them as starts.
        observations: [B, T, S], after each action.
    """

    states: np.ndarray
    observations: np.ndarray


def _compile(body: Body) -> Any:
    """Return the model. What MuJoCo says of gymnasium's files is kept from the screen and MUJOCO_LOG.TXT."""
    before = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(lambda message: None)
    try:
        return mujoco.MjModel.from_xml_path(str(body.model_path))
    finally:
        mujoco.set_mju_user_warning(before)


class Simulator:
    """The true dynamics of a body, for any number of copies at once.

        simulator = Simulator(find_body("HalfCheetah-v5"))
        states = simulator.reset(8, np.random.default_rng(0))
        after = simulator.roll(states, actions)          # actions [8, T, A] in the model's range

    A full physics state is MuJoCo's `mjSTATE_FULLPHYSICS`: time, positions, velocities and actuators. Solver warm
    starts are not in it, so a state determines what follows up to the solver's tolerance and not to the last bit.

    Args:
        body: what is simulated.
        threads: that MuJoCo uses.
    """

    def __init__(self, body: Body, threads: int | None = None) -> None:
        self.body = body
        self.model = _compile(body)
        self._data = [mujoco.MjData(self.model) for _ in range(threads or min(2, os.cpu_count() or 1))]
        self.spec = mujoco.mjtState.mjSTATE_FULLPHYSICS
        self.state_size = mujoco.mj_stateSize(self.model, self.spec)
        self.action_size = int(self.model.nu)
        low, high = self.model.actuator_ctrlrange.T
        self.action_low, self.action_high = low.copy(), high.copy()
        self._q, self._v = 1, 1 + self.model.nq  # the time comes first
        self.observation_size = self.model.nq - body.skip + self.model.nv
        self.control_step = self.model.opt.timestep * body.frame_skip

    def reset(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Return `count` starts as gymnasium draws them, full physics states [count, nstate]."""
        body, model = self.body, self.model
        states = np.zeros((count, self.state_size))
        noise = body.reset_noise
        states[:, self._q : self._v] = model.qpos0 + rng.uniform(-noise, noise, (count, model.nq))
        if body.velocity_noise is None:
            speed = noise * rng.standard_normal((count, model.nv))
        else:
            speed = rng.uniform(-body.velocity_noise, body.velocity_noise, (count, model.nv))
        states[:, self._v : self._v + model.nv] = speed
        return states

    def observe(self, states: np.ndarray) -> np.ndarray:
        """Return the observations [..., S] of full physics states [..., nstate]."""
        qpos, qvel = states[..., self._q : self._v], states[..., self._v : self._v + self.model.nv]
        return self.body.observe(qpos, qvel)

    def roll(self, states: np.ndarray, actions: np.ndarray) -> Rollout:
        """Apply T actions each to B copies.

        Args:
            states: full physics states [B, nstate].
            actions: [B, T, A], clipped to the model's range; each is held for a control step.
        """
        skip = self.body.frame_skip
        control = np.repeat(np.clip(actions, self.action_low, self.action_high), skip, axis=1)
        visited, _ = rollout.rollout(
            self.model, self._data, np.ascontiguousarray(states, np.float64), np.ascontiguousarray(control, np.float64),
            persistent_pool=True,
        )  # fmt: skip
        visited = visited[:, skip - 1 :: skip]
        return Rollout(visited, self.observe(visited))
