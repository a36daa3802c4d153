"""Labelling a dataset: in chunks that survive a kill, cached by content, with the settings written into the result.

    result = label(data, demos, OTRConfig(), store=Path("labels"))
    result.dataset.save("labelled.hdf5")

With a `store`, the labels of each chunk of episodes are a file below `<store>/<key>/` (`otr.labels.store`), where the
key is a hash of the data, the demonstrations, the settings and the version (`otr.labels.keys`). A killed run started
again finds what is there, computes the rest, and gives the same bytes; a run with nothing changed computes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from otr.episodes.features import PLACE
from otr.episodes.truth import ORIGINAL_REWARDS
from otr.labellers.interface import Fitted, Labels
from otr.labellers.registry import config_class, fit_labeller, name_of
from otr.labellers.rewards import Scale, apply_scale, episode_sums, fit_scale, vanished
from otr.labels.keys import CHUNK_STEPS, digest_of, label_key, otr_version
from otr.labels.store import SCHEMA, ChunkStore
from otr.labels.time_outs import repeated, without_time_outs
from paperloop.errors import UserError
from paperloop.loop.progress import Progress
from paperloop.settings import to_dict
from paperloop_data import EpisodeDataset

__all__ = ["ATTRIBUTE", "LabelResult", "label", "with_facts"]

#: The attribute that holds what is known about the labels.
ATTRIBUTE = "otr"
#: Numbers by episode are written into the attributes up to so many episodes.
LISTED_EPISODES = 20_000


class LabelResult(NamedTuple):
    """What `label` returns.

    Attributes:
        dataset: the data with new rewards; the old ones are its extra "infos/original_rewards".
        labels: the raw labels, before the scale.
        scale: what they were multiplied by, and what was added.
        fitted: the fitted labeller, for plans and the like; None where everything came from the store.
        computed: chunks computed in this call.
        chunks: chunks in all.
    """

    dataset: EpisodeDataset
    labels: Labels
    scale: Scale
    fitted: Fitted | None
    computed: int
    chunks: int


def label(
    data: EpisodeDataset,
    demos: EpisodeDataset,
    config: Any,
    *,
    drop_time_outs: bool = False,
    store: str | Path | None = None,
    chunk_steps: int = CHUNK_STEPS,
    progress: bool = False,
) -> LabelResult:
    """Replace the rewards of a dataset.

    Args:
        data: the episodes to label; their rewards are not looked at, but kept.
        demos: the demonstrations, see `otr.episodes.demonstrations`.
        config: a labeller's configuration, such as `preset("otr-converged")`; or the name of a labeller, for its
            defaults: "otr", "seabo", "minimum-distance", "segment-matching", "pwil", "oril", "uds", "constant",
            "oracle", or one of `add_labeller`.
        drop_time_outs: compare and scale without the steps that time out, which D4RL's loader, and so the authors'
            code, leaves out of data and demonstrations (`otr.labels.time_outs`). Such a step repeats the label of the
            one before it.
        store: folder for finished chunks, which stay there as a cache; None keeps nothing on disk.
        chunk_steps: steps in a chunk, at least; part of the key, for labels may depend on it in the last bit.
        progress: show a bar, where the output is a terminal.

    Returns:
        The labelled dataset and what is known about the labels.

    Raises:
        UserError: data or demonstrations are not an `EpisodeDataset`, or do not fit together, the method lacks
            something, or the store cannot be used.
    """
    if chunk_steps < 1:
        raise UserError(f"chunk_steps is at least 1; got {chunk_steps}.")
    loaders = ("EpisodeDataset.load(path)", "otr.load_demonstrations(spec, data)")
    for name, value, how in zip(("data", "demos"), (data, demos), loaders, strict=True):
        if not isinstance(value, EpisodeDataset):
            raise UserError(f"label() takes {name} as an EpisodeDataset, and got {value!r:.60}: load it, by {how}.")
    config = config_class(config)() if isinstance(config, str) else config
    compared = data
    if drop_time_outs:
        compared, demos = without_time_outs(data), without_time_outs(demos)
    key = label_key(compared, demos, config, chunk_steps=chunk_steps)
    chunks = _Chunks(compared, demos, config, None if store is None else ChunkStore(Path(store), key))
    bounds = _bounds(data=compared, chunk_steps=chunk_steps)
    bar = Progress(compared.num_steps, enabled=progress, label="label")
    parts = []
    try:
        for number, (first, last) in enumerate(bounds):
            parts.append(chunks.get(number, first, last))
            bar.update(int(compared.episode_ends[last - 1]))
    finally:
        bar.close()
    labels = Labels(
        np.concatenate([part.rewards for part in parts]),
        {name: np.concatenate([part.episodes[name] for part in parts]) for name in parts[0].episodes},
    )
    scale = fit_scale(labels.rewards, compared.episode_starts, config.scale)
    labels = repeated(labels, compared, data) if drop_time_outs else labels
    about = {**chunks.description, "drop_time_outs": drop_time_outs, "key": key}
    dataset = _relabelled(data, demos, config, labels, scale, about)
    return LabelResult(dataset, labels, scale, chunks.fitted, chunks.computed, len(parts))


class _Chunks:
    """The chunks of one labelling, from the store or else by a labeller that is fitted when it is first needed."""

    def __init__(self, data: EpisodeDataset, demos: EpisodeDataset, config: Any, store: ChunkStore | None) -> None:
        self._data, self._demos, self._config, self._store = data, demos, config, store
        self.fitted: Fitted | None = None
        self.description: Mapping[str, Any] = {}
        self.computed = 0

    def get(self, number: int, first: int, last: int) -> Labels:
        """Return the labels of the episodes from `first` to before `last`."""
        data = self._data
        steps = int(data.lengths[first:last].sum())
        found = None if self._store is None else self._store.load(number, steps=steps, episodes=last - first)
        if found is not None:
            part, self.description = found
            return part
        if self.fitted is None:
            self.fitted = fit_labeller(self._config, self._demos, data)
        chunk = data.select(slice(first, last))
        place = (int(data.episode_starts[first]), first)  # so that notes speak of the whole
        chunk = chunk.replace(attributes={**chunk.attributes, PLACE: place}, provenance=chunk.provenance)
        part = _checked(self.fitted.label(chunk), data, first, steps)
        self.description = getattr(self.fitted, "describe", dict)()
        if self._store is not None:
            self._store.save(number, part, self.description)
        self.computed += 1
        return part


def with_facts(labelled: EpisodeDataset, facts: Mapping[str, Any]) -> EpisodeDataset:
    """Return a labelled dataset that says more of its labels."""
    attributes = {**labelled.attributes, ATTRIBUTE: {**labelled.attributes[ATTRIBUTE], **facts}}
    return labelled.replace(attributes=attributes, provenance=labelled.provenance)


def _bounds(data: EpisodeDataset, chunk_steps: int) -> list[tuple[int, int]]:
    """(first episode, one past the last) of each chunk."""
    bounds, first = [], 0
    while first < data.num_episodes:
        wanted = int(data.episode_starts[first]) + chunk_steps
        last = min(int(np.searchsorted(data.episode_ends, wanted, side="left")) + 1, data.num_episodes)
        bounds.append((first, last))
        first = last
    return bounds


def _checked(part: Labels, data: EpisodeDataset, first: int, steps: int) -> Labels:
    """Refuse labels of the wrong number, and NaN: better none than those."""
    if part.rewards.shape != (steps,):
        raise UserError(f"The labeller gave rewards of shape {part.rewards.shape} for {steps} steps; give one a step.")
    finite = np.isfinite(part.rewards)
    if not finite.all():
        row = int(data.episode_starts[first]) + int(finite.argmin())
        episode = int(data.episode_of_row[row])
        raise UserError(
            f"{data.where}: the label of row {row} (episode {episode}, step {int(data.step_of_row[row])}) is not "
            "finite: scale the features, or use another cost or solver."
        )
    return part


def _relabelled(
    data: EpisodeDataset, demos: EpisodeDataset, config: Any, labels: Labels, scale: Scale, about: Mapping[str, Any]
) -> EpisodeDataset:
    rewards = apply_scale(labels.rewards, scale)
    settings = {
        "schema": SCHEMA,
        "labeller": name_of(config),
        "config": to_dict(config),
        **about,
        "demonstrations_from": demos.where,
        "demonstration_lengths": demos.lengths[:LISTED_EPISODES].tolist(),
        "scale_factor": scale.factor,
        "bias": scale.bias,
        "scale_guarded": scale.guarded,
        "vanished": vanished(labels.rewards, config),
        "otr": otr_version(),
        "rewards": digest_of(rewards),
    }
    facts: dict[str, Any] = dict(settings)
    if data.num_episodes <= LISTED_EPISODES:
        facts["episodes"] = {key: values.tolist() for key, values in labels.episodes.items()}
        facts["episodes"]["unscaled_return"] = episode_sums(labels.rewards, data.episode_starts).tolist()
    extras = dict(data.extras)
    extras.setdefault(ORIGINAL_REWARDS, data.rewards)  # labelled twice: the first ones are the originals
    return data.replace(
        rewards=rewards,
        extras=extras,
        attributes={**data.attributes, ATTRIBUTE: facts},
        provenance=(*data.provenance, {"action": "label", **settings}),
    )
