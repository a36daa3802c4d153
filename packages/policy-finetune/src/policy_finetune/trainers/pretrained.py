"""Pre-trained agents: all that fine-tuning needs of them, in memory and in every checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from paperloop.errors import CheckpointError
from paperloop.files import write_json
from paperloop.jax_backend import load_pytree, save_pytree
from paperloop.settings import from_dict, read_json, to_dict
from policy_finetune.config import DataOptions, LearnerConfig
from policy_finetune.learners.base import LearnerState
from policy_finetune.learners.registry import make_learner

__all__ = ["Pretrained"]


@dataclass(frozen=True, eq=False)
class Pretrained:
    """P pre-trained agents.

    Attributes:
        learner: their learners' states, every leaf with a leading axis P.
        mean: (P, obs) f32, the frozen normaliser of observations ...
        std: (P, obs) f32, ... with its ε added.
        dataset: (P,) the index of each one's dataset.
        labels: their arms.
        scale: (P,) what their rewards were multiplied by: critics go with it.
        bias: what was then added.
        loading: how their datasets were read.
    """

    learner: LearnerState
    mean: np.ndarray
    std: np.ndarray
    dataset: tuple[int, ...]
    labels: tuple[str, ...]
    scale: np.ndarray
    bias: float
    loading: DataOptions = field(default_factory=DataOptions)

    @classmethod
    def of(cls, trainer: Any, state: Any) -> Pretrained:
        """Return what a trainer, offline or online, has trained; the state stays good."""
        return trainer.pretrained(state)

    @property
    def num_agents(self) -> int:
        """P."""
        return len(self.dataset)

    def save(self, folder: Path) -> None:
        """Write the agents into a folder, which is made."""
        folder.mkdir()
        save_pytree(self.learner, folder)
        about = {"dataset": self.dataset, "labels": self.labels, "scale": self.scale.tolist(), "bias": self.bias}
        about |= {"mean": self.mean.tolist(), "std": self.std.tolist(), "loading": to_dict(self.loading)}
        write_json(folder / "agents.json", about)

    @classmethod
    def load(cls, folder: Path, like: LearnerState) -> Pretrained:
        """Read what `save` wrote; `like` is a state of the same shapes.

        Raises:
            CheckpointError: it is not there, damaged, or does not fit `like`.
        """
        about = read_json(folder / "agents.json")
        try:
            mean, std = (np.array(about[name], np.float32) for name in ("mean", "std"))
            loading = from_dict(DataOptions, about["loading"], where=str(folder))
            return cls(
                load_pytree(folder, like), mean, std, tuple(about["dataset"]), tuple(about["labels"]),
                np.array(about["scale"], float), float(about["bias"]), loading,
            )  # fmt: skip
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{folder / 'agents.json'} is damaged ({error}): restore the run folder.") from None


def blank(learners: Sequence[LearnerConfig], agents: int, obs_dim: int, act_dim: int) -> LearnerState:
    """Return a state of zeros with the shapes of agents that share a program; `learners` are all that differ."""
    learner = make_learner(learners[0], obs_dim, act_dim, *learners[1:])
    shapes = jax.eval_shape(learner.init, jax.random.key(0))
    return jax.tree.map(lambda leaf: jnp.zeros((agents, *leaf.shape), leaf.dtype), shapes)
