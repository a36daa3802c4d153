"""From a configuration to a trainer with its data, environment and evaluators: what the commands share."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from paperloop.errors import UserError, printable, setting
from paperloop.loop.runner import restore
from paperloop.settings import load_config
from paperloop_data import EpisodeDataset, environment_of
from policy_finetune.config import DataOptions, OfflineConfig, OnlineConfig
from policy_finetune.data.checks import check_there, is_minari, load_for, load_options
from policy_finetune.data.saved_policies import saved_environment
from policy_finetune.envs.recorded import spec_of_recorded, task_of
from policy_finetune.envs.references import random_return
from policy_finetune.envs.spec import EnvSpec
from policy_finetune.measures.readings import config_type
from policy_finetune.replay.packing import OfflineData
from policy_finetune.trainers.offline import OfflineTrainer
from policy_finetune.trainers.online import OnlineTrainer
from policy_finetune.trainers.switch import Pretrained

__all__ = [
    "as_start", "evaluation_blocks", "load_datasets", "load_trainer", "offline_trainer", "online_trainer",
    "pretrained_of",
]  # fmt: skip

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
                print(printable(f"note: {finding}"), file=sys.stderr)
        out.append(data)
    return out


def spec_of(config: OfflineConfig, *, folder: str | Path | None = None) -> EnvSpec:
    """Return the environment that a configuration names, or else the one that its first dataset was recorded in.

    The latter has the arguments and the time limit that it had when the data were recorded.

    Args:
        config: the configuration.
        folder: the run folder that it was read from, if it was.

    Raises:
        UserError: neither says, or the environment cannot be made.
    """
    if config.env_id:
        return EnvSpec.of(config.env_id, observation_keys=config.loading.observation_keys or ())
    if not config.data:
        raise UserError(f"No dataset is given: name at least one with {setting('data')}.")
    return _recorded(seen_from(folder, config.data[0]), config.loading)


def _recorded(file: Path, loading: DataOptions) -> EnvSpec:
    """Return the environment that a dataset was recorded in."""
    keys = loading.observation_keys or ()
    check_there(file)
    options = {"observation_keys": keys} if keys and is_minari(file) else {}
    # Whatever its numbers are: this asks for its name alone.
    stated = environment_of(EpisodeDataset.load(file, drop_nonfinite=True, **options))
    if stated is None:
        raise UserError(f"{file} does not say which environment it is of: name it with {setting('env_id')}.")
    return spec_of_recorded(stated, str(file), observation_keys=keys)


def environment_at(folder: str | Path) -> EnvSpec | str:
    """Return the environment of a run folder: of its checkpoint, or by its configuration or those it started from.

    Raises:
        UserError: none says.
    """
    spec = saved_environment(folder)
    if spec is not None:
        return spec.env_id if spec.is_default else spec
    folder = Path(folder)
    if _is_offline(folder):
        config = load_config(OfflineConfig, folder / "config.json")
        return config.env_id or spec_of(config, folder=folder)
    config = load_config(OnlineConfig, folder / "config.json")
    if config.env_id:
        return config.env_id
    if config.start:
        return environment_at(seen_from(folder, config.start))
    if not config.data:
        raise UserError(f"{folder} does not say which environment it is of.")
    return _recorded(seen_from(folder, config.data[0]), config.loading)


def seen_from(folder: str | Path | None, path: str | Path) -> Path:
    """Return where a path that a run recorded lies: below a folder above the run's, or else as it is written.

    A run records paths as they were typed, relative to the working folder of that day, which is most often a folder
    above the run's.
    """
    path = Path(path)
    if folder is not None and not path.is_absolute():
        for parent in Path(folder).resolve().parents:
            if (parent / path).exists():
                return parent / path
    return path


def data_files(config: OfflineConfig | OnlineConfig, folder: str | Path | None = None) -> tuple[str, ...]:
    """Return the datasets of a run: its own, or those of the runs that it started from.

    Args:
        config: the run's configuration.
        folder: the run folder that it was read from, if it was.
    """
    if config.data or isinstance(config, OfflineConfig) or not config.start:
        return tuple(str(seen_from(folder, file)) for file in config.data)
    before = seen_from(folder, config.start)
    return data_files(
        load_config(OfflineConfig if _is_offline(before) else OnlineConfig, before / "config.json"), before
    )


def _is_offline(folder: Path) -> bool:
    return config_type(folder).endswith("OfflineConfig")


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
    datasets = load_datasets(spec, data_files(config, folder), batch, loading=config.loading, quiet=quiet)
    return OfflineTrainer(config, datasets, spec=spec), spec


def load_trainer(folder: str | Path) -> tuple[Any, EnvSpec]:
    """Return the trainer and environment of a run folder of this package.

    What there is to say of its datasets was said when it was run, and is not repeated.

    Raises:
        UserError: it is not such a folder, or a dataset that it learned from is not there.
    """
    path = Path(folder) / "config.json"
    if not path.exists():
        raise UserError(f"{folder} is not a run folder (no config.json): name the folder that training wrote.")
    kind = config_type(Path(folder))
    if kind.endswith("OfflineConfig"):
        return offline_trainer(load_config(OfflineConfig, path), quiet=True, folder=folder)
    if kind.endswith("OnlineConfig"):
        return online_trainer(load_config(OnlineConfig, path), quiet=True, folder=folder)
    raise UserError(f"{folder} is a run of another package ({kind}).")


def pretrained_of(folder: str | Path) -> tuple[Pretrained, EnvSpec, Any]:
    """Return what a run folder's newest checkpoint holds as a start for fine-tuning, its environment and its config.

    Raises:
        UserError: it is not a run folder of this package.
        CheckpointError: its checkpoint is damaged or missing.
    """
    folder = Path(folder)
    trainer, spec = load_trainer(folder)
    state = restore(trainer, folder)
    return as_start(trainer, state), spec, trainer.config


def as_start(trainer: OfflineTrainer | OnlineTrainer, state: Any) -> Pretrained:
    """Return agents of either trainer as a start for fine-tuning."""
    return Pretrained.of(trainer, state) if isinstance(trainer, OfflineTrainer) else trainer.pretrained(state)


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
        start, spec, _ = pretrained_of(seen_from(folder, config.start))
        if config.env_id and config.env_id != spec.env_id:
            if task_of(config.env_id) != task_of(spec.env_id):
                raise UserError(
                    f"The pre-trained agents of {config.start} are for {spec.env_id}, and {setting('env_id')} names "
                    f"{config.env_id}: name another version of the same task at most."
                )
            if spec.arguments and not quiet:
                print(
                    f"note: the pre-trained agents are for {spec.env_id} with {spec.arguments}, and {config.env_id} is "
                    "made with its defaults",
                    file=sys.stderr,
                )
            spec = EnvSpec.of(config.env_id, observation_keys=keys or spec.observation_keys)
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
    kinds = {agent.replay.kind for agent in config.agents} or {config.replay.kind}
    files = data_files(config, folder)
    data: OfflineData | list[EpisodeDataset] | None = None
    if files and kinds != {"drop"}:
        loading = config.loading.over(start.loading if start else DataOptions())
        data = load_datasets(spec, files, config.structure.batch_size, loading=loading, quiet=quiet)
    # Only the guard asks, and it may take seconds.
    chance = random_return(spec.env_id if spec.is_default else spec) if config.guard.enabled else 0.0
    return OnlineTrainer(config, spec, start=start, data=data, random_return=chance), spec


def evaluation_blocks(config: OnlineConfig) -> set[int]:
    """Return the blocks after which to evaluate: every `eval_env_steps`, and denser soon after the first update."""
    block = config.block
    first = config.first_update
    at = set(range(config.eval_env_steps, config.env_steps + 1, config.eval_env_steps))
    at |= {first + early for early in EARLY if early < config.eval_env_steps * 4 and first + early < config.env_steps}
    return {max(1, -(-steps // block)) for steps in at}
