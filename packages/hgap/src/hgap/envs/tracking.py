"""How closely the CMU humanoid follows a reference: dm_control's tracking error and rewards, for batches of poses.

The rewards are those of MoCapAct's experts and of H-GAP's imitation: Hasenclever et al., CoMic (ICML 2020), eq. 1-5.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from hgap.envs.cmu_model import END_EFFECTORS
from hgap.envs.simulator import Simulator, mujoco

__all__ = ["THRESHOLD", "Features", "comic_reward", "features", "tracking_error", "tracking_reward"]

#: An episode of tracking ends where the error is above it.
THRESHOLD = 0.3


class Features(NamedTuple):
    """What of T poses is compared.

    Attributes:
        joints: angles, [T, 56].
        joint_velocities: [T, 56].
        bodies: places of all bodies but the root, m, [T, 32, 3].
        quaternions: of the same bodies, [T, 32, 4].
        com: centre of mass, [T, 3].
        appendages: places of hands, feet and head in the root's frame, [T, 5, 3].
    """

    joints: np.ndarray
    joint_velocities: np.ndarray
    bodies: np.ndarray
    quaternions: np.ndarray
    com: np.ndarray
    appendages: np.ndarray


def features(simulator: Simulator, qpos: np.ndarray, qvel: np.ndarray) -> Features:
    """Return the features of positions [T, 63] and velocities [T, 62]."""
    model, data = simulator.model, mujoco.MjData(simulator.model)
    root, ends = model.body("root").id, [model.body(name).id for name in END_EFFECTORS]
    rows = []
    for pose in qpos:
        data.qpos[:] = pose
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        place, turned = data.xpos.copy(), data.xmat[root].reshape(3, 3)
        rows.append((
            place[root + 1 :], data.xquat[root + 1 :].copy(), data.subtree_com[1].copy(),
            (place[ends] - place[root]) @ turned,
        ))  # fmt: skip
    bodies, quaternions, com, appendages = (np.stack(part) for part in zip(*rows, strict=True))
    return Features(qpos[:, 7:], qvel[:, 6:], bodies, quaternions, com, appendages)


def tracking_error(found: Features, reference: Features) -> np.ndarray:
    """Return half the mean distance of bodies along an axis, m, plus half that of joints, rad: [T]."""
    bodies = np.abs(found.bodies - reference.bodies).mean((-1, -2))
    return 0.5 * bodies + 0.5 * np.abs(found.joints - reference.joints).mean(-1)


def tracking_reward(found: Features, reference: Features) -> np.ndarray:
    """Return 1 - error / threshold, [T]: in [0, 1] until the episode ends."""
    return 1 - tracking_error(found, reference) / THRESHOLD


def comic_reward(found: Features, reference: Features) -> np.ndarray:
    """Return the reward that MoCapAct's experts were trained on, [T]."""

    def squared(name: str) -> np.ndarray:
        gap = getattr(found, name) - getattr(reference, name)
        return (gap**2).reshape(len(gap), -1).sum(-1)

    cosine = np.einsum("tbi,tbi->tb", found.quaternions, reference.quaternions)
    turned = 0.5 * np.arccos(np.minimum(2 * cosine**2 - 1, 1.0))
    posed = (
        0.1 * np.exp(-10 * squared("com"))
        + np.exp(-0.1 * squared("joint_velocities"))
        + 0.15 * np.exp(-40 * squared("appendages"))
        + 0.65 * np.exp(-2 * (turned**2).sum(-1))
    )
    return 0.5 * tracking_reward(found, reference) + 0.5 * posed
