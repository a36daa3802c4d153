"""Steps of dm_control's walker for the parity checks: `python cascade_dmc_traces.py OUT.npz STEPS`."""

from __future__ import annotations

import os
import sys

os.environ.setdefault("MUJOCO_GL", "disable")

import numpy as np
from dm_control import suite


def main(out: str, steps: int) -> None:
    """Write states, actions, observations after them and the three tasks' rewards, along a random walk."""
    env = suite.load("walker", "walk", task_kwargs={"random": 0})
    tasks = {name: suite.load("walker", name).task for name in ("stand", "walk", "run")}
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
    np.savez(out, **{name: np.stack([row[name] for row in rows]) for name in rows[0]})


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
