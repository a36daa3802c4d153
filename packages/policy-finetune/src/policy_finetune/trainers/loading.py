"""A finished run for use elsewhere: its trainer, state and settings in one call, and policies that act."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paperloop.errors import UserError
from paperloop.loop.runner import restore
from policy_finetune.config import OfflineConfig, OnlineConfig
from policy_finetune.data.exported import export_policy
from policy_finetune.envs.acting import Policy
from policy_finetune.envs.spec import EnvSpec
from policy_finetune.trainers.offline import OfflineTrainer
from policy_finetune.trainers.online import OnlineTrainer
from policy_finetune.trainers.sessions import as_start, load_trainer
from policy_finetune.trainers.switch import Pretrained

__all__ = ["LoadedRun", "load_run"]


@dataclass(frozen=True, eq=False)
class LoadedRun:
    """A run at its newest checkpoint.

        run = load_run("runs/tuned")
        action = run.policies[0].predict(observation)  # in the environment's units
        state, metrics = run.trainer.step(run.state)  # which consumes run.state

    Attributes:
        trainer: the trainer, bound to its configuration and data.
        state: of the newest checkpoint.
        spec: the environment.
    """

    trainer: OfflineTrainer | OnlineTrainer
    state: Any
    spec: EnvSpec

    @property
    def config(self) -> OfflineConfig | OnlineConfig:
        """The run's configuration."""
        return self.trainer.config

    @property
    def agents(self) -> tuple[str, ...]:
        """The arm of each agent."""
        return tuple(self.trainer.agents)

    @functools.cached_property
    def policies(self) -> tuple[Policy, ...]:
        """A policy for each agent; `predict` takes observations and gives actions in the environment's units."""
        policy = self.trainer.policy(self.state)
        return tuple(policy.agent(i) for i in range(policy.num_agents))

    @property
    def pretrained(self) -> Pretrained:
        """The agents as a start for fine-tuning."""
        return as_start(self.trainer, self.state)

    def export(self, path: str | Path, *, agent: int = 0, overwrite: bool = False) -> Path:
        """Write one agent's policy to an npz file; see `policy_finetune.data.exported`.

        Raises:
            UserError: there is no such agent, or the file exists or cannot be written.
        """
        if not 0 <= agent < len(self.agents):
            raise UserError(f"There is no agent {agent}: there are {len(self.agents)}, numbered from 0.")
        return export_policy(self.policies[agent], path, label=self.agents[agent], overwrite=overwrite)


def load_run(folder: str | Path) -> LoadedRun:
    """Return a run of `pretrain`, `finetune` or `train` at its newest checkpoint, its data read.

    `load_policies` returns the policies alone, without the data that they learned from.

    Raises:
        UserError: it is not a run folder of this package, or a dataset that it learned from is not there.
        CheckpointError: its checkpoint is damaged or missing.
    """
    trainer, spec = load_trainer(folder)
    return LoadedRun(trainer, restore(trainer, Path(folder)), spec)
