"""The data and demonstrations of a training: read, and refused where something is missing."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from otr.config import ORILConfig
from otr.episodes.demonstrations import Score, load_demonstrations
from otr.episodes.features import check_compatible
from otr.episodes.files import is_minari, noted_warnings, read_dataset
from otr.episodes.truth import with_true_rewards
from otr.labellers import make_labeller
from otr.training.config import TrainConfig
from otr.training.programs import Program
from otr.training.report import listed
from paperloop.errors import UserError, printable, setting
from paperloop_data import EpisodeDataset, environment_of, next_rows

if TYPE_CHECKING:
    from policy_finetune.envs.spec import EnvSpec

__all__ = ["demonstration_score", "read_inputs", "semantics_of"]


def read_inputs(
    config: TrainConfig, programs: Sequence[Program], *, quiet: bool
) -> tuple[EnvSpec, EpisodeDataset, EpisodeDataset]:
    """Return environment, data and demonstrations, held against one another before anything is written."""
    from policy_finetune.data.checks import load_for
    from policy_finetune.envs.spec import EnvSpec

    if not config.data:
        raise UserError(f"No dataset is given: name one with {setting('data')}.")
    spec = EnvSpec.of(config.env_id) if config.env_id else None
    limit = config.max_episode_steps
    if limit is None and spec is not None and not is_minari(config.data):
        limit = spec.max_episode_steps  # makes a difference only where the file has no time-outs
    parts = {"observation_keys": config.observation_keys, "action_keys": config.action_keys}
    keys: dict[str, Any] = {name: value or None for name, value in parts.items()}
    with noted_warnings():
        data = read_dataset(
            config.data, episode_ends=config.episode_ends, max_episode_steps=limit,
            drop_nonfinite=config.drop_nonfinite, **keys,
        )  # fmt: skip
        notes = []
        restored = with_true_rewards(data)
        if restored is not data:
            data = restored
            notes.append("The data was labelled before: the rewards that it had before that count as the true ones.")
        _need_truth(data, config)
        reading = {**keys, "drop_nonfinite": config.drop_nonfinite}
        demos = load_demonstrations(
            config.demos, data, score=demonstration_score(config), **{k: v for k, v in reading.items() if v}
        )
    spec = spec or EnvSpec.of(_environment(data, config))
    checked, findings = load_for(spec, data, batch_size=config.batch_size)
    _need_batches(checked, config, programs)
    _need_labels(data, demos, config)
    if not quiet:
        for note in (*notes, *findings):
            print(printable(f"note: {note}"), file=sys.stderr)
    return spec, data, demos


def demonstration_score(config: TrainConfig) -> Score:
    """What top:K ranks by."""
    return config.demo_score or ("antmaze" if config.domain == "antmaze" else "return")


def _environment(data: EpisodeDataset, config: TrainConfig) -> str:
    """The environment that the data states."""
    found = environment_of(data)
    if found is None:
        raise UserError(f"{config.data} does not say which environment it is of: name it with {setting('env_id')}.")
    return found.id


def _need_truth(data: EpisodeDataset, config: TrainConfig) -> None:
    """Refuse what needs true rewards where there are none."""
    if data.rewards.any():
        return
    needy = [f"the labels {name!r}" for name in config.used_labels if name == "oracle"]
    needy += [f"the learner {name!r}" for name in config.learners if name == "bc10"]
    needy += [f"the labels {name!r}" for name in config.used_labels if name == "uds"]
    if needy:
        raise UserError(
            f"{config.data}: every reward is 0, so the true rewards, which {needy[0]} needs, are not known: leave it "
            "out, or give data that has them."
        )


def semantics_of(data: EpisodeDataset) -> Literal["exact", "d4rl"]:
    """Which steps learners learn from: without stored next observations the last of an episode has none."""
    return "d4rl" if next_rows(data) is None else "exact"


def _need_batches(data: EpisodeDataset, config: TrainConfig, programs: Sequence[Program]) -> None:
    """Refuse a batch that transitions, or those of the best episodes by true return, do not fill.

    Of the best by labels only the trainer can know.
    """
    episodes = data.episode_of_row[data.transitions(semantics_of(data)).rows]
    wanted = {arm.top_fraction for program in programs for arm in program.arms if arm.learner != "bc10-labels"}
    ranked = np.argsort(-data.returns(), kind="stable")
    for fraction in sorted(wanted, reverse=True):
        best = ranked[: int(np.ceil(fraction * data.num_episodes - 1e-9))]
        count = int(np.isin(episodes, best).sum())
        if count < config.batch_size:
            what = "it has" if fraction == 1 else f"the best {fraction:.0%} of its episodes have"
            raise UserError(
                f"{config.data}: {what} {count} transitions, fewer than the batch size of {config.batch_size}: give a "
                f"smaller {setting('batch_size')}{'' if fraction == 1 else ', or leave bc10 out'}."
            )


def _need_labels(data: EpisodeDataset, demos: EpisodeDataset, config: TrainConfig) -> None:
    """Refuse labels that data and demonstrations lack something for, before anything is written."""
    settings = {name: config.label_config(name) for name in config.used_presets}
    compared = {name: one.features for name, one in settings.items() if hasattr(one, "features")}
    needy = [name for name, one in compared.items() if "next" in one.inputs and one.missing_next == "error"]
    for part in (data, demos):
        if needy and next_rows(part) is None:
            names, verb = listed([repr(name) for name in needy]), "compares" if len(needy) == 1 else "compare"
            raise UserError(
                f"{part.where}: no next observations are stored, which {names} {verb}: "
                f"leave {names} out of {setting('labels')}, or give {'data' if part is data else 'demonstrations'} "
                "with next observations."
            )
    one_episode = data.select([0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what they say is said when the whole is labelled
        for name, one in settings.items():
            if isinstance(one, ORILConfig):  # its fit is the training of a network
                check_compatible(data, demos, one.features)
            else:  # whoever compares features can do with little data here; UDS searches all of it
                make_labeller(one).fit(demos, one_episode if name in compared else data)
