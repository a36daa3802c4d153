"""What a training learns from: environment, data and demonstrations, and a labelled file for each of the labels."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from otr.config import ORILConfig
from otr.episodes.demonstrations import Score, demonstrations_by, load_demonstrations
from otr.episodes.files import noted_warnings, read_dataset
from otr.episodes.truth import ORIGINAL_REWARDS, with_true_rewards
from otr.labellers.registry import fit_labeller
from otr.labels.keys import content_digest, digest_of, label_key
from otr.labels.labelling import ATTRIBUTE, label, with_facts
from otr.presets import PRESETS, preset
from otr.training.config import ORIGINAL, TrainConfig
from paperloop.errors import UserError, note, setting
from paperloop.files import leftovers, remove
from paperloop_data import EpisodeDataset, environment_of, is_minari, next_rows

if TYPE_CHECKING:
    from policy_finetune import EnvSpec

__all__ = ["Inputs", "read_inputs", "write_labelled"]

#: The attribute of a file in OUT/data that says what it was made from.
KEY = "otr_train"


class Inputs(NamedTuple):
    """What is read before anything is written.

    Attributes:
        spec: the environment.
        data: the dataset, with its true rewards.
        demos: the demonstrations.
        given: name -> dataset, of labels that are files.
        keys: name in OUT/data -> digest of what its file is made from: contents, settings, solver, version.
    """

    spec: EnvSpec
    data: EpisodeDataset
    demos: EpisodeDataset
    given: Mapping[str, EpisodeDataset]
    keys: Mapping[str, str]

    @property
    def semantics(self) -> Literal["d4rl"] | None:
        """Which steps learners learn from: without stored next observations the last of an episode has none."""
        return "d4rl" if next_rows(self.data) is None else None


def read_inputs(config: TrainConfig, sources: Iterable[str], *, quiet: bool) -> Inputs:
    """Return environment, data, demonstrations and given labels, held against one another.

    Args:
        config: the training.
        sources: names of the files in OUT/data that learners learn from.
        quiet: say nothing of the data.

    Raises:
        UserError: one cannot be read, or does not fit the others.
    """
    from policy_finetune import EnvSpec, load_for

    if not config.data:
        raise UserError(f"No dataset is given: name one with {setting('data')}.")
    spec = EnvSpec.of(config.env_id) if config.env_id else None
    # It makes a difference only where a flat file has no time-outs.
    limit = None if spec is None or is_minari(config.data) else spec.max_episode_steps
    with noted_warnings():
        data = with_true_rewards(read_dataset(config.data, max_episode_steps=limit))
        if "bc10" in config.learners and not data.rewards.any():
            raise UserError(
                f"{config.data}: every reward is 0, so the true rewards, which the learner 'bc10' needs, are not known."
            )
        demos = load_demonstrations(config.demos, data, score=_score(config))
    spec = spec or _recorded(data, config)
    _, findings = load_for(spec, data, batch_size=config.batch_size)
    note(() if quiet else findings)
    given, keys = {}, {}
    for name in sources:
        text = config.used_labels.get(name, name)
        if name == ORIGINAL:
            keys[name] = content_digest(data)
        elif text in PRESETS:
            labeller = preset(text, config.domain)
            keys[name] = label_key(data, demos, labeller)
            if not isinstance(labeller, ORILConfig):  # the others fit in no time, and say now what they lack
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    fit_labeller(labeller, demos, data)
        else:
            given[name] = _given(text, data, config)
            keys[name] = f"{content_digest(data)} {digest_of(given[name].rewards)}"
    return Inputs(spec, data, demos, given, keys)


def _score(config: TrainConfig) -> Score:
    return "antmaze" if config.domain == "antmaze" else "return"


def _recorded(data: EpisodeDataset, config: TrainConfig) -> EnvSpec:
    """The environment that the data were recorded in."""
    from policy_finetune import spec_of_recorded

    found = environment_of(data)
    if found is None:
        raise UserError(f"{config.data} does not say which environment it is of: name it with {setting('env_id')}.")
    return spec_of_recorded(found, config.data)


def _given(path: str, data: EpisodeDataset, config: TrainConfig) -> EpisodeDataset:
    """The data with the rewards of a file, which must hold the same steps in the same order."""
    found = read_dataset(path)
    for what in ("num_steps", "episode_starts", "observations", "actions", "terminated"):
        if not np.array_equal(getattr(found, what), getattr(data, what)):
            raise UserError(
                f"{path}: these are not labels of {config.data}, because {what.replace('_', ' ')} differ: label that "
                "file, with the same options for reading it."
            )
    about = {name: found.attributes[name] for name in (ATTRIBUTE,) if name in found.attributes}
    return data.replace(
        rewards=found.rewards,
        extras={**data.extras, ORIGINAL_REWARDS: data.rewards},
        attributes={**data.attributes, **about},
        provenance=data.provenance,
    )


def write_labelled(folder: Path, config: TrainConfig, inputs: Inputs, *, quiet: bool) -> dict[str, EpisodeDataset]:
    """Make the files that are missing; return name -> what the learners see of each, with canonical actions.

    Raises:
        UserError: a file is there that was made from something else.
    """
    from policy_finetune import load_for

    folder.mkdir(exist_ok=True)
    found = {}
    for name, key in inputs.keys.items():
        path, chunks = folder / f"{name}.hdf5", folder / f".{name}.labels"
        if not path.exists():
            dataset = inputs.given.get(name, inputs.data)
            if name != ORIGINAL and name not in inputs.given:
                with noted_warnings():
                    config_of = preset(config.used_labels[name], config.domain)
                    dataset = label(inputs.data, inputs.demos, config_of, store=chunks, progress=not quiet).dataset
                by = demonstrations_by(config.demos, _score(config))
                dataset = with_facts(dataset, {"demonstrations_by": by})
            attributes = {**dataset.attributes, KEY: {"key": key}}
            dataset.replace(attributes=attributes, provenance=dataset.provenance).save(path)
        for left in (chunks, *leftovers(path)):
            remove(left)
        found[name], _ = load_for(inputs.spec, path, batch_size=config.batch_size, extras=False)  # all was said before
        if found[name].attributes.get(KEY) != {"key": key}:
            raise UserError(
                f"{path} is not the file that this training made there: restore it, or choose another {setting('out')}."
            )
    return found
