"""The labelled files of a training, one for each labeller."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from otr.episodes.demonstrations import demonstrations_by
from otr.episodes.files import noted_warnings
from otr.episodes.truth import ORIGINAL_REWARDS
from otr.labels.labelling import label, with_facts
from otr.labels.output import save_dataset
from otr.training.config import ORIGINAL, TrainConfig
from otr.training.folder import KEY, remove_all
from otr.training.inputs import demonstration_score
from otr.training.labels import GivenLabels
from paperloop.errors import UserError, setting
from paperloop.settings import json_hash, to_dict
from paperloop_data import EpisodeDataset

if TYPE_CHECKING:
    from policy_finetune.envs.spec import EnvSpec

__all__ = ["label_all", "load_labelled"]


def label_all(
    folder: Path, sources: Iterable[str], config: TrainConfig, data: EpisodeDataset, demos: EpisodeDataset,
    given: Mapping[str, GivenLabels], origin: Mapping[str, Any], *, quiet: bool,
) -> dict[str, tuple[Path, str]]:  # fmt: skip
    """Write the files that are missing; returns name -> (path, key that it has to have)."""
    folder.mkdir(exist_ok=True)
    # A killed process leaves a partial file, or the chunks of a complete one. From other chunks labelling resumes.
    remove_all(folder.glob(".*.hdf5.*.tmp"))
    remove_all(folder / f".{name}.labels" for name in sources if (folder / f"{name}.hdf5").exists())
    contents = [origin["data"], origin["demonstrations"], origin["otr"]]
    files = {}
    with noted_warnings():
        for name in sources:
            path = folder / f"{name}.hdf5"
            labeller = None if name == ORIGINAL or name in given else config.label_config(name)
            made_by = None if labeller is None else [to_dict(labeller), origin["solvers"].get(name, "")]
            made_by = given[name].digest if name in given else made_by
            key = json_hash([*contents, name, made_by])
            files[name] = path, key
            if path.exists():
                continue
            dataset = given[name].on(data, ORIGINAL_REWARDS) if name in given else data
            if labeller is not None:
                store = folder / f".{name}.labels"
                dataset = label(data, demos, labeller, store=store, progress=not quiet).dataset
                by = demonstrations_by(config.demos, demonstration_score(config))
                dataset = with_facts(dataset, {"domain": config.domain, "demonstrations_by": by})
            attributes = {**dataset.attributes, KEY: {"key": key}}
            dataset = dataset.replace(attributes=attributes, provenance=dataset.provenance)
            save_dataset(dataset, path, "d4rl", overwrite=False, compress=False)
            shutil.rmtree(folder / f".{name}.labels", ignore_errors=True)
    return files


def load_labelled(spec: EnvSpec, path: Path, config: TrainConfig, key: str) -> EpisodeDataset:
    """Return what the learners get to see of a file in OUT/data: read as policy-finetune itself reads it."""
    from policy_finetune.data.checks import load_for

    data, _ = load_for(spec, path, batch_size=config.batch_size, extras=False)  # what is worth saying was said before
    if data.attributes.get(KEY) != {"key": key}:
        raise UserError(
            f"{path} is not the file that this training made there: restore it, or choose another {setting('out')}."
        )
    return data
