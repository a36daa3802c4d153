"""Labelling a dataset: in chunks that survive a kill, cached by content, with the settings written into the result.

    result = label(data, demos, OTRConfig(), store=Path("labels"))
    result.dataset.save("labelled.hdf5")

With a `store`, the labels of each chunk of episodes are a file below `<store>/<key>/` (`otr.labels.store`), where the
key is a hash of the data, the demonstrations, the settings and the version. A killed run started again finds what is
there, computes the rest, and gives the same bytes; a run with nothing changed computes nothing.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from otr.episodes.features import PLACE
from otr.episodes.truth import ORIGINAL_REWARDS, true_rewards
from otr.labellers import Fitted, Labels, make_labeller
from otr.labellers.registry import LABELLERS, config_class
from otr.labellers.rewards import Scale, apply_scale, episode_sums, fit_scale, vanished
from otr.labels.store import SCHEMA, ChunkStore
from otr.labels.time_outs import repeated, without_time_outs
from paperloop.errors import UserError
from paperloop.loop.progress import Progress
from paperloop.settings import to_dict
from paperloop_data import EpisodeDataset

__all__ = [
    "ATTRIBUTE",
    "ORIGINAL_REWARDS",
    "LabelResult",
    "add_arrays",
    "array_digest",
    "content_key",
    "label",
    "label_key",
    "otr_version",
    "solver_name",
    "with_facts",
]

#: The attribute that holds what is known about the labels.
ATTRIBUTE = "otr"
#: Steps in one chunk, at least; a chunk is whole episodes.
CHUNK_STEPS = 50_000
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
    keep: bool = True,
    chunk_steps: int = CHUNK_STEPS,
    progress: bool = False,
    on_chunk: Callable[[int, int], None] | None = None,
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
        store: folder for finished chunks; None keeps nothing on disk.
        keep: whether what is in the store stays there at the end, as a cache.
        chunk_steps: steps in a chunk, at least; part of the key, for labels may depend on it in the last bit.
        progress: show a bar, where the output is a terminal.
        on_chunk: called with (chunks done, chunks) after each.

    Returns:
        The labelled dataset and what is known about the labels.

    Raises:
        UserError: data or demonstrations are not an `EpisodeDataset`, or do not fit together, the method lacks
            something, or the store cannot be used.
    """
    if chunk_steps < 1:
        raise UserError(f"chunk_steps is at least 1; got {chunk_steps}.")
    for name, value in (("data", data), ("demos", demos)):
        if not isinstance(value, EpisodeDataset):
            loaders = {"data": "EpisodeDataset.load(path)"}
            how = loaders.get(name, "otr.episodes.demonstrations.load_demonstrations(spec, data)")
            raise UserError(f"label() takes {name} as an EpisodeDataset, and got {value!r:.60}: load it, by {how}.")
    config = config_class(config)() if isinstance(config, str) else config
    compared = data
    if drop_time_outs:
        compared, demos = without_time_outs(data), without_time_outs(demos)
    key = content_key(compared, demos, config, chunk_steps)
    chunks = None if store is None else ChunkStore(Path(store), key, len(_chunks(compared, chunk_steps)))
    parts, description, fitted, computed = _label_chunks(
        compared, demos, config, chunks, chunk_steps, progress=progress, on_chunk=on_chunk
    )
    labels = _joined(parts)
    scale = fit_scale(labels.rewards, compared.episode_starts, config.scale)
    if drop_time_outs:
        labels = repeated(labels, compared, data)
    dataset = _relabelled(data, demos, config, labels, scale, {**description, "drop_time_outs": drop_time_outs}, key)
    if chunks is not None and not keep:
        shutil.rmtree(chunks.folder, ignore_errors=True)
    return LabelResult(dataset, labels, scale, fitted, computed, len(parts))


def _label_chunks(
    data: EpisodeDataset,
    demos: EpisodeDataset,
    config: Any,
    store: ChunkStore | None,
    chunk_steps: int,
    *,
    progress: bool,
    on_chunk: Callable[[int, int], None] | None,
) -> tuple[list[Labels], dict[str, Any], Fitted | None, int]:
    """(labels of each chunk, description, the fitted labeller if one was needed, chunks computed)."""
    labeller = make_labeller(config)
    bounds = _chunks(data, chunk_steps)
    description = None if store is None else store.description()
    fitted: Fitted | None = None
    parts: list[Labels] = []
    computed = steps = 0
    bar = Progress(data.num_steps, enabled=progress, label="label")
    try:
        for number, (first, last) in enumerate(bounds):
            size = int(data.lengths[first:last].sum())
            part = None if store is None else store.load(number, steps=size, episodes=last - first)
            found = part is not None
            if part is None or description is None:
                if fitted is None:
                    fitted = labeller.fit(demos, data)
                if part is None:
                    part = _checked(fitted.label(_chunk(data, first, last)), data, first, last)
                    computed += 1
                if description is None:
                    describe = getattr(fitted, "describe", dict)
                    description = dict(describe())
                    if store is not None:  # made only now, so that a method that fails at once leaves no folder
                        settings = {
                            "labeller": type(config).__name__, "config": to_dict(config), "otr": otr_version()
                        }  # fmt: skip
                        store.begin(settings, description)
                if store is not None and not found:
                    store.save(number, part)
            parts.append(part)
            steps += len(part.rewards)
            bar.update(steps)
            if on_chunk is not None:
                on_chunk(number + 1, len(bounds))
    finally:
        bar.close()
    return parts, description or {}, fitted, computed


def label_key(
    data: EpisodeDataset, demos: EpisodeDataset, config: Any, chunk_steps: int, *, drop_time_outs: bool
) -> str:
    """Return the key of what `label` would make of this."""
    if drop_time_outs:
        data, demos = without_time_outs(data), without_time_outs(demos)
    return content_key(data, demos, config, chunk_steps)


def with_facts(labelled: EpisodeDataset, facts: Mapping[str, Any]) -> EpisodeDataset:
    """Return a labelled dataset that says more of its labels."""
    attributes = {**labelled.attributes, ATTRIBUTE: {**labelled.attributes[ATTRIBUTE], **facts}}
    return labelled.replace(attributes=attributes, provenance=labelled.provenance)


def content_key(data: EpisodeDataset, demos: EpisodeDataset, config: Any, chunk_steps: int = CHUNK_STEPS) -> str:
    """Return 32 hexadecimal digits that depend on whatever the labels depend on: contents, settings, version."""
    digest = hashlib.sha256()
    head = {
        "schema": SCHEMA,
        "version": otr_version(),
        "config": [type(config).__name__, to_dict(config)],
        "solver": solver_name(config),
        "chunk_steps": chunk_steps,
    }
    digest.update(json.dumps(head, sort_keys=True).encode())
    # Most labels depend on no reward; the oracle's are those of the data, and UDS keeps those of the demonstrations.
    oracle, uds = (LABELLERS.get(name) is type(config) for name in ("oracle", "uds"))
    for dataset, by_rewards in ((data, oracle), (demos, uds)):
        arrays = [dataset.episode_starts, dataset.observations, dataset.actions]
        arrays += [true_rewards(dataset)] if by_rewards else []
        add_arrays(digest, (*arrays, dataset.next_observations, dataset.final_observations))
    return digest.hexdigest()[:32]


def add_arrays(digest: Any, arrays: Iterable[np.ndarray | None]) -> None:
    """Add types, shapes and contents of arrays to a digest of hashlib's; that one is missing counts too."""
    for array in arrays:
        if array is None:
            digest.update(b"none")
            continue
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)


def array_digest(array: np.ndarray) -> str:
    """Return 32 hexadecimal digits that depend on type, shape and contents of an array."""
    digest = hashlib.sha256()
    add_arrays(digest, [array])
    return digest.hexdigest()[:32]


def solver_name(config: Any) -> str:
    """Return the back end that "auto" means here, "" without one: its bits are not those of another."""
    solver = getattr(config, "solver", None)
    if solver is None:
        return ""
    from otr.optimal_transport.sinkhorn import make_solver

    return make_solver(solver.backend).name


def otr_version() -> str:
    """Return the version of this package, "unknown" where it is not installed."""
    try:
        return importlib.metadata.version("otr")
    except importlib.metadata.PackageNotFoundError:  # run from a source tree that is not installed
        return "unknown"


def _chunks(data: EpisodeDataset, chunk_steps: int) -> list[tuple[int, int]]:
    """(first episode, one past the last) of each chunk."""
    bounds, first = [], 0
    while first < data.num_episodes:
        wanted = int(data.episode_starts[first]) + chunk_steps
        last = int(np.searchsorted(data.episode_ends, wanted, side="left")) + 1
        last = min(last, data.num_episodes)
        bounds.append((first, last))
        first = last
    return bounds


def _chunk(data: EpisodeDataset, first: int, last: int) -> EpisodeDataset:
    """Some episodes, which know where they stand in the whole."""
    part = data.select(slice(first, last))
    place = (int(data.episode_starts[first]), first)
    return part.replace(attributes={**part.attributes, PLACE: place}, provenance=part.provenance)


def _checked(part: Labels, data: EpisodeDataset, first: int, last: int) -> Labels:
    """Refuse labels of the wrong number, and NaN: better none than those."""
    steps = int(data.lengths[first:last].sum())
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


def _joined(parts: list[Labels]) -> Labels:
    return Labels(
        np.concatenate([part.rewards for part in parts]),
        {name: np.concatenate([part.steps[name] for part in parts]) for name in parts[0].steps},
        {name: np.concatenate([part.episodes[name] for part in parts]) for name in parts[0].episodes},
    )


def _relabelled(
    data: EpisodeDataset,
    demos: EpisodeDataset,
    config: Any,
    labels: Labels,
    scale: Scale,
    description: Mapping[str, Any],
    key: str,
) -> EpisodeDataset:
    name = next((n for n, kind in LABELLERS.items() if kind is type(config)), type(config).__name__)
    rewards = apply_scale(labels.rewards, scale)
    settings = {
        "labeller": name,
        "config": to_dict(config),
        **description,
        "demonstrations_from": demos.where,
        "demonstration_lengths": demos.lengths[:LISTED_EPISODES].tolist(),
        "scale_factor": scale.factor,
        "bias": scale.bias,
        "scale_guarded": scale.guarded,
        "vanished": vanished(labels.rewards, config),
        "otr": otr_version(),
        "key": key,
        "rewards": array_digest(rewards),
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
