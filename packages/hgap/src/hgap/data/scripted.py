"""Motion of the CMU humanoid without learning or recordings: it keeps its balance between stances of our own making.

A stance is a pose with flat feet and the centre of mass above them, the controls that hold it, and a linear feedback
from the observations: the linear-quadratic regulator of the dynamics about the pose. A behaviour is the way to a
stance, along which pose, controls and feedback are blended.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from scipy.linalg import solve_discrete_are
from scipy.optimize import least_squares

from hgap.data.behaviours import Behaviours
from hgap.envs.cmu import UPRIGHT, CMUHumanoid
from hgap.envs.simulator import Simulator, mujoco
from paperloop.errors import UserError
from paperloop.settings import did_you_mean

__all__ = ["GOALS", "Goal", "Scripted", "Stances", "scripted", "stances", "standing"]

#: Distance of the feet, m.
WIDTH = 0.36
_LEG = ("femurrx", "femurry", "femurrz", "tibiarx", "footrx", "footrz", "toesrx")


class Goal(NamedTuple):
    """What a stance is asked for.

    Attributes:
        joints: angles of trunk and arms, rad, other than those of arms that hang.
        height: of the root, m; None: as the legs have it nearly stretched.
        lean: how much an unbent pelvis counts: the lower, the more it is tilted to keep the balance.
        ahead: how far the centre of mass is ahead of the feet's middle, m.
        left: likewise to the left.
    """

    joints: Mapping[str, float] = {}
    height: float | None = None
    lean: float = 3.0
    ahead: float = 0.0
    left: float = 0.0


_HANG = {"lhumerusrz": 1.0, "rhumerusrz": -1.0, "lradiusrx": 0.3, "rradiusrx": 0.3}
_RIGHT, _LEFT = {"rhumerusrz": 0.9}, {"lhumerusrz": -0.9}
_AHEAD = {"lhumerusrz": 0.3, "rhumerusrz": -0.3, "lhumerusrx": 1.0, "rhumerusrx": 1.0}

GOALS: dict[str, Goal] = {
    "stand": Goal(),
    "crouch/1": Goal(height=1.04),
    "crouch/2": Goal(height=0.99, lean=0.5),
    "crouch/3": Goal(height=0.96, lean=0.5),
    "right_arm": Goal(_RIGHT),
    "right_arm/half": Goal({"rhumerusrz": 0.1}),
    "left_arm": Goal(_LEFT),
    "left_arm/half": Goal({"lhumerusrz": -0.1}),
    "both_arms": Goal(_RIGHT | _LEFT),
    "arms_ahead": Goal(_AHEAD),
    "crouch/arms": Goal(_RIGHT | _LEFT, height=1.0, lean=0.5),
    "bow": Goal({"lowerbackrx": 0.4, "upperbackrx": 0.25}),
    "lean_back": Goal({"lowerbackrx": -0.2, "upperbackrx": -0.2, "thoraxrx": -0.2}),
    "lean_left": Goal({"lowerbackrz": 0.1, "upperbackrz": 0.15}),
    "lean_right": Goal({"lowerbackrz": -0.1, "upperbackrz": -0.15}),
    "turn_left": Goal({"lowerbackry": 0.25, "upperbackry": 0.25, "thoraxry": 0.2}),
    "turn_right": Goal({"lowerbackry": -0.25, "upperbackry": -0.25, "thoraxry": -0.2}),
}


class Stances(NamedTuple):
    """N stances.

    Attributes:
        qpos: poses, [N, 63].
        observations: in them, at rest, [N, 224].
        controls: that hold them, [N, 56].
        gains: controls per observation, [N, 56, 224]; zero for what is not needed.
    """

    qpos: np.ndarray
    observations: np.ndarray
    controls: np.ndarray
    gains: np.ndarray


class Scripted:
    """The policies of stances, one a stance; they remember where on their way they are.

    Args:
        found: the stances; the first is where an episode begins.
        blend: control steps of the way from one to another.
    """

    def __init__(self, found: Stances, blend: int = 30) -> None:
        self.stances, self.blend, self.size = found, blend, len(found.qpos)
        self.begin(1)

    def begin(self, copies: int) -> None:
        """Forget everything: episodes begin, in the first stance."""
        self.weights = np.zeros((copies, self.size))
        self.weights[:, 0] = 1.0
        self._before, self._goal, self._done = self.weights, np.zeros(copies, int), np.zeros(copies)

    def choose(self, chosen: np.ndarray, states: np.ndarray) -> np.ndarray:
        """Return actions [B, A] for observations [B, S] on the way to the stances with the numbers `chosen` [B]."""
        other = chosen != self._goal
        self._before = np.where(other[:, None], self.weights, self._before)
        self._goal, self._done = chosen, np.where(other, 0.0, np.minimum(self._done + 1 / self.blend, 1.0))
        share = (0.5 - 0.5 * np.cos(np.pi * self._done))[:, None]
        self.weights = (1 - share) * self._before + share * np.eye(self.size)[chosen]
        gap = states - self.weights @ self.stances.observations
        gains = np.einsum("bn,nas->bas", self.weights, self.stances.gains)
        return self.weights @ self.stances.controls - np.einsum("bas,bs->ba", gains, gap)

    def reference(self) -> np.ndarray:
        """Return the poses [B, 63] that are followed now, feet where the first stance has them."""
        qpos = self.weights @ self.stances.qpos
        qpos[:, 3:7] /= np.linalg.norm(qpos[:, 3:7], axis=1, keepdims=True)
        return qpos


def scripted(simulator: Simulator, names: tuple[str, ...] = tuple(GOALS)) -> Behaviours:
    """Return the behaviours of `GOALS` with these names; each takes about a second.

    Raises:
        UserError: there is none of a name.
    """
    for name in names:
        if name not in GOALS:
            raise UserError(f"CMUHumanoid has no behaviour {name!r}{did_you_mean(name, GOALS)}")
    found = stances(simulator, {name: GOALS[name] for name in names})
    return Behaviours(simulator.body.env_id, tuple(names), Scripted(found), "hgap.data.scripted")


def standing(simulator: Simulator, count: int = 12, seed: int = 0) -> np.ndarray:
    """Return frames of standing with noise on the controls, positions and velocities [K, 63 + 62].

    `hgap.envs.cmu.standing_frames` are those of seed 0.
    """
    rng, policy = np.random.default_rng(seed), Scripted(stances(simulator, {"stand": GOALS["stand"]}))
    physics = np.concatenate([policy.stances.qpos[0], np.zeros(simulator.model.nv)])
    states = simulator.states_of(*np.split(np.tile(physics, (count, 1)), [simulator.model.nq], 1))
    policy.begin(count)
    for _ in range(60):
        action = policy.choose(np.zeros(count, int), simulator.observe(states))
        states = simulator.roll(states, (action + 0.05 * rng.standard_normal(action.shape))[:, None]).states[:, -1]
    return states[:, 1 : 1 + len(physics)]


def stances(simulator: Simulator, goals: Mapping[str, Goal]) -> Stances:
    """Return the stances of goals.

    Raises:
        UserError: a goal names a joint that the body has not.
    """
    body, start, rows = _Body(simulator), None, []
    for goal in goals.values():
        unknown = [name for name in goal.joints if name not in body.index]
        if unknown:
            raise UserError(f"The CMU humanoid has no joint {unknown[0]!r}{did_you_mean(unknown[0], body.index)}")
        start = body.pose(goal, start)
        qpos, control = body.rest(start)
        states = simulator.states_of(qpos[None], np.zeros((1, body.model.nv)))
        states[:, 1 + body.model.nq + body.model.nv :][:, : body.model.na] = control
        rows.append((qpos, simulator.observe(states)[0], control, body.gains(qpos, control)))
    return Stances(*(np.stack(part) for part in zip(*rows, strict=True)))


class _Body:
    """Poses of the model, and its dynamics about them."""

    def __init__(self, simulator: Simulator) -> None:
        model = simulator.model
        self.model, self.data, self.skip = model, mujoco.MjData(model), simulator.body.frame_skip
        joints = model.actuator_trnid[:, 0]
        self.index = {model.joint(int(joint)).name: i for i, joint in enumerate(joints)}
        self.places, self.rates = model.jnt_qposadr[joints], model.jnt_dofadr[joints]
        self.low, self.high = model.jnt_range[joints].T
        self.legs = [self.index[side + name] for side in "lr" for name in _LEG]
        names = [model.geom(i).name for i in range(model.ngeom)]
        self.feet = {s: [i for i, n in enumerate(names) if n in (f"{s}foot", f"{s}foot_ch")] for s in "lr"}
        self.toes = {s: [i for i, n in enumerate(names) if n.startswith(f"{s}toes")] for s in "lr"}

    def pose(self, goal: Goal, start: np.ndarray | None) -> np.ndarray:
        """Return positions with flat feet below the centre of mass, found by least squares from those of `start`."""
        base = np.concatenate([UPRIGHT, np.zeros(len(self.places))]) if start is None else start.copy()
        base[3:7] /= np.linalg.norm(base[3:7])
        upper = {**_HANG, **goal.joints}
        for name, at in self.index.items():
            if at not in self.legs:
                base[self.places[at]] = upper.get(name, 0.0)
        nominal = np.array([-0.1, 0.0, 0.0, 0.15, 0.0, 0.0, 0.0] * 2)
        low, high = self.low[self.legs] + 0.03, self.high[self.legs] - 0.03

        def residuals(x: np.ndarray) -> np.ndarray:
            data = self._put(base, x)
            place, turned = data.geom_xpos, data.geom_xmat.reshape(-1, 3, 3)
            rows = []
            for side, y in (("l", WIDTH / 2), ("r", -WIDTH / 2)):
                feet = self.feet[side]
                axes = turned[feet, :, 2] * np.sign(turned[feet, 0, 2])[:, None]
                rows += [30 * (place[feet, 2] - 0.03), 10 * axes[:, 2], 5 * (place[self.toes[side], 2] - 0.03)]
                rows += [10 * (place[feet].mean(0)[:2] - [0.0, y]), 3 * axes.sum(0)[1:2]]
            root = data.body("root").xmat.reshape(3, 3)
            rows += [10 * (data.subtree_com[1][:2] - [goal.ahead, goal.left])]
            rows += [goal.lean * np.array([root[2, 2] + 0.15]), 3 * np.array([root[2, 0], root[1, 2]])]
            rows += [[] if goal.height is None else [20 * (x[2] - goal.height)]]
            rows += [5 * np.maximum(0, low - x[6:]) + 5 * np.maximum(0, x[6:] - high), 0.05 * (x[6:] - nominal)]
            return np.concatenate(rows)

        first = np.concatenate([base[:3], np.zeros(3), base[self.places[self.legs]]])
        self._put(base, least_squares(residuals, first, max_nfev=60).x)
        return self.data.qpos.copy()

    def _put(self, base: np.ndarray, x: np.ndarray) -> Any:
        """Put the root at x[:3], turned by x[3:6] from `base`, and the legs' angles at x[6:]."""
        data, quaternion = self.data, base[3:7].copy()
        mujoco.mju_quatIntegrate(quaternion, x[3:6], 1.0)
        data.qpos[:] = base
        data.qpos[:3], data.qpos[3:7], data.qpos[self.places[self.legs]] = x[:3], quaternion, x[6:]
        mujoco.mj_kinematics(self.model, data)
        mujoco.mj_comPos(self.model, data)
        return data

    def rest(self, qpos: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the positions as deep in the floor as it bears the weight, and the controls that hold them."""

        def force(down: float) -> np.ndarray:
            data = self.data
            mujoco.mj_resetData(self.model, data)
            data.qpos[:] = qpos
            data.qpos[2] -= down
            mujoco.mj_forward(self.model, data)
            data.qacc[:] = 0
            mujoco.mj_inverse(self.model, data)
            return data.qfrc_inverse.copy()

        shallow, deep = -0.005, 0.02
        for _ in range(40):
            middle = (shallow + deep) / 2
            shallow, deep = (middle, deep) if force(middle)[2] > 0 else (shallow, middle)
        found = qpos.copy()
        found[2] -= deep
        angles = qpos[self.places] - force(deep)[self.rates] / self.model.actuator_biasprm[:, 1]
        return found, (2 * angles - (self.high + self.low)) / (self.high - self.low)

    def gains(self, qpos: np.ndarray, control: np.ndarray) -> np.ndarray:
        """Return the regulator's controls per observation, [56, 224], on observations' distances from the stance's."""
        model, data, nv = self.model, self.data, self.model.nv
        mujoco.mj_resetData(model, data)
        data.qpos[:], data.act[:], data.ctrl[:] = qpos, control, control
        mujoco.mj_forward(model, data)
        size = 2 * nv + model.na
        step, push = np.zeros((size, size)), np.zeros((size, model.nu))
        mujoco.mjd_transitionFD(model, data, 1e-5, True, step, push, None, None)
        pushed, power = np.zeros_like(push), np.eye(size)
        for _ in range(self.skip):
            pushed, power = pushed + power @ push, step @ power
        feet = self._jacobian(self.feet["l"] + self.feet["r"])
        centre = np.zeros((3, nv))
        mujoco.mj_jacSubtreeCom(model, data, centre, 1)
        balance = (centre - feet[:3])[:2]
        balance = 1e3 * balance.T @ balance
        cost = 1e-6 * np.eye(size)
        cost[:nv, :nv] += balance + np.diag([0.0, 0.0, 0.0, 10.0, 10.0, 1.0] + [1.0] * (nv - 6))
        cost[nv : 2 * nv, nv : 2 * nv] += 0.05 * balance + 1e-3 * np.eye(nv)
        effort = 10.0 * np.eye(model.nu)
        worth = solve_discrete_are(power, pushed, cost, effort)
        gains = np.linalg.solve(effort + pushed.T @ worth @ pushed, pushed.T @ worth @ power)
        return gains @ self._observed(feet)

    def _jacobian(self, geoms: list[int]) -> np.ndarray:
        """Return how the mean place of geoms, and their mean turn about the vertical, follow velocities: [4, 62]."""
        rows = []
        for geom in geoms:
            place, turn = np.zeros((3, self.model.nv)), np.zeros((3, self.model.nv))
            mujoco.mj_jacGeom(self.model, self.data, place, turn, geom)
            rows.append(np.concatenate([place, turn[2:]]))
        return np.mean(rows, 0)

    def _observed(self, feet: np.ndarray) -> np.ndarray:
        """Return how a state's distance from the stance follows an observation's, [180, 224], the feet having stayed.

        The root's place and heading are not observed: they are those that leave the feet where they are on average.
        """
        nv, slices = self.model.nv, CMUHumanoid().slices
        root = self.data.body("root").xmat.reshape(3, 3)
        up, eye = root[2], np.eye(56)
        out = np.zeros((2 * nv + self.model.na, 224))
        out[np.ix_(self.rates, range(*slices["joints_pos"]))] = eye
        out[3:6, slice(*slices["world_zaxis"])] = np.cross(np.eye(3), up).T
        free = np.concatenate([feet[:, :3], (feet[:, 3:6] @ up)[:, None]], 1)
        hidden = -np.linalg.solve(free, feet @ out[:nv])
        out[:3] += hidden[:3]
        out[3:6] += np.outer(up, hidden[3])
        out[nv : nv + 3, slice(*slices["sensors_velocimeter"])] = root
        out[nv + 3 : nv + 6, slice(*slices["sensors_gyro"])] = np.eye(3)
        out[np.ix_(nv + self.rates, range(*slices["joints_vel"]))] = eye
        out[2 * nv :, slice(*slices["actuator_activation"])] = eye
        return out
