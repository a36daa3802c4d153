"""Run folders of this package: their configuration, environment, data files, and their agents as a start."""

from __future__ import annotations

from pathlib import Path

from paperloop.errors import UserError, setting
from paperloop.settings import load_config
from paperloop_data import EpisodeDataset, dataset_path, environment_of, is_minari
from policy_finetune.config import SCHEMA, OfflineConfig, OnlineConfig
from policy_finetune.data.saved_policies import payload_of, saved_environment, saved_labels
from policy_finetune.envs.recorded import spec_of_recorded
from policy_finetune.envs.spec import EnvSpec
from policy_finetune.measures.readings import config_type
from policy_finetune.trainers.pretrained import Pretrained, blank

__all__ = ["data_files", "environment_of_run", "load_start", "run_config", "seen_from", "spec_of", "starts_of"]


def run_config(folder: str | Path) -> OfflineConfig | OnlineConfig:
    """Return the configuration of a run.

    Raises:
        UserError: it is not a run folder of this package and version.
    """
    path = Path(folder) / "config.json"
    if not path.exists():
        raise UserError(f"{folder} is not a run folder (no config.json): name the folder that training wrote.")
    kind = config_type(Path(folder))
    for known in (OfflineConfig, OnlineConfig):
        if kind.endswith(known.__name__):
            return load_config(known, path, SCHEMA)
    raise UserError(f"{folder} is a run of another package ({kind}).")


def load_start(folder: str | Path) -> tuple[Pretrained, EnvSpec, OfflineConfig | OnlineConfig]:
    """Return a run's agents at its newest checkpoint as a start for fine-tuning, their environment and configuration.

    Their datasets need not be there.

    Raises:
        UserError: it is not a run folder of this package.
        CheckpointError: its checkpoint is damaged or missing.
    """
    config, payload = run_config(folder), payload_of(folder)
    spec = saved_environment(folder) or spec_of(config, folder=folder)
    learners = [agent.learner for agent in config.agents] or [config.learner]
    like = blank(learners, len(saved_labels(folder)), spec.obs_dim, spec.act_dim)
    return Pretrained.load(payload / "start", like), spec, config


def spec_of(config: OfflineConfig | OnlineConfig, *, folder: str | Path | None = None) -> EnvSpec:
    """Return the environment that a configuration names, or else the one that its first dataset was recorded in.

    The latter has the arguments and the time limit that it had when the data were recorded.

    Args:
        config: the configuration.
        folder: the run folder that it was read from, if it was.

    Raises:
        UserError: neither says, or the environment cannot be made.
    """
    keys = config.loading.observation_keys or ()
    if config.env_id:
        return EnvSpec.of(config.env_id, observation_keys=keys)
    if not config.data:
        raise UserError(f"No dataset is given: name at least one with {setting('data')}.")
    file = dataset_path(seen_from(folder, config.data[0]))
    options = {"observation_keys": keys} if keys and is_minari(file) else {}
    # Whatever its numbers are: this asks for its name alone.
    stated = environment_of(EpisodeDataset.load(file, drop_nonfinite=True, **options))
    if stated is None:
        raise UserError(f"{file} does not say which environment it is of: name it with {setting('env_id')}.")
    return spec_of_recorded(stated, str(file), observation_keys=keys)


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
    return data_files(run_config(before), before)


def starts_of(config: OnlineConfig, agents: int) -> list[int]:
    """Return the index of the pre-trained agent that each of a run's agents went out from."""
    return [agent.start for agent in config.agents] or [i // config.seeds for i in range(agents)]


def environment_of_run(folder: str | Path) -> EnvSpec | str:
    """Return the environment of a run folder: of its checkpoint, or by its configuration.

    Raises:
        UserError: neither says.
    """
    spec = saved_environment(folder)
    if spec is not None:
        return spec.env_id if spec.is_default else spec
    config = run_config(folder)
    return config.env_id or spec_of(config, folder=folder)
