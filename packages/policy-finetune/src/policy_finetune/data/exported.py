"""One agent's policy in a file that plain NumPy can run.

The arrays are those of `policy_finetune.data.policies`, so `make-data --policies` takes the file too; the observations'
normaliser is always in it, and the bounds of the environment's actions:

    x = (observation - obs_mean) / obs_std
    x = max(w0 x + b0, 0), max(w1 x + b1, 0), ...
    action = (action_low + action_high) / 2 + (action_high - action_low) / 2 * tanh(w_mu x + b_mu)
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from paperloop.errors import UserError
from policy_finetune.data.npz_files import write_arrays
from policy_finetune.data.policies import GradedPolicy, arrays_of, load_policy
from policy_finetune.envs.acting import Policy
from policy_finetune.envs.spec import EnvSpec

__all__ = ["export_policy", "read_exported"]


def export_policy(policy: Policy, path: str | Path, *, label: str = "", overwrite: bool = False) -> Path:
    """Write one agent's policy to an npz file.

    Args:
        policy: of one agent: `policy.agent(0)`.
        path: the file, whose name ends in .npz.
        label: the agent's arm, for those who read the file.
        overwrite: replace a file that is there.

    Raises:
        UserError: there are several agents, its numbers are not finite, or the file exists or cannot be written.
    """
    if policy.num_agents != 1:
        raise UserError(f"One agent goes into a file, and these are {policy.num_agents}: take policy.agent(0).")
    spec = policy.spec
    metadata = {"env_id": spec.env_id, "agent": label, "environment": spec.to_json()}
    graded = GradedPolicy.of(policy.canonical, metadata=metadata)
    arrays = {"obs_mean": np.zeros(spec.obs_dim, np.float32), "obs_std": np.ones(spec.obs_dim, np.float32)}
    arrays |= arrays_of(graded) | {"action_low": spec.low, "action_high": spec.high}
    return write_arrays(path, arrays | {"metadata": np.array(json.dumps(metadata))}, overwrite=overwrite)


def read_exported(path: str | Path) -> tuple[Policy, str]:
    """Return the policy that `export_policy` wrote, A = 1, and its label.

    Raises:
        UserError: it is not such a file, or damaged.
    """
    graded = load_policy(path)
    if "environment" not in graded.metadata:
        raise UserError(f"{path} does not say in which environment its policy acts: export it from its run again.")
    spec = EnvSpec.from_json(graded.metadata["environment"], str(path))
    return Policy(graded.host, spec), str(graded.metadata.get("agent", ""))
