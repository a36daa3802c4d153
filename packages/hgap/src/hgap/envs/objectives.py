"""Objectives: functions of trajectories in physical units, and a library of them made of named terms.

An objective is any callable that takes a `Trajectory` and returns rewards [..., T], which are summed, or totals [...].
The terms here are written in the array API, so that JAX traces them and NumPy runs them on what a simulator returned:
the planner and the evaluation use the same function. On the CMU humanoid, which senses its motion in its own frame,
the terms are the rewards of H-GAP's tasks (`left` is its shift_left, `turn` its rotate_y), whose projections leave out
a second term, as in the released code.
"""

from __future__ import annotations

import dataclasses
import runpy
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from paperloop.errors import UserError
from paperloop.files import check_is_file
from paperloop.settings import did_you_mean

__all__ = ["OBJECTIVES", "TERMS", "Objective", "Trajectory", "Weighted", "find_objective", "near", "total"]

Slices = Mapping[str, tuple[int, int]]


@dataclasses.dataclass(frozen=True)
class Trajectory:
    """What actions led to, in physical units.

    Attributes:
        states: [..., T, S], the state after each action.
        actions: [..., T, A].
        slices: name -> (start, stop) within a state.
    """

    states: Any
    actions: Any
    slices: Slices

    def __getitem__(self, name: str) -> Any:
        """Return a named part of the states: [..., T] where it is one number, else [..., T, width]."""
        if name not in self.slices:
            raise UserError(f"The states have no part {name!r}{did_you_mean(name, self.slices)}")
        start, stop = self.slices[name]
        return self.states[..., start] if stop == start + 1 else self.states[..., start:stop]

    def has(self, name: str) -> bool:
        """Whether the states have a part of that name."""
        return name in self.slices

    @property
    def xp(self) -> Any:
        """The array library of the states: `jax.numpy` while planning, `numpy` on recorded motion."""
        return self.states.__array_namespace__()


Objective = Callable[[Trajectory], Any]


def component(name: str, index: int, sign: float = 1.0) -> Objective:
    """Return a term that is a number of a named part of the state, or minus it."""
    return lambda trajectory: sign * trajectory[name][..., index]


def _level(trajectory: Trajectory, axis: int, other: int) -> Any:
    """Return the velocity along an axis times u_y / |(u_y, u_other)|, u being up in the body's frame."""
    up, moved = trajectory["world_zaxis"], trajectory["sensors_velocimeter"][..., axis]
    length = trajectory.xp.sqrt(up[..., 1] ** 2 + up[..., other] ** 2)
    return up[..., 1] / trajectory.xp.clip(length, 1e-12, None) * moved


def velocity(trajectory: Trajectory) -> Any:
    """Return the velocity along x, m/s; ahead for a body that senses its own."""
    return _level(trajectory, 2, 2) if trajectory.has("world_zaxis") else trajectory["velocity_x"]


def backwards(trajectory: Trajectory) -> Any:
    """Return minus `velocity`, m/s."""
    return -velocity(trajectory)


def sideways(trajectory: Trajectory) -> Any:
    """Return the velocity along y, m/s; to the left for a body that senses its own."""
    return _level(trajectory, 0, 0) if trajectory.has("world_zaxis") else trajectory["velocity_y"]


def speed(trajectory: Trajectory) -> Any:
    """Return the length of the root's velocity, m/s."""
    if trajectory.has("sensors_velocimeter"):
        return trajectory.xp.sqrt((trajectory["sensors_velocimeter"] ** 2).sum(-1) + 1e-12)
    parts = [trajectory[name] ** 2 for name in ("velocity_x", "velocity_y", "velocity_z") if trajectory.has(name)]
    return trajectory.xp.sqrt(sum(parts[1:], parts[0]) + 1e-12)


def stillness(trajectory: Trajectory) -> Any:
    """Return minus the speed."""
    return -speed(trajectory)


def jump(trajectory: Trajectory) -> Any:
    """Return the upward part of the vertical velocity, m/s."""
    if trajectory.has("world_zaxis"):
        rising = (trajectory["sensors_velocimeter"] * trajectory["world_zaxis"]).sum(-1)
    else:
        rising = trajectory["velocity_z"]
    return trajectory.xp.clip(rising, 0.0, None)


def height(trajectory: Trajectory) -> Any:
    """Return the root's height coordinate, m."""
    return trajectory["height"]


def turn(trajectory: Trajectory) -> Any:
    """Return the turning rate to the left, or forwards over the head for a body in the plane, rad/s."""
    if trajectory.has("sensors_gyro"):
        return trajectory["sensors_gyro"][..., 1]
    return trajectory["yaw_rate" if trajectory.has("yaw_rate") else "pitch_rate"]


def upright(trajectory: Trajectory) -> Any:
    """Return the vertical component of the body's up axis, in [-1, 1]."""
    if trajectory.has("world_zaxis"):
        return trajectory["world_zaxis"][..., 1]
    if trajectory.has("orientation"):
        quaternion = trajectory["orientation"]
        return 1 - 2 * (quaternion[..., 1] ** 2 + quaternion[..., 2] ** 2)
    return trajectory.xp.cos(trajectory["pitch"])


def effort(trajectory: Trajectory) -> Any:
    """Return minus the mean squared action."""
    return -(trajectory.actions**2).mean(-1)


def near(name: str, target: float, scale: float = 1.0) -> Objective:
    """Return a term that is 1 where a named part is at its target and falls off as exp(-((x - target) / scale)^2)."""

    def term(trajectory: Trajectory) -> Any:
        return trajectory.xp.exp(-(((trajectory[name] - target) / scale) ** 2))

    return term


TERMS: dict[str, Objective] = {
    term.__name__: term
    for term in (velocity, backwards, sideways, speed, stillness, jump, height, turn, upright, effort)
}


@dataclasses.dataclass(frozen=True)
class Weighted:
    """A weighted sum of named terms.

        Weighted({"velocity": 1.0, "upright": 0.5})
        Weighted({"velocity": 1.0}, constraints={"height": (0.8, 2.0)}, penalty=10)

    Attributes:
        weights: term -> weight; a term is a name of `TERMS` or a callable.
        constraints: part of the state -> (low, high); each step outside costs `penalty`.
        penalty: what a violated constraint costs a step.
    """

    weights: Mapping[str | Objective, float]
    constraints: Mapping[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
    penalty: float = 10.0

    def __post_init__(self) -> None:
        for name in self.weights:
            if isinstance(name, str) and name not in TERMS:
                raise UserError(f"Unknown term {name!r}{did_you_mean(name, TERMS)}")

    def __call__(self, trajectory: Trajectory) -> Any:
        """Return rewards [..., T]."""
        terms = [weight * _term(name)(trajectory) for name, weight in self.weights.items()]
        rewards = sum(terms[1:], terms[0])
        for name, (low, high) in self.constraints.items():
            value = trajectory[name]
            rewards = rewards - self.penalty * ((value < low) | (value > high))
        return rewards


def _term(name: str | Objective) -> Objective:
    return TERMS[name] if isinstance(name, str) else name


OBJECTIVES: dict[str, Objective] = {
    "forward": Weighted({"velocity": 1.0}),
    "backward": Weighted({"backwards": 1.0}),
    "left": Weighted({"sideways": 1.0}),
    "speed": Weighted({"speed": 1.0}),
    "stop": Weighted({"stillness": 1.0}),
    "jump": Weighted({"jump": 1.0}),
    "turn": Weighted({"turn": 1.0}),
    "turn_back": Weighted({"turn": -1.0}),
    "slow": Weighted({near("velocity_x", 1.0, 0.5): 1.0}),
    "tall": Weighted({"height": 1.0}),
    "upright_forward": Weighted({"velocity": 1.0, "upright": 1.0}),
    # The other tasks of H-GAP's humanoid; falls do not end the first two.
    "rotate_x": component("sensors_gyro", 0),
    "rotate_z": component("sensors_gyro", 2),
    "x_vel": component("sensors_velocimeter", 0),
    "y_vel": component("sensors_velocimeter", 1),
    "z_vel": component("sensors_velocimeter", 2),
    "negative_z_vel": component("sensors_velocimeter", 2, -1.0),
}


def find_objective(name: str) -> Objective:
    """Return an objective of the library by name, or the function `objective` of a Python file.

    Raises:
        UserError: there is none of that name, the file cannot be run or defines none; on recorded motion, also where
            the file's function fails, with its line.
    """
    if not name.endswith(".py"):
        if name not in OBJECTIVES:
            raise UserError(
                f"Unknown objective {name!r}{did_you_mean(name, OBJECTIVES)} A Python file (NAME.py) that defines "
                "objective(trajectory) will do, too."
            )
        return OBJECTIVES[name]
    path = check_is_file(Path(name))
    try:
        found = runpy.run_path(str(path)).get("objective")
    except (Exception, SystemExit) as error:
        raise UserError(f"{_where(path, error)}: the file cannot be run: {_said(error)}.") from error
    if not callable(found):
        raise UserError(f"{name} does not define a function objective(trajectory).")

    def objective(trajectory: Trajectory) -> Any:
        try:
            return found(trajectory)
        except UserError:
            raise
        except Exception as error:
            if not isinstance(trajectory.states, np.ndarray):  # JAX traces it: where it cannot, NumPy is tried
                raise
            raise UserError(f"{_where(path, error)}: the objective fails: {_said(error)}.") from error

    return objective


def _where(path: Path, error: BaseException) -> str:
    """Return the file and its last line that an error passed."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    line = getattr(error, "lineno", None) or (lines[-1] if lines else None)
    return f"{path}, line {line}" if line else str(path)


def _said(error: BaseException) -> str:
    said = str(getattr(error, "msg", None) or error).splitlines() or ["no message"]
    return f"{type(error).__name__}: {said[0]}".rstrip(".")


def total(rewards: Any, batch: tuple[int, ...]) -> Any:
    """Return totals of the shape `batch` from what an objective returned: totals, or rewards with a time axis.

    Raises:
        UserError: it has another shape.
    """
    shape = tuple(getattr(rewards, "shape", ()))
    if "complex" in str(getattr(rewards, "dtype", "")):
        raise UserError("The objective returned complex numbers: return real ones.")
    if shape == batch:
        return rewards
    if shape[:-1] == batch and len(shape) == len(batch) + 1:
        return rewards.sum(-1)
    raise UserError(
        f"The objective returned shape {list(shape)} for {list(batch)} trajectories: return one total for each, or one "
        "reward for each step."
    )
