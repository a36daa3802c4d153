"""A finished run for use elsewhere: its settings and policies, and where they are needed its trainer and state."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from paperloop.errors import UserError
from paperloop.loop.runner import restore
from policy_finetune.config import OfflineConfig, OnlineConfig
from policy_finetune.data.policies import export_policy
from policy_finetune.data.saved_policies import load_policies
from policy_finetune.envs.acting import Policy
from policy_finetune.envs.spec import EnvSpec
from policy_finetune.trainers.offline import OfflineTrainer
from policy_finetune.trainers.online import OnlineTrainer
from policy_finetune.trainers.pretrained import Pretrained
from policy_finetune.trainers.runs import load_start, run_config
from policy_finetune.trainers.sessions import load_trainer

__all__ = ["LoadedRun", "load_run"]


class LoadedRun:
    """A run at its newest checkpoint.

        run = load_run("runs/tuned")
        action = run.policies[0].predict(observation)  # in the environment's units
        state, metrics = run.trainer.step(run.state)  # which consumes run.state

    Only `trainer` and `state` need the datasets that the run learned from, and read them when they are first used.

    Attributes:
        folder: the run folder.
        config: the run's configuration.
        policies: a policy for each agent; `predict` takes observations and gives actions in the environment's units.
        agents: the arm of each agent.
    """

    def __init__(self, folder: str | Path, data: Sequence[str | Path] = ()) -> None:
        self.folder = Path(folder)
        self.config: OfflineConfig | OnlineConfig = run_config(folder)
        policy, self.agents = load_policies(folder)
        self.policies: tuple[Policy, ...] = tuple(policy.agent(i) for i in range(policy.num_agents))
        self._data = data

    @property
    def spec(self) -> EnvSpec:
        """The environment."""
        return self.policies[0].spec

    @functools.cached_property
    def trainer(self) -> OfflineTrainer | OnlineTrainer:
        """The trainer, bound to its configuration and data."""
        return load_trainer(self.folder, self._data)[0]

    @functools.cached_property
    def state(self) -> Any:
        """The trainer's state at the newest checkpoint."""
        return restore(self.trainer, self.folder)

    @property
    def pretrained(self) -> Pretrained:
        """The agents as a start for fine-tuning."""
        return load_start(self.folder)[0]

    def export(self, path: str | Path, *, agent: int = 0, overwrite: bool = False) -> Path:
        """Write one agent's policy to an npz file; see `policy_finetune.data.policies`.

        Raises:
            UserError: there is no such agent, or the file exists or cannot be written.
        """
        if not 0 <= agent < len(self.agents):
            raise UserError(f"There is no agent {agent}: there are {len(self.agents)}, numbered from 0.")
        return export_policy(self.policies[agent], path, label=self.agents[agent], overwrite=overwrite)


def load_run(folder: str | Path, data: Sequence[str | Path] = ()) -> LoadedRun:
    """Return a run of `pretrain`, `finetune` or `train` at its newest checkpoint.

    Args:
        folder: the run folder.
        data: the datasets that it learned from, where these have been moved since.

    Raises:
        UserError: it is not a run folder of this package.
        CheckpointError: its checkpoint is damaged or missing.
    """
    return LoadedRun(folder, data)
