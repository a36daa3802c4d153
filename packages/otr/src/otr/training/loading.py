"""A finished training for use elsewhere: its settings, its runs, and a policy for each arm and seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from otr.training.config import TrainConfig
from otr.training.programs import make_programs
from otr.training.report import saved_training
from paperloop.errors import UserError
from paperloop.settings import did_you_mean

if TYPE_CHECKING:
    from policy_finetune import LoadedRun, Policy

__all__ = ["LoadedTraining", "load_run"]


@dataclass(frozen=True, eq=False)
class LoadedTraining:
    """A folder of `otr train` at the newest checkpoints.

        training = load_run("runs/pendulum")
        action = training.policy("iql otr").predict(observation)  # in the environment's units
        training.runs["iql"].export("policy.npz", agent=2)

    Attributes:
        config: the settings of the training.
        seed: its seed.
        runs: learner -> its run, with trainer, state and policies: one agent for each labelling and seed. The learners
            that clone share the run "bc".
    """

    config: TrainConfig
    seed: int
    runs: Mapping[str, LoadedRun]

    @property
    def arms(self) -> tuple[str, ...]:
        """The arms, as the table of `otr train` calls them: "bc", "iql otr"."""
        return tuple(dict.fromkeys(label for run in self.runs.values() for label in run.agents))

    def policy(self, arm: str, seed: int = 0) -> Policy:
        """Return the policy of one agent of an arm, in the environment's units.

        Args:
            arm: learner and labels, such as "iql otr".
            seed: which of the arm's seeds, from 0 on.

        Raises:
            UserError: there is no such arm or seed.
        """
        found = [(run, i) for run in self.runs.values() for i, label in enumerate(run.agents) if label == arm]
        if not found:
            raise UserError(f"There is no arm {arm!r}{did_you_mean(arm, self.arms)}")
        if not 0 <= seed < len(found):
            raise UserError(f"The arm {arm!r} has the seeds 0 to {len(found) - 1}, and not {seed}.")
        run, agent = found[seed]
        return run.policies[agent]


def load_run(folder: str | Path) -> LoadedTraining:
    """Return a training of `otr train`, with the labelled data in its folder, which may have been moved.

    Raises:
        UserError: it is not such a folder, or policy-finetune is missing.
        CheckpointError: a checkpoint is damaged, or there is none yet.
    """
    config, seed = saved_training(Path(folder))
    names = [program.name for program in make_programs(config)]  # which says where policy-finetune is missing
    from policy_finetune import load_run

    return LoadedTraining(config, seed, {name: load_run(Path(folder) / name) for name in names})
