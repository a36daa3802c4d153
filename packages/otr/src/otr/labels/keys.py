"""Digests of contents: what labels depend on, as the key of a store and of a finished file."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from typing import Any

import numpy as np

from otr.config import OracleConfig, OTRConfig, UDSConfig
from otr.episodes.truth import true_rewards
from otr.labels.store import SCHEMA
from otr.labels.time_outs import without_time_outs
from otr.optimal_transport.sinkhorn import make_solver
from paperloop.settings import to_dict
from paperloop_data import EpisodeDataset

__all__ = ["CHUNK_STEPS", "content_digest", "digest_of", "label_key", "otr_version"]

#: Steps in one chunk, at least; a chunk is whole episodes.
CHUNK_STEPS = 50_000


def label_key(
    data: EpisodeDataset, demos: EpisodeDataset, config: Any, *, chunk_steps: int = CHUNK_STEPS,
    drop_time_outs: bool = False,
) -> str:  # fmt: skip
    """Return 32 hexadecimal digits that depend on whatever labels depend on: contents, settings, solver, version."""
    if drop_time_outs:
        data, demos = without_time_outs(data), without_time_outs(demos)
    head = {
        "schema": SCHEMA,
        "version": otr_version(),
        "config": [type(config).__name__, to_dict(config)],
        # The back end that "auto" means here: its bits are not those of another.
        "solver": make_solver(config.solver).name if isinstance(config, OTRConfig) else "",
        "chunk_steps": chunk_steps,
    }
    arrays: list[np.ndarray | None] = []
    # Most labels depend on no reward; the oracle's are those of the data, and UDS keeps those of the demonstrations.
    for dataset, rewarded in ((data, OracleConfig), (demos, UDSConfig)):
        arrays += [dataset.episode_starts, dataset.observations, dataset.actions]
        arrays += [true_rewards(dataset)] if isinstance(config, rewarded) else []
        arrays += [dataset.next_observations, dataset.final_observations]
    return digest_of(*arrays, head=json.dumps(head, sort_keys=True))


def content_digest(data: EpisodeDataset) -> str:
    """Return 32 hexadecimal digits that depend on the contents of a dataset, its rewards included."""
    return digest_of(
        data.episode_starts, data.observations, data.actions, data.rewards, data.terminated, data.truncated,
        data.next_observations, data.final_observations,
    )  # fmt: skip


def digest_of(*arrays: np.ndarray | None, head: str = "") -> str:
    """Return 32 hexadecimal digits that depend on types, shapes and contents of arrays, and on which are missing."""
    digest = hashlib.sha256(head.encode())
    for array in arrays:
        if array is None:
            digest.update(b"none")
            continue
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()[:32]


def otr_version() -> str:
    """Return the version of this package, "unknown" where it is not installed."""
    try:
        return importlib.metadata.version("otr")
    except importlib.metadata.PackageNotFoundError:  # run from a source tree that is not installed
        return "unknown"
