"""Trained policies as small npz files: of known quality, with the record of how they were made.

The arrays are those of an actor with ReLU between its layers, weights as `torch.nn.Linear` stores them, (out, in):

| array | shape |
|---|---|
| w0, b0, w1, b1, ... | (width, obs), (width,), ...: the hidden layers |
| w_mu, b_mu | (act, width), (act,): the action is tanh of this |
| w_log_std, b_log_std | the same; optional: the action is drawn as tanh(μ + exp(clip(log σ, -20, 2)) ε) |
| obs_mean, obs_std | (obs,); optional: observations are normalised first |
| action_low, action_high | (act,); of exported policies: the bounds of the environment's actions |
| metadata | JSON text; optional |

A file without metadata is read as well, so that actors exported from other libraries (those of the Stable-Baselines3
Zoo, for example) need only be saved under these names. What `export_policy` writes, plain NumPy can run:

    x = (observation - obs_mean) / obs_std
    x = max(w0 x + b0, 0), max(w1 x + b1, 0), ...
    action = (action_low + action_high) / 2 + (action_high - action_low) / 2 * tanh(w_mu x + b_mu)
"""

from __future__ import annotations

import functools
import hashlib
import importlib.resources
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from paperloop.errors import UserError
from paperloop_data import read_arrays, write_arrays
from policy_finetune.envs.acting import HostPolicy, Policy, squashed_sample
from policy_finetune.envs.spec import EnvSpec

__all__ = ["GradedPolicy", "export_policy", "exported_arrays", "load_policy", "read_exported", "save_policy", "shipped"]


@dataclass(frozen=True, eq=False)
class GradedPolicy:
    """An actor and what is known about it.

    Attributes:
        host: tanh(μ(s)), one agent.
        log_std: (W (in, act), b (act,)) of the log standard deviation before tanh, from the last hidden layer; None for
            a deterministic policy.
        metadata: of types that JSON knows, such as env_id, algorithm, env_steps, seed, return_mean and command.
        name: how messages and provenance call it.
    """

    host: HostPolicy
    log_std: tuple[np.ndarray, np.ndarray] | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    name: str = "policy"

    def __post_init__(self) -> None:
        if self.log_std is not None:
            weight, bias = (np.asarray(array, np.float32) for array in self.log_std)
            wanted = self.host.layers[-1][0].shape[1:]
            if weight.shape != wanted or bias.shape != wanted[1:]:
                raise UserError(
                    f"{self.name}: w_log_std is of shape {weight.T.shape} with a bias of {bias.shape}; give those of "
                    f"w_mu, {wanted[::-1]} and {wanted[1:]}."
                )
            object.__setattr__(self, "log_std", (weight, bias))

    @property
    def env_steps(self) -> int | None:
        """The environment steps it was trained for, where that is known."""
        return self.metadata.get("env_steps")

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 of the arrays, as hexadecimal digits; name and metadata do not count."""
        found = hashlib.sha256()
        for name, array in sorted(_arrays(self).items()):
            found.update(f"{name} {array.shape} ".encode())
            found.update(np.ascontiguousarray(array, "<f4").tobytes())
        return found.hexdigest()

    @functools.cached_property
    def _pre_tanh(self) -> HostPolicy:
        """μ and log σ side by side."""
        assert self.log_std is not None
        weight, bias = self.log_std
        return HostPolicy.gaussian(
            self.host.layers, (weight[None], bias[None, None]), self.host.mean, self.host.std
        )  # fmt: skip

    def sample(self, observation: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return one action (act,) drawn from the policy's own distribution for one observation (obs,)."""
        return squashed_sample(self._pre_tanh(observation[None])[0], rng.standard_normal(self.host.act_dim, np.float32))

    def check_fits(self, spec: EnvSpec) -> None:
        """Raise unless the policy acts in that environment.

        Raises:
            UserError: its observations or actions are of another length.
        """
        if (self.host.obs_dim, self.host.act_dim) != (spec.obs_dim, spec.act_dim):
            raise UserError(
                f"{self.name}: the policy takes {self.host.obs_dim} observations and gives {self.host.act_dim} "
                f"actions, but {spec.env_id} has {spec.obs_dim} and {spec.act_dim}; give a policy of that environment."
            )


def load_policy(path: str | Path) -> GradedPolicy:
    """Read a policy.

    Raises:
        UserError: the file does not exist, is damaged or pickled, misses an array, or holds NaN.
    """
    path = Path(path)
    arrays = read_arrays(path)
    try:
        metadata = json.loads(str(arrays["metadata"])) if "metadata" in arrays else {}
    except (ValueError, RecursionError):
        metadata = None
    if not isinstance(metadata, dict):
        raise UserError(f"{path}: the metadata is not a JSON object; remove it or write it again.")
    hidden = []
    while f"w{len(hidden)}" in arrays:
        hidden.append(_stored(arrays, f"{len(hidden)}", path))
    if not hidden or "w_mu" not in arrays:
        raise UserError(
            f"{path}: there is no {'w_mu' if hidden else 'w0'!r} (it holds {', '.join(sorted(arrays)) or 'nothing'}); "
            "a policy has w0, b0, ..., w_mu and b_mu."
        )
    log_std = _stored(arrays, "_log_std", path) if "w_log_std" in arrays else None
    try:
        layers = [*hidden, _stored(arrays, "_mu", path)]
        host = HostPolicy.single(layers, arrays.get("obs_mean"), arrays.get("obs_std"))
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    return GradedPolicy(host, log_std, metadata, path.name)


def _stored(arrays: Mapping[str, np.ndarray], suffix: str, path: Path) -> tuple[np.ndarray, np.ndarray]:
    weight, bias = arrays[f"w{suffix}"], arrays.get(f"b{suffix}")
    if bias is None:
        raise UserError(f"{path}: there is w{suffix} but no b{suffix}; add it.")
    if weight.dtype.kind not in "fiu" or bias.dtype.kind not in "fiu":
        raise UserError(f"{path}: w{suffix} or b{suffix} holds no numbers; save the policy's weights as float32.")
    if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
        raise UserError(f"{path}: w{suffix} or its bias holds NaN or infinity; the training that made it diverged.")
    return weight.T, bias


def _arrays(policy: GradedPolicy) -> dict[str, np.ndarray]:
    """Return the arrays of the file, weights (out, in)."""
    *hidden, mu = [(w[0], b[0, 0]) for w, b in policy.host.layers]
    layers = {f"{number}": layer for number, layer in enumerate(hidden)} | {"_mu": mu}
    if policy.log_std is not None:
        layers["_log_std"] = policy.log_std
    found = {}
    for suffix, (weight, bias) in layers.items():
        found[f"w{suffix}"], found[f"b{suffix}"] = np.ascontiguousarray(weight.T), bias
    for name, value in (("obs_mean", policy.host.mean), ("obs_std", policy.host.std)):
        if value is not None:
            found[name] = value.reshape(-1)
    return found


def save_policy(
    policy: GradedPolicy, path: str | Path, *, overwrite: bool = False, more: Mapping[str, np.ndarray] | None = None
) -> Path:
    """Write a policy atomically. Equal policies give equal bytes: no time is recorded.

    Args:
        policy: the policy.
        path: the file, whose name ends in .npz.
        overwrite: replace a file that is there.
        more: further arrays.

    Raises:
        UserError: the path exists, does not end in .npz, or cannot be written.
    """
    if Path(path).suffix != ".npz":
        raise UserError(f"{path}: a policy is an npz file; give a name that ends in .npz.")
    about = {"metadata": np.array(json.dumps(dict(policy.metadata), allow_nan=False))}
    return write_arrays(path, _arrays(policy) | dict(more or {}) | about, overwrite=overwrite, compress=True)


def shipped(env_id: str) -> dict[str, Path]:
    """Return the policies of an environment that come with the package: grade -> file, in training order.

    Grades are "medium" and "expert"; others ("step-20000") are snapshots on the way. Empty where none are shipped.
    """
    folder = Path(str(importlib.resources.files("policy_finetune.data") / "policies" / env_id.lower()))
    found = {path.stem: path for path in sorted(folder.glob("*.npz"))}
    steps = {grade: load_policy(path).env_steps for grade, path in found.items()}
    return dict(sorted(found.items(), key=lambda item: (steps[item[0]] or 0, item[0])))


def export_policy(policy: Policy, path: str | Path, *, label: str = "", overwrite: bool = False) -> Path:
    """Write one agent's policy to an npz file that plain NumPy can run, normaliser and bounds included.

    Args:
        policy: of one agent: `policy.agent(0)`.
        path: the file, whose name ends in .npz.
        label: the agent's arm, for those who read the file.
        overwrite: replace a file that is there.

    Raises:
        UserError: there are several agents, its numbers are not finite, or the file exists or cannot be written.
    """
    graded, arrays = exported_arrays(policy, label)
    more = {name: arrays[name] for name in ("obs_mean", "obs_std", "action_low", "action_high")}
    return save_policy(graded, path, overwrite=overwrite, more=more)


def exported_arrays(policy: Policy, label: str = "") -> tuple[GradedPolicy, dict[str, np.ndarray]]:
    """Return one agent's policy with what is known of it, and all arrays that `export_policy` writes.

    Raises:
        UserError: there are several agents, or its numbers are not finite.
    """
    if policy.num_agents != 1:
        raise UserError(f"One agent goes into a file, and these are {policy.num_agents}: take policy.agent(0).")
    spec, host = policy.spec, policy.canonical
    if not all(np.isfinite(array).all() for layer in host.layers for array in layer):
        raise UserError("The policy holds NaN or infinity; the training that made it diverged.")
    graded = GradedPolicy(host, None, {"env_id": spec.env_id, "agent": label, "environment": spec.to_json()})
    normaliser = {"obs_mean": np.zeros(spec.obs_dim, np.float32), "obs_std": np.ones(spec.obs_dim, np.float32)}
    return graded, normaliser | _arrays(graded) | {"action_low": spec.low, "action_high": spec.high}


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
