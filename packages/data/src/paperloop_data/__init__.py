"""Offline datasets as episodes: D4RL HDF5, Minari folders and npz, read and written without the packages of that name.

    from paperloop_data import EpisodeDataset

    data = EpisodeDataset.load("hopper_medium-v2.hdf5")
    batch = data.transitions("exact")
    data.top(fraction=0.1).save("best.npz")

What opens files is imported when it is first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

from paperloop_data.dataset import Episode, EpisodeDataset
from paperloop_data.environments import REFERENCE_SCORES, RecordedEnvironment, environment_of, normalised_score
from paperloop_data.formats.reading import Reading, UnusedOptionWarning
from paperloop_data.summary import findings
from paperloop_data.transitions import Transitions, next_rows

if TYPE_CHECKING:
    from paperloop_data.io import (
        dataset_path,
        download,
        format_of,
        is_minari,
        load,
        read_arrays,
        read_d4rl,
        read_minari,
        read_npz,
        save,
        write_arrays,
        write_d4rl,
        write_minari,
        write_npz,
    )

__all__ = [
    "REFERENCE_SCORES", "Episode", "EpisodeDataset", "Reading", "RecordedEnvironment", "Transitions",
    "UnusedOptionWarning", "dataset_path", "download", "environment_of", "findings", "format_of", "is_minari", "load",
    "next_rows", "normalised_score", "read_arrays", "read_d4rl", "read_minari", "read_npz", "save",
    "write_arrays", "write_d4rl", "write_minari", "write_npz",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    # What opens files waits for h5py, which a command's --help does not need.
    if name in __all__:
        return getattr(importlib.import_module("paperloop_data.io"), name)
    raise AttributeError(f"module 'paperloop_data' has no attribute {name!r}")
