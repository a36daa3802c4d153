"""Trained policies as small npz files: of known quality, with the record of how they were made.

The arrays are those of an actor with ReLU between its layers, weights as `torch.nn.Linear` stores them, (out, in):

| array | shape |
|---|---|
| w0, b0, w1, b1, ... | (width, obs), (width,), ...: the hidden layers |
| w_mu, b_mu | (act, width), (act,): the action is tanh of this |
| w_log_std, b_log_std | the same; optional: the action is drawn as tanh(μ + exp(clip(log σ, -20, 2)) ε) |
| obs_mean, obs_std | (obs,); optional: observations are normalised first |
| metadata | JSON text; optional |

A file without metadata is read as well, so that actors exported from other libraries (those of the Stable-Baselines3
Zoo, for example) need only be saved under these names.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.resources
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from paperloop.errors import UserError
from policy_finetune.data.npz_files import read_arrays, write_arrays
from policy_finetune.envs.acting import HostPolicy
from policy_finetune.envs.rollouts import RolloutEnvs, evaluate
from policy_finetune.envs.spec import EnvSpec

__all__ = ["METADATA_KEYS", "GradedPolicy", "arrays_of", "load_policy", "save_policy", "scored", "shipped"]

Layer = tuple[np.ndarray, np.ndarray]

#: What the metadata of a policy that is shipped says.
METADATA_KEYS = (
    "env_id",
    "algorithm",
    "env_steps",
    "seed",
    "return_mean",
    "return_std",
    "episodes",
    "command",
    "versions",
)

LOG_STD_MIN, LOG_STD_MAX = -20.0, 2.0


@dataclass(frozen=True, eq=False)
class GradedPolicy:
    """An actor and what is known about it.

    Args:
        hidden: (W (in, out), b (out,)) of each hidden layer.
        mu: (W, b) of the mean before tanh.
        log_std: (W, b) of the log standard deviation before tanh, or None for a deterministic policy. A spread that
            does not depend on the observation has W = 0.
        obs_mean: (obs,), or None.
        obs_std: (obs,), positive, or None.
        metadata: of types that JSON knows; see `METADATA_KEYS`.
        name: how messages and provenance call it.

    Raises:
        UserError: shapes that do not fit together, or numbers that are not finite.
    """

    hidden: Sequence[tuple[Any, Any]]
    mu: tuple[Any, Any]
    log_std: tuple[Any, Any] | None = None
    obs_mean: Any = None
    obs_std: Any = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    name: str = "policy"

    def __post_init__(self) -> None:
        if not self.hidden:
            raise UserError(f"{self.name}: the policy has no hidden layer; give at least w0 and b0.")
        width = None
        hidden = []
        for number, layer in enumerate(self.hidden):
            hidden.append(self._layer(layer, f"w{number}", width, None))
            width = hidden[-1][0].shape[1]
        object.__setattr__(self, "hidden", tuple(hidden))
        object.__setattr__(self, "mu", self._layer(self.mu, "w_mu", width, None))
        if self.log_std is not None:
            object.__setattr__(self, "log_std", self._layer(self.log_std, "w_log_std", width, self.act_dim))
        for name in ("obs_mean", "obs_std"):
            if getattr(self, name) is not None:
                value = _frozen(getattr(self, name))
                if value.shape != (self.obs_dim,) or not np.isfinite(value).all():
                    raise UserError(f"{self.name}: {name} is {self.obs_dim} finite numbers, one for each observation.")
                object.__setattr__(self, name, value)
        if self.obs_std is not None and not (self.obs_std > 0).all():
            raise UserError(f"{self.name}: obs_std is positive in every dimension.")
        try:
            plain = json.loads(json.dumps(dict(self.metadata), allow_nan=False))
        except (TypeError, ValueError) as error:
            raise UserError(f"{self.name}: the metadata must be of types that JSON knows ({error}).") from None
        object.__setattr__(self, "metadata", MappingProxyType(plain))

    def __reduce__(self) -> tuple[Any, ...]:
        # For worker processes: a read-only mapping cannot be copied itself, and the caches need not be.
        fields = (self.hidden, self.mu, self.log_std, self.obs_mean, self.obs_std, dict(self.metadata), self.name)
        return GradedPolicy, fields

    def _layer(self, layer: tuple[Any, Any], name: str, width: int | None, out: int | None) -> Layer:
        weight, bias = (_frozen(array) for array in layer)
        fits = weight.ndim == 2 and weight.shape[0] == (width or weight.shape[0])
        if not fits or bias.shape != (weight.shape[1],) or (out is not None and weight.shape[1] != out):
            wants = f"({out or 'out'}, {width or 'in'})"
            raise UserError(
                f"{self.name}: {name} is of shape {weight.T.shape} with a bias of {bias.shape}; give {wants} and "
                f"({out or 'out'},), weights as torch.nn.Linear stores them."
            )
        if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
            raise UserError(
                f"{self.name}: {name} or its bias holds NaN or infinity; the training that made it diverged."
            )
        return weight, bias

    @classmethod
    def of(cls, policy: HostPolicy, agent: int = 0, *, metadata: Mapping[str, Any], **fields: Any) -> GradedPolicy:
        """Take one agent out of a `HostPolicy`; `fields` may add log_std and a name."""
        one = policy.agent(agent)
        layers = [(w[0], b[0, 0]) for w, b in one.layers]
        mean, std = (None if value is None else np.reshape(value, (one.obs_dim,)) for value in (one.mean, one.std))
        return cls(layers[:-1], layers[-1], obs_mean=mean, obs_std=std, metadata=metadata, **fields)

    @property
    def obs_dim(self) -> int:
        """Length of an observation."""
        return self.hidden[0][0].shape[0]

    @property
    def act_dim(self) -> int:
        """Length of an action."""
        return self.mu[0].shape[1]

    @property
    def stochastic(self) -> bool:
        """Whether the policy has a spread of its own."""
        return self.log_std is not None

    @property
    def env_steps(self) -> int | None:
        """The environment steps it was trained for, where that is known."""
        return self.metadata.get("env_steps")

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 of the arrays, as hexadecimal digits; name and metadata do not count."""
        found = hashlib.sha256()
        for name, array in sorted(arrays_of(self).items()):
            found.update(f"{name} {array.shape} ".encode())
            found.update(np.ascontiguousarray(array, "<f4").tobytes())
        return found.hexdigest()

    @functools.cached_property
    def host(self) -> HostPolicy:
        """The deterministic policy tanh(μ(s)), A = 1."""
        return HostPolicy.single([*self.hidden, self.mu], self.obs_mean, self.obs_std)

    @functools.cached_property
    def _pre_tanh(self) -> HostPolicy:
        """μ and log σ side by side."""
        assert self.log_std is not None
        weight, bias = (np.concatenate([m, s], axis=-1) for m, s in zip(self.mu, self.log_std, strict=True))
        return HostPolicy.single([*self.hidden, (weight, bias)], self.obs_mean, self.obs_std, output="linear")

    def sample(self, observation: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return one action (act,) drawn from the policy's own distribution for one observation (obs,).

        Raises:
            UserError: the policy is deterministic.
        """
        if self.log_std is None:
            raise UserError(f"{self.name}: the policy has no spread of its own to sample from; give it noise instead.")
        both = self._pre_tanh(observation[None])[0]
        mu, log_std = both[: self.act_dim], both[self.act_dim :]
        std = np.exp(np.minimum(np.maximum(log_std, np.float32(LOG_STD_MIN)), np.float32(LOG_STD_MAX)))
        return np.tanh(mu + std * rng.standard_normal(self.act_dim, np.float32))

    def check_fits(self, spec: EnvSpec) -> None:
        """Raise unless the policy acts in that environment.

        Raises:
            UserError: its observations or actions are of another length.
        """
        if (self.obs_dim, self.act_dim) != (spec.obs_dim, spec.act_dim):
            raise UserError(
                f"{self.name}: the policy takes {self.obs_dim} observations and gives {self.act_dim} actions, but "
                f"{spec.env_id} has {spec.obs_dim} and {spec.act_dim}; give a policy of that environment."
            )


def load_policy(path: str | Path) -> GradedPolicy:
    """Read a policy.

    Raises:
        UserError: there is no such file, or it is damaged, pickled, or misses an array.
    """
    path = Path(path)
    arrays = read_arrays(path, "a policy")
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
    return GradedPolicy(
        hidden,
        _stored(arrays, "_mu", path),
        _stored(arrays, "_log_std", path) if "w_log_std" in arrays else None,
        arrays.get("obs_mean"),
        arrays.get("obs_std"),
        metadata,
        path.name,
    )


def save_policy(policy: GradedPolicy, path: str | Path, *, overwrite: bool = False) -> Path:
    """Write a policy atomically. Equal policies give equal bytes: no time is recorded.

    Raises:
        UserError: the path exists, does not end in .npz, or cannot be written.
    """
    contents: dict[str, np.ndarray] = arrays_of(policy)
    contents["metadata"] = np.array(json.dumps(dict(policy.metadata)))
    return write_arrays(path, contents, overwrite=overwrite)


def scored(policy: GradedPolicy, spec: EnvSpec, *, episodes: int = 10, seed: int = 0) -> GradedPolicy:
    """Return the policy with the mean and deviation of its deterministic returns in the metadata."""
    policy.check_fits(spec)
    with RolloutEnvs(spec) as envs:
        found = evaluate(policy.host, spec, episodes=episodes, seed=seed, envs=envs)
    score = {"return_mean": float(found.mean[0]), "return_std": float(found.std[0]), "episodes": episodes}
    fields = {name: getattr(policy, name) for name in ("hidden", "mu", "log_std", "obs_mean", "obs_std", "name")}
    return GradedPolicy(**fields, metadata={**policy.metadata, "env_id": spec.env_id, **score})


def shipped(env_id: str) -> dict[str, Path]:
    """Return the policies of an environment that come with the package: grade -> file, in training order.

    Grades are "medium" and "expert"; others ("step-20000") are snapshots on the way. Empty where none are shipped.
    """
    folder = Path(str(importlib.resources.files("policy_finetune.data") / "policies" / env_id.lower()))
    found = {path.stem: path for path in sorted(folder.glob("*.npz"))}
    steps = {grade: load_policy(path).env_steps for grade, path in found.items()}
    return dict(sorted(found.items(), key=lambda item: (steps[item[0]] or 0, item[0])))


def _frozen(array: Any) -> np.ndarray:
    copied = np.array(array, np.float32, order="C")
    copied.flags.writeable = False
    return copied


def _stored(arrays: Mapping[str, np.ndarray], suffix: str, path: Path) -> Layer:
    weight, bias = arrays[f"w{suffix}"], arrays.get(f"b{suffix}")
    if bias is None:
        raise UserError(f"{path}: there is w{suffix} but no b{suffix}; add it.")
    if weight.dtype.kind not in "fiu" or bias.dtype.kind not in "fiu":
        raise UserError(f"{path}: w{suffix} or b{suffix} holds no numbers; save the policy's weights as float32.")
    return weight.T, bias


def arrays_of(policy: GradedPolicy) -> dict[str, np.ndarray]:
    """Return the arrays of the file, weights (out, in)."""
    layers = {f"{number}": layer for number, layer in enumerate(policy.hidden)} | {"_mu": policy.mu}
    if policy.log_std is not None:
        layers["_log_std"] = policy.log_std
    found = {}
    for suffix, (weight, bias) in layers.items():
        found[f"w{suffix}"], found[f"b{suffix}"] = np.ascontiguousarray(weight.T), bias
    for name in ("obs_mean", "obs_std"):
        if getattr(policy, name) is not None:
            found[name] = getattr(policy, name)
    return found
