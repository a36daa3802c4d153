"""Steps of dm_control's planar bodies for the parity checks: `python cascade_dmc_traces.py OUT.npz STEPS`."""

from __future__ import annotations

import os
import sys

os.environ.setdefault("MUJOCO_GL", "disable")

import numpy as np
from dm_control import suite

TASKS = {"walker": ("stand", "walk", "run"), "cheetah": ("run",)}


def trace(body: str, steps: int) -> dict[str, np.ndarray]:
    """Return states, actions, observations after them and the tasks' rewards, along random actions."""
    env = suite.load(body, "run", task_kwargs={"random": 0})
    tasks = {name: suite.load(body, name).task for name in TASKS[body]}
    rng, rows = np.random.default_rng(0), []
    timestep = env.reset()
    for _ in range(steps):
        if timestep.last() or rng.uniform() < 0.02:
            timestep = env.reset()
        data = env.physics.data
        row = {"qpos": data.qpos.copy(), "qvel": data.qvel.copy(), "warm": data.qacc_warmstart.copy()}
        row["action"] = rng.uniform(-1, 1, 6)
        timestep = env.step(row["action"])
        row["seen"] = np.concatenate([np.ravel(x) for x in timestep.observation.values()])
        row["spin"] = env.physics.named.data.subtree_angmom["torso"][1]
        rows.append(row | {name: task.get_reward(env.physics) for name, task in tasks.items()})
    return {f"{body}_{name}": np.stack([row[name] for row in rows]) for name in rows[0]}


def main(out: str, steps: int) -> None:
    """Write both bodies' traces."""
    np.savez(out, **trace("walker", steps), **trace("cheetah", steps))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
