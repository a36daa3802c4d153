"""Motion capture of CMU's database (AMC files) as reference poses of the CMU humanoid.

An AMC file lists, for each frame at 120 Hz, the joint angles of each bone in degrees, in the order of the skeleton file
(x, y, z where a bone has them), and the root's place in inches / 0.45 with y up (mocap.cs.cmu.edu).
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from scipy.interpolate import make_interp_spline
from scipy.spatial.transform import Rotation

from hgap.envs.simulator import Simulator, mujoco
from hgap.files import read_arrays
from paperloop.errors import UserError
from paperloop.files import check_is_file, write_atomically

__all__ = ["Poses", "load_poses", "read_amc", "save_poses", "to_poses"]

#: The body is 1.2 times as large as the skeleton that the angles were fitted to; a unit of length is inches / 0.45.
METRES = 1.2 * 0.056444
_AXES = {
    "root": ("tx", "ty", "tz", "rx", "ry", "rz"), "clavicle": ("ry", "rz"), "radius": ("rx",), "wrist": ("ry",),
    "hand": ("rx", "rz"), "fingers": ("rx",), "thumb": ("rx", "rz"), "tibia": ("rx",), "foot": ("rx", "rz"),
    "toes": ("rx",),
}  # fmt: skip
_ALL = ("rx", "ry", "rz")


class Poses(NamedTuple):
    """A motion to be followed.

    Attributes:
        qpos: positions of the body, [T, 63].
        qvel: velocities, [T, 62].
        step: seconds between poses.
        clipped: share of joint angles that were beyond the joint's range.
    """

    qpos: np.ndarray
    qvel: np.ndarray
    step: float
    clipped: float


def read_amc(path: Path) -> dict[str, np.ndarray]:
    """Return bone -> values [frames, axes], angles in radians and the root's place in the file's units.

    Raises:
        UserError: it is not an AMC file, or a frame is missing, incomplete or not numbers; the line is named.
    """
    degrees, frames = True, []
    for number, raw in enumerate(check_is_file(path).read_text(encoding="latin-1").splitlines(), 1):
        words, where = raw.split("#")[0].split(), f"{path}, line {number}"
        if not words or words[0].startswith(":"):
            degrees = degrees and words[:1] != [":RADIANS"]
        elif len(words) == 1 and words[0].isdigit():
            if int(words[0]) != len(frames) + 1:
                raise UserError(f"{where}: frame {words[0]} where frame {len(frames) + 1} should be: repair the file.")
            frames.append({})
        elif not frames:
            raise UserError(f"{where}: {words[0]!r} before the first frame: this is not an AMC file.")
        else:
            try:
                frames[-1][words[0]] = [float(word) for word in words[1:]]
            except ValueError:
                raise UserError(f"{where}: {' '.join(words[1:4])} are not all numbers: repair the file.") from None
    if not frames:
        raise UserError(f"{path} has no frames: this is not an AMC file.")
    for number, frame in enumerate(frames, 1):
        for bone, values in frames[0].items():
            if len(frame.get(bone, ())) != len(values) or not np.isfinite(frame[bone]).all():
                raise UserError(f"{path}: frame {number} has no {len(values)} finite values for {bone}.")
    joined = {bone: np.array([frame[bone] for frame in frames]) for bone in frames[0]}
    for bone, values in joined.items():
        values[:, 3 if bone == "root" else 0 :] *= np.pi / 180 if degrees else 1.0
    return joined


def to_poses(
    path: Path, simulator: Simulator, *, step: float = 0.03, rate: float = 120.0,
    ground: Literal["clip", "frame", "none"] = "clip",
) -> Poses:  # fmt: skip
    """Return the motion of an AMC file as poses of the body, by cubic splines; velocities are forward differences.

    Args:
        path: of the file.
        simulator: of the CMU humanoid.
        step: seconds between poses.
        rate: frames a second of the file, which does not say it.
        ground: the lowest point of the feet is put on the floor: over the whole clip, in each pose, or not at all.

    Raises:
        UserError: the file is not of this skeleton, or has fewer than four frames or two poses.
    """
    model, bones = simulator.model, read_amc(path)
    count = len(bones.get("root", ()))
    frames = np.zeros((count, model.nq))
    given = {f"{bone}{axis}": column for bone in bones for axis, column in _columns(path, bone, bones[bone])}
    names = [model.joint(i).name for i in range(1, model.njnt)]
    missing = [name for name in (*names, *(f"root{axis}" for axis in _AXES["root"])) if name not in given]
    if missing:
        raise UserError(f"{path} has no angles for {missing[0]}: it is not of CMU's skeleton.")
    place = np.stack([given[f"root{axis}"] for axis in ("tx", "ty", "tz")], 1)
    frames[:, :3] = METRES * np.stack([place[:, 0], -place[:, 2], place[:, 1]], 1)
    turned = Rotation.from_euler("x", 90, degrees=True) * Rotation.from_euler(
        "xyz", np.stack([given[f"root{axis}"] for axis in _ALL], 1)
    )
    frames[:, 3:7] = _continuous(turned.as_quat()[:, [3, 0, 1, 2]])
    frames[:, 7:] = np.stack([given[name] for name in names], 1)
    seconds = np.arange(count) / rate
    wanted = np.arange(0.0, seconds[-1] + 1e-9, step)
    if count < 4 or len(wanted) < 2:
        raise UserError(f"{path} has {count} frames, {seconds[-1]:.2f} s: two poses {step:g} s apart are needed.")
    qpos = make_interp_spline(seconds, frames, k=3)(wanted)
    qpos[:, 3:7] /= np.linalg.norm(qpos[:, 3:7], axis=1, keepdims=True)
    low, high = model.jnt_range[1:].T
    clipped = float(((qpos[:, 7:] < low) | (qpos[:, 7:] > high)).mean())
    qpos[:, 7:] = np.clip(qpos[:, 7:], low, high)
    if ground != "none":
        lowest = _clearance(model, qpos)
        qpos[:, 2] -= lowest.min() if ground == "clip" else lowest
    return Poses(qpos, _velocities(model, qpos, step), step, clipped)


def _columns(path: Path, bone: str, values: np.ndarray) -> list[tuple[str, np.ndarray]]:
    axes = _AXES.get(bone, _AXES.get(bone[1:], _ALL))
    if len(axes) != values.shape[1]:
        raise UserError(f"{path} has {values.shape[1]} values for {bone}, and CMU's skeleton {len(axes)}.")
    return list(zip(axes, values.T, strict=True))


def _continuous(quaternions: np.ndarray) -> np.ndarray:
    """Choose between q and -q so that neighbours are close, as splines need it."""
    flips = np.sign((quaternions[1:] * quaternions[:-1]).sum(1))
    return quaternions * np.cumprod(np.concatenate([[1.0], np.where(flips < 0, -1.0, 1.0)]))[:, None]


def _velocities(model: Any, qpos: np.ndarray, step: float) -> np.ndarray:
    qvel = np.zeros((len(qpos), model.nv))
    for t in range(len(qpos) - 1):
        mujoco.mj_differentiatePos(model, qvel[t], step, qpos[t], qpos[t + 1])
    qvel[-1] = qvel[-2]
    return qvel


def _clearance(model: Any, qpos: np.ndarray) -> np.ndarray:
    """Return the height of the lowest point of the feet above the floor, [T]."""
    data = mujoco.MjData(model)
    feet = [i for i in range(model.ngeom) if model.body(model.geom_bodyid[i]).name[1:] in ("foot", "toes")]
    lowest = np.empty(len(qpos))
    for t, pose in enumerate(qpos):
        data.qpos[:] = pose
        mujoco.mj_kinematics(model, data)
        capsule = model.geom_type[feet] == mujoco.mjtGeom.mjGEOM_CAPSULE
        half = np.where(capsule, model.geom_size[feet, 1], 0.0) * np.abs(data.geom_xmat[feet, 8])
        lowest[t] = (data.geom_xpos[feet, 2] - half - model.geom_size[feet, 0]).min()
    return lowest


def save_poses(path: Path, poses: dict[str, Poses]) -> None:
    """Write clips to one .npz file: NAME/qpos, NAME/qvel and the step of each."""
    arrays: dict[str, Any] = {}
    for name, found in poses.items():
        arrays |= {f"{name}/qpos": found.qpos, f"{name}/qvel": found.qvel, f"{name}/step": np.array(found.step)}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    write_atomically(path, buffer.getvalue())


def load_poses(path: Path) -> dict[str, Poses]:
    """Return the clips of a file that `save_poses` wrote.

    Raises:
        UserError: it is not one.
    """
    file = read_arrays(path, "a file of poses")
    try:
        names = sorted({name.rpartition("/")[0] for name in file})
        return {
            name: Poses(file[f"{name}/qpos"], file[f"{name}/qvel"], float(file[f"{name}/step"]), 0.0) for name in names
        }
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{path} is not a file of poses, or is damaged.") from None
