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
        states: [B, T, nstate]; `Simulator.roll` takes them as starts. NaN from where the simulation blew up.
        observations: [B, T, S], after each action.
    """

    states: np.ndarray
    observations: np.ndarray


def _compile(body: Body) -> Any:
    """Return the model. What MuJoCo says of gymnasium's files is kept from the screen and MUJOCO_LOG.TXT."""
    before = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(lambda message: None)
    try:
        return body.compile(mujoco)
    finally:
        mujoco.set_mju_user_warning(before)


class Simulator:
    """The true dynamics of a body, for any number of copies at once.

        simulator = Simulator(find_body("HalfCheetah-v5"))
        states = simulator.reset(8, np.random.default_rng(0))
        after = simulator.roll(states, actions)          # actions [8, T, A] in the model's range

    A state is MuJoCo's `mjSTATE_FULLPHYSICS` (time, positions, velocities and actuators) and, for a body that senses,
    its sensors. Solver warm starts are not in it, so a state determines what follows up to the solver's tolerance and
    not to the last bit.

    Args:
        body: what is simulated.
        threads: that MuJoCo uses.
    """

    def __init__(self, body: Body, threads: int | None = None) -> None:
        self.body = body
        self.model = model = _compile(body)
        self._data = [mujoco.MjData(model) for _ in range(threads or min(2, os.cpu_count() or 1))]
        self.spec = mujoco.mjtState.mjSTATE_FULLPHYSICS
        self.physics_size = mujoco.mj_stateSize(model, self.spec)
        self.state_size = self.physics_size + (model.nsensordata if body.senses else 0)
        self.action_size = int(model.nu)
        low, high = model.actuator_ctrlrange.T
        self.action_low, self.action_high = low.copy(), high.copy()
        self.control_step = model.opt.timestep * body.frame_skip
        self.observation_size = self.observe(self.states_of(model.qpos0[None], np.zeros((1, model.nv)))).shape[-1]

    def reset(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Return `count` starts as the body draws them, states [count, nstate]."""
        return self.states_of(*self.body.begin(self.model, count, rng))

    def states_of(self, qpos: np.ndarray, qvel: np.ndarray) -> np.ndarray:
        """Return the states [B, nstate] of positions [B, nq] and velocities [B, nv], before any control."""
        physics = np.zeros((len(qpos), self.physics_size))
        physics[:, 1 : 1 + self.model.nq] = qpos
        physics[:, 1 + self.model.nq : 1 + self.model.nq + self.model.nv] = qvel
        if not self.body.senses:
            return physics
        options, flags = self.model.opt, self.model.opt.disableflags
        options.disableflags = flags | mujoco.mjtDisableBit.mjDSBL_ACTUATION
        _, sensors = self._rollout(physics, np.zeros((len(qpos), 1, self.action_size)))
        options.disableflags = flags
        return np.concatenate([physics, sensors[:, 0]], -1)

    def observe(self, states: np.ndarray) -> np.ndarray:
        """Return the observations [..., S] of states [..., nstate]."""
        return self.body.observe(self.model, states)

    def fallen(self, states: np.ndarray) -> np.ndarray:
        """Return which bodies have fallen, booleans [...] of states [..., nstate]."""
        return self.body.fallen(self.model, states)

    def roll(self, states: np.ndarray, actions: np.ndarray) -> Rollout:
        """Apply T actions each to B copies.

        Args:
            states: [B, nstate].
            actions: [B, T, A], clipped to the model's range; each is held for a control step.
        """
        skip = self.body.frame_skip
        control = np.repeat(np.clip(actions, self.action_low, self.action_high), skip, axis=1)
        if self.body.senses:  # one physics step more: MuJoCo computes a state's sensors when it leaves it
            control = np.concatenate([control, control[:, -1:]], 1)
        visited, sensors = self._rollout(states[:, : self.physics_size], control)
        physics = visited[:, skip - 1 :: skip]
        # A simulation that blows up is put back by MuJoCo, and its clock with it: what follows is not a number.
        clock = states[:, :1] + self.control_step * np.arange(1, actions.shape[1] + 1)
        physics = np.where((np.abs(physics[..., 0] - clock) < self.control_step / 2)[..., None], physics, np.nan)
        if self.body.senses:
            physics = np.concatenate([physics, sensors[:, skip::skip]], -1)
        return Rollout(physics, self.observe(physics))

    def _rollout(self, physics: np.ndarray, control: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return rollout.rollout(
            self.model, self._data, np.ascontiguousarray(physics, np.float64),
            np.ascontiguousarray(control, np.float64), persistent_pool=True,
        )  # fmt: skip
