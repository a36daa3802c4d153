"""The policies in a checkpoint, readable without the data and the learner that made them.

Every checkpoint holds `policies.npz`: the actors' layers, the observations' normaliser, the agents' labels and the
environment. Evaluation and reports need nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from paperloop.errors import CheckpointError, UserError
from paperloop.loop.folder import RunFolder
from paperloop_data import read_arrays
from policy_finetune.data.policies import read_exported
from policy_finetune.envs.acting import HostPolicy, Policy
from policy_finetune.envs.spec import EnvSpec

__all__ = ["load_policies", "payload_of", "saved_environment", "saved_labels", "write_policies"]

FILE = "policies.npz"


def write_policies(folder: Path, policy: HostPolicy, spec: EnvSpec | None, labels: Sequence[str]) -> None:
    """Write policies into a checkpoint's folder.

    Args:
        folder: where the state was written.
        policy: A policies.
        spec: their environment, or None where the trainer does not know it.
        labels: (A,) the agents' labels.
    """
    arrays = {f"{name}{i}": x for i, layer in enumerate(policy.layers) for name, x in zip("wb", layer, strict=True)}
    arrays |= {name: x for name, x in (("mean", policy.mean), ("std", policy.std)) if x is not None}
    about = {"labels": list(labels), "environment": None if spec is None else spec.to_json()}
    np.savez(folder / FILE, about=np.array(json.dumps(about)), **arrays)


def load_policies(folder: str | Path) -> tuple[Policy, tuple[str, ...]]:
    """Return the policies of a run's newest checkpoint, in the environment's units, and their agents' labels.

    The datasets and pre-trained agents of the run need not be there. A file that `export_policy` wrote is read as well.

    Raises:
        UserError: it is neither, or the run does not know its environment.
        CheckpointError: the checkpoint is damaged or missing.
    """
    if Path(folder).is_file():
        policy, label = read_exported(folder)
        return policy, (label,)
    file, arrays = _read(folder)
    spec, labels = _about(file, arrays)
    if spec is None:
        raise UserError(
            f"{folder} does not say in which environment its agents act: evaluate them in Python, with a trainer of "
            "the same configuration and its canonical_policy."
        )
    try:
        layers = [(arrays[f"w{i}"], arrays[f"b{i}"]) for i in range(sum(name.startswith("w") for name in arrays))]
        policy = Policy(HostPolicy(layers, arrays.get("mean"), arrays.get("std")), spec)
    except (KeyError, UserError) as error:
        raise CheckpointError(f"{file} does not hold policies ({error}): restore the run folder.") from None
    return policy, labels


def saved_environment(folder: str | Path) -> EnvSpec | None:
    """Return the environment that a run's newest checkpoint names, or None."""
    try:
        return _about(*_read(folder))[0]
    except UserError:
        return None


def saved_labels(folder: str | Path) -> tuple[str, ...]:
    """Return the labels of the agents in a run's newest checkpoint."""
    return _about(*_read(folder))[1]


def payload_of(folder: str | Path) -> Path:
    """Return where the files of a run's newest checkpoint lie, verified byte by byte.

    Raises:
        UserError: it is not a run folder.
        CheckpointError: the checkpoint is damaged or missing.
    """
    run = RunFolder(Path(folder))
    if run.record() is None:
        raise UserError(f"{folder} is not a run folder (no run.json): name the folder that training wrote.")
    step = run.checkpoints.find()
    if step is None:
        raise CheckpointError(f"{folder} has no checkpoint yet: train it first.")
    return run.checkpoints.path(step) / "payload"


def _read(folder: str | Path) -> tuple[Path, dict[str, np.ndarray]]:
    file = payload_of(folder) / FILE
    if not file.is_file():
        raise UserError(f"{folder} holds no policies ({file.name}): it is a run of another package or version.")
    return file, read_arrays(file)


def _about(file: Path, arrays: dict[str, np.ndarray]) -> tuple[EnvSpec | None, tuple[str, ...]]:
    try:
        about = json.loads(str(arrays["about"]))
        labels = tuple(str(label) for label in about["labels"])
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{file} is damaged ({error}): restore the run folder.") from None
    stated = about.get("environment")
    return None if stated is None else EnvSpec.from_json(stated, str(file)), labels
