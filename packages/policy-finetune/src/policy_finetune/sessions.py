"""From a configuration to a trainer with its data, environment and evaluators: what the commands share."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from paperloop.config import load_config, read_json
from paperloop.errors import UserError
from paperloop.option_names import in_option_names
from paperloop.runner import restore
from paperloop_data import EpisodeDataset
from policy_finetune.config import DataOptions, OfflineConfig, OnlineConfig
from policy_finetune.dataset_checks import load_for, load_options
from policy_finetune.envs import EnvSpec
from policy_finetune.offline import OfflineTrainer
from policy_finetune.online import OnlineTrainer
from policy_finetune.packing import OfflineData
from policy_finetune.references import random_return
from policy_finetune.switch import Pretrained

__all__ = ["evaluation_blocks", "load_datasets", "load_run", "offline_trainer", "online_trainer", "pretrained_of"]

#: Environment steps after the first update at which a policy is looked at once more.
EARLY = (250, 500, 1000, 2000)


def load_datasets(
    spec: EnvSpec, files: Sequence[str], batch_size: int, *, loading: DataOptions | None = None, quiet: bool = False
) -> list[EpisodeDataset]:
    """Return datasets with canonical actions; what a user should know of them goes to standard error.

    Args:
        spec: the environment.
        files: their files or folders.
        batch_size: of the learner, which the datasets must suffice for.
        loading: how they are read.
        quiet: say nothing, because it was said before.
    """
    out = []
    for file in files:
        data, findings = load_for(spec, file, batch_size=batch_size, **load_options(loading or DataOptions()))
        if not quiet:
            for finding in findings:
                print(f"note: {in_option_names(finding)}", file=sys.stderr)
        out.append(data)
    return out


def environment_of(config: OfflineConfig) -> str:
    """Return the environment's name: the configuration's, or the one that the first dataset names.

    Raises:
        UserError: neither says.
    """
    if config.env_id:
        return config.env_id
    if not config.data:
        raise UserError("No dataset is given: name at least one with --data FILE.")
    drop = bool(config.loading.drop_nonfinite)
    found = EpisodeDataset.load(config.data[0], drop_nonfinite=drop).attributes.get("env_id")
    if not found:
        raise UserError(f"{config.data[0]} does not say which environment it is of: name it with --env-id.")
    return str(found)


def environment_name(folder: str | Path) -> str:
    """Return the environment of a run folder, by its configuration or those it started from; "" if none says."""
    folder = Path(folder)
    document = read_json(folder / "config.json")["config"]
    if document.get("env_id"):
        return str(document["env_id"])
    if document.get("start"):
        return environment_name(seen_from(folder, document["start"]))
    data = document.get("data") or []
    if not data:
        return ""
    # Whatever its numbers are: this asks for its name alone.
    found = EpisodeDataset.load(seen_from(folder, data[0]), drop_nonfinite=True)
    return str(found.attributes.get("env_id", ""))


def seen_from(folder: str | Path, path: str | Path) -> Path:
    """Return where a path that a run recorded lies: as it is written, or else relative to a folder above the run's.

    A run records paths as they were typed, which elsewhere than in the working folder of that day lead nowhere.
    """
    path = Path(path)
    if not path.exists() and not path.is_absolute():
        for parent in Path(folder).resolve().parents:
            if (parent / path).exists():
                return parent / path
    return path


def data_files(config: OfflineConfig | OnlineConfig) -> tuple[str, ...]:
    """Return the datasets of a run: its own, or those of the runs that it started from."""
    if config.data or isinstance(config, OfflineConfig) or not config.start:
        return config.data
    path = Path(config.start) / "config.json"
    kind = str(read_json(path).get("type", ""))
    return data_files(load_config(OfflineConfig if kind.endswith("OfflineConfig") else OnlineConfig, path))


def offline_trainer(config: OfflineConfig, *, quiet: bool = False) -> tuple[OfflineTrainer, EnvSpec]:
    """Return the trainer of an offline configuration, its datasets read and checked.

    Raises:
        UserError: a dataset is missing or does not fit.
    """
    if not config.data:
        raise UserError("No dataset is given: name at least one with --data FILE.")
    spec = EnvSpec.of(environment_of(config))
    learners = [agent.learner for agent in config.agents] or [config.learner]
    batch = max(learner.batch_size for learner in learners)
    return OfflineTrainer(config, load_datasets(spec, config.data, batch, loading=config.loading, quiet=quiet)), spec


def load_run(folder: str | Path) -> tuple[Any, EnvSpec]:
    """Return the trainer and environment of a run folder of this package.

    What there is to say of its datasets was said when it was run, and is not repeated.

    Raises:
        UserError: it is no such folder.
    """
    path = Path(folder) / "config.json"
    if not path.exists():
        raise UserError(f"{folder} is no run folder (no config.json): name the folder that training wrote.")
    kind = str(read_json(path).get("type", ""))
    if kind.endswith("OfflineConfig"):
        return offline_trainer(load_config(OfflineConfig, path), quiet=True)
    if kind.endswith("OnlineConfig"):
        return online_trainer(load_config(OnlineConfig, path), quiet=True)
    raise UserError(f"{folder} is a run of another package ({kind}).")


def pretrained_of(folder: str | Path, *, fallback: bool = False) -> tuple[Pretrained, EnvSpec, Any]:
    """Return what a run folder's newest checkpoint holds as a start for fine-tuning, its environment and its config.

    Raises:
        UserError: it is no run folder of this package.
        CheckpointError: its checkpoint is damaged or missing.
    """
    folder = Path(folder)
    trainer, spec = load_run(folder)
    state = restore(trainer, folder, fallback=fallback)
    start = Pretrained.of(trainer, state) if isinstance(trainer, OfflineTrainer) else trainer.pretrained(state)
    return start, spec, trainer.config


def online_trainer(config: OnlineConfig, *, quiet: bool = False) -> tuple[OnlineTrainer, EnvSpec]:
    """Return the trainer of an online configuration: pre-trained agents restored, datasets read.

    Raises:
        UserError: something is missing or does not fit.
    """
    start, files = None, config.data
    if config.start:
        start, spec, before = pretrained_of(Path(config.start))
        files = files or data_files(before)
        if config.env_id and config.env_id != spec.env_id:
            if _task(config.env_id) != _task(spec.env_id):
                raise UserError(
                    f"The pre-trained agents of {config.start} are for {spec.env_id}, and --env-id names "
                    f"{config.env_id}: name another version of the same task at most."
                )
            spec = EnvSpec.of(config.env_id)
        if len(config.data) > max(start.dataset) + 1:
            raise UserError(
                f"{len(config.data)} datasets are given, but the agents of {config.start} learned from "
                f"{max(start.dataset) + 1}: give the same ones in the same order, or none."
            )
    else:
        if not config.env_id:
            raise UserError("No environment is given: name it with --env-id, or a pre-trained run with --start.")
        spec = EnvSpec.of(config.env_id)
        if len(files) > 1:
            raise UserError("From nothing, all agents share one dataset: give one with --data, or none.")
    kinds = {agent.replay.kind for agent in config.agents} or {config.replay.kind}
    data: OfflineData | list[EpisodeDataset] | None = None
    if files and kinds != {"drop"}:
        loading = config.loading.over(start.loading if start else DataOptions())
        data = load_datasets(spec, files, config.structure.batch_size, loading=loading, quiet=quiet)
    chance = random_return(spec.env_id) if config.guard.enabled else 0.0  # only the guard asks, and it may take seconds
    return OnlineTrainer(config, spec, start=start, data=data, random_return=chance), spec


def _task(env_id: str) -> str:
    """Return the name without its version: Hopper-v5 is a Hopper."""
    return env_id.rsplit("-v", 1)[0]


def evaluation_blocks(config: OnlineConfig) -> set[int]:
    """Return the blocks after which to evaluate: every `eval_env_steps`, and denser soon after the first update."""
    block = config.block
    first = config.first_update
    at = set(range(config.eval_env_steps, config.env_steps + 1, config.eval_env_steps))
    at |= {first + early for early in EARLY if early < config.eval_env_steps * 4 and first + early < config.env_steps}
    return {max(1, -(-steps // block)) for steps in at}
