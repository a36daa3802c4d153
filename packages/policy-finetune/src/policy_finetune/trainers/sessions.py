"""From a configuration to a trainer with its data and environment: what the commands share."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from paperloop.errors import UserError, note, setting
from paperloop_data import EpisodeDataset
from policy_finetune.config import DataOptions, OfflineConfig, OnlineConfig
from policy_finetune.data.checks import load_for, load_options
from policy_finetune.envs.recorded import task_of
from policy_finetune.envs.references import random_return
from policy_finetune.envs.spec import EnvSpec
from policy_finetune.replay.packing import OfflineData
from policy_finetune.trainers.offline import OfflineTrainer
from policy_finetune.trainers.online import OnlineTrainer
from policy_finetune.trainers.runs import data_files, load_start, run_config, seen_from, spec_of

__all__ = ["evaluation_blocks", "load_trainer", "offline_trainer", "online_trainer"]

#: Environment steps after the first update at which a policy is looked at once more.
EARLY = (250, 500, 1000, 2000)


def _load_datasets(
    spec: EnvSpec, files: Sequence[str], batch_size: int, loading: DataOptions, quiet: bool
) -> list[EpisodeDataset]:
    """Return datasets with canonical actions; what a user should know of them goes to standard error."""
    out = []
    for file in files:
        data, findings = load_for(spec, file, batch_size=batch_size, **load_options(loading))
        note(() if quiet else findings)
        out.append(data)
    return out


def offline_trainer(
    config: OfflineConfig, *, quiet: bool = False, folder: str | Path | None = None
) -> tuple[OfflineTrainer, EnvSpec]:
    """Return the trainer of an offline configuration, its datasets read and checked.

    Args:
        config: the configuration.
        quiet: say nothing of the data, because it was said before.
        folder: the run folder that it was read from, if it was: its datasets are looked for from there.

    Raises:
        UserError: a dataset is missing or does not fit.
    """
    if not config.data:
        raise UserError(f"No dataset is given: name at least one with {setting('data')}.")
    spec = spec_of(config, folder=folder)
    learners = [agent.learner for agent in config.agents] or [config.learner]
    batch = max(learner.batch_size for learner in learners)
    datasets = _load_datasets(spec, data_files(config, folder), batch, config.loading, quiet)
    return OfflineTrainer(config, datasets, spec=spec), spec


def online_trainer(
    config: OnlineConfig, *, quiet: bool = False, folder: str | Path | None = None
) -> tuple[OnlineTrainer, EnvSpec]:
    """Return the trainer of an online configuration: pre-trained agents restored, datasets read.

    Args:
        config: the configuration.
        quiet: say nothing of the data, because it was said before.
        folder: the run folder that it was read from, if it was: what it started from is looked for from there.

    Raises:
        UserError: something is missing or does not fit.
    """
    start, keys = None, config.loading.observation_keys or ()
    if config.start:
        start, spec, _ = load_start(seen_from(folder, config.start))
        spec = _other_version(config, spec, quiet)
        if len(config.data) > max(start.dataset) + 1:
            raise UserError(
                f"{len(config.data)} datasets are given, but the agents of {config.start} learned from "
                f"{max(start.dataset) + 1}: give the same ones in the same order, or none."
            )
    else:
        if not config.env_id:
            raise UserError(
                f"No environment is given: name it with {setting('env_id')}, or a pre-trained run with "
                f"{setting('start')}."
            )
        spec = EnvSpec.of(config.env_id, observation_keys=keys)
        if len(config.data) > 1:
            raise UserError(f"From nothing, all agents share one dataset: give one with {setting('data')}, or none.")
    kinds = {agent.replay.type for agent in config.agents} or {config.replay.type}
    files = () if kinds == {"drop"} else data_files(config, folder)
    data: OfflineData | list[EpisodeDataset] | None = None
    if files:
        loading = config.loading.over(start.loading if start else DataOptions())
        data = _load_datasets(spec, files, config.structure.batch_size, loading, quiet)
    # Only the guard asks, and it may take seconds.
    chance = random_return(spec) if config.guard else 0.0
    return OnlineTrainer(config, spec, start=start, data=data, random_return=chance), spec


def _other_version(config: OnlineConfig, spec: EnvSpec, quiet: bool) -> EnvSpec:
    """Return the environment of pre-trained agents, or another version of it, where the configuration names one."""
    if config.env_id in ("", spec.env_id):
        return spec
    if task_of(config.env_id) != task_of(spec.env_id):
        raise UserError(
            f"The pre-trained agents of {config.start} are for {spec.env_id}, and {setting('env_id')} names "
            f"{config.env_id}: name another version of the same task at most."
        )
    if spec.arguments and not quiet:
        before = f"the pre-trained agents are for {spec.env_id} with {spec.arguments}"
        note([f"{before}, and {config.env_id} is made with its defaults"])
    return EnvSpec.of(config.env_id, observation_keys=config.loading.observation_keys or spec.observation_keys)


def load_trainer(folder: str | Path, data: Sequence[str | Path] = ()) -> tuple[Any, EnvSpec]:
    """Return the trainer and environment of a run folder of this package.

    What there is to say of its datasets was said when it was run, and is not repeated.

    Args:
        folder: the run folder.
        data: its datasets, where these have been moved.

    Raises:
        UserError: it is not such a folder, or a dataset that it learned from is not there.
    """
    config = run_config(folder)
    if data:  # which a run that resumes may change
        config = dataclasses.replace(config, data=tuple(map(str, data)))
    if isinstance(config, OfflineConfig):
        return offline_trainer(config, quiet=True, folder=folder)
    return online_trainer(config, quiet=True, folder=folder)


def evaluation_blocks(config: OnlineConfig) -> set[int]:
    """Return the blocks after which to evaluate: every `eval_env_steps`, and denser soon after the first update."""
    block = config.block
    first = config.first_update
    at = set(range(config.eval_env_steps, config.env_steps + 1, config.eval_env_steps))
    at |= {first + early for early in EARLY if early < config.eval_env_steps * 4 and first + early < config.env_steps}
    return {max(1, -(-steps // block)) for steps in at}
