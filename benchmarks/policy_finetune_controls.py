"""What the agents of a study would have shown without any training online, and what they really are worth.

An evaluation of a few episodes is noisy, and the minimum over many of them is low for a policy that hardly moves. So
the benchmarks of fine-tuning have this control: each pre-trained policy is evaluated as often as the fine-tuned ones
are, with fresh episodes. That is the most that noise can do. The fine-tuned ones meet the same starts at every
evaluation: a policy that does not move at all gets the same return each time, and where episodes are not chaotic one
that moves a little gets nearly the same. Where they are (Hopper), it is as good as fresh. And where a claim rests on
starts and finals, both are measured anew over many episodes, from the checkpoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.policy_finetune_study import PRETRAINER, StudyCurve
from paperloop.seeds import fold_seed
from paperloop.settings import load_config, read_json
from policy_finetune.config import SCHEMA, OfflineConfig, OnlineConfig
from policy_finetune.data.saved_policies import load_policies
from policy_finetune.envs.rollouts import evaluate
from policy_finetune.measures.collapse import collapse_metrics

FROZEN = "no training"


def returns_of(run: Path, episodes: int, seed: int) -> np.ndarray:
    """Return the undiscounted returns (A, episodes) of a run's agents at its newest checkpoint."""
    policy, _ = load_policies(run)
    return np.asarray(evaluate(policy, policy.spec, episodes=episodes, seed=seed).returns)


def frozen_curves(
    study: Path, like: Sequence[StudyCurve], *, episodes: int, random_return: float, label: str = FROZEN
) -> list[StudyCurve]:
    """Return the curves that the pre-trained agents of a study have without training, an agent for each seed.

    Args:
        study: the study's folder.
        like: its curves, which say when there is an evaluation, and name the datasets and the seeds.
        episodes: of an evaluation.
        random_return: what a random policy gets.
        label: the arm's name.
    """
    by_start = {c.start: c for c in like}
    seeds = sorted({c.seed for c in like})
    folder = study / "pretrain" / read_json(study / "plan.json")["pretrain"][PRETRAINER]
    agents = load_config(OfflineConfig, folder / "config.json", SCHEMA).agents
    steps = by_start[0].steps
    shape = len(agents), len(seeds), len(steps), episodes
    every = returns_of(folder, int(np.prod(shape[1:])), fold_seed(0, "frozen")).reshape(shape).mean(-1)
    out = []
    for start in range(len(agents)):
        for i, seed in enumerate(seeds):
            metrics = collapse_metrics(steps, every[start, i], random=random_return)
            out.append(StudyCurve(by_start[start].dataset, label, start, seed, steps, every[start, i], metrics))
    return out


def measured_again(study: Path, like: Sequence[StudyCurve], *, episodes: int) -> list[StudyCurve]:
    """Return curves of two points: each agent before and after fine-tuning, by many episodes from its checkpoints.

    Args:
        study: the study's folder.
        like: its curves, which name the datasets.
        episodes: of each measurement.
    """
    plan = read_json(study / "plan.json")
    seed = fold_seed(0, "again")
    before = returns_of(study / "pretrain" / plan["pretrain"][PRETRAINER], episodes, seed).mean(1)
    datasets = {c.start: c.dataset for c in like}
    out = []
    for run in plan["finetune"]:
        folder = study / "finetune" / run
        config = load_config(OnlineConfig, folder / "config.json", SCHEMA)
        after = returns_of(folder, episodes, seed).mean(1)
        steps = np.array([0.0, config.env_steps])
        for i, agent in enumerate(config.agents):
            returns = np.array([before[agent.start], after[i]])
            curve = steps, returns, collapse_metrics(steps, returns)
            out.append(StudyCurve(datasets[agent.start], agent.label, agent.start, agent.seed, *curve))
    return out
