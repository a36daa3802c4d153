"""Offline datasets as episodes: D4RL HDF5, Minari folders and npz, read and written without their packages.

    from paperloop_data import EpisodeDataset, read_d4rl

    data = EpisodeDataset.load("hopper_medium-v2.hdf5")
    batch = data.transitions("exact")
    data.top(fraction=0.1).save("best.npz")

HDF5 and Minari need the extra `data` (h5py); npz needs nothing.
"""

from paperloop_data.dataset import Episode, EpisodeDataset
from paperloop_data.download import download
from paperloop_data.formats.d4rl import read_d4rl, write_d4rl
from paperloop_data.formats.minari import read_minari, write_minari
from paperloop_data.formats.npz import read_npz, write_npz
from paperloop_data.scores import REFERENCE_SCORES, normalised_score
from paperloop_data.transitions import Transitions

__all__ = [
    "REFERENCE_SCORES",
    "Episode",
    "EpisodeDataset",
    "Transitions",
    "download",
    "normalised_score",
    "read_d4rl",
    "read_minari",
    "read_npz",
    "write_d4rl",
    "write_minari",
    "write_npz",
]
