"""Reading the data that commands are given, and saying what in it looks like a mistake."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np

from paperloop.errors import UserError, printable
from paperloop.option_names import in_option_names
from paperloop_data import EpisodeDataset

__all__ = [
    "Format",
    "findings_of",
    "format_of",
    "is_minari",
    "noted_findings",
    "noted_warnings",
    "read_dataset",
]

Format = Literal["d4rl", "minari", "npz"]

#: The readers' options that a Minari folder has no use for, and those that only it knows.
FLAT_ONLY = ("episode_ends", "max_episode_steps", "default_reward")
MINARI_ONLY = ("observation_keys", "action_keys")


def is_minari(path: Path) -> bool:
    """Whether a path is read as a Minari folder."""
    return path.is_dir() or path.name == "main_data.hdf5"


def read_dataset(path: str | Path, *, states_only: bool = False, **options: Any) -> EpisodeDataset:
    """Read a D4RL file, a Minari folder or an npz file; where it has no rewards they are 0.

    Args:
        path: the file or folder.
        states_only: for demonstrations, which need no actions: where a flat file has none, they are of no width.
        options: of the readers in `paperloop_data`; those that are None are left out.

    Raises:
        UserError: it cannot be read, or an option does not belong to its format.
    """
    path = Path(path)
    given = {name: value for name, value in options.items() if value not in (None, False)}
    minari = is_minari(path)
    for name in FLAT_ONLY if minari else MINARI_ONLY:
        if name in given:
            option = f"--{name.replace('_', '-')}"
            raise UserError(
                f"{path}: {option} does not belong to Minari folders, which say where episodes end: leave it out."
                if minari
                else f"{path}: {option} belongs to Minari folders only: leave it out."
            )
    try:
        return EpisodeDataset.load(path, **given)
    except UserError:
        if minari or not path.exists():
            raise
        # Once more, as if all that is missing were rewards, which labelling does without.
        if states_only:
            given["states_only"] = True
        return EpisodeDataset.load(path, default_reward=0.0, **given)


def format_of(path: Path) -> Format:
    """Return the format of a file or folder that was read."""
    from paperloop_data.formats.hdf5 import is_hdf5

    return "minari" if is_minari(path) else "d4rl" if is_hdf5(path) else "npz"


def findings_of(data: EpisodeDataset) -> list[str]:
    """Return what in a dataset is legal but often a mistake, see `EpisodeDataset.findings`.

    Nothing is said of rewards that are all equal, which labels replace, and of the bounds of actions, which no file
    states.
    """
    rewards = data.rewards.astype(np.float64)
    rewards[data.episode_starts] += 1.0  # not all equal, and equal episodes stay equal
    varied = data.replace(rewards=rewards, provenance=data.provenance)
    return varied.findings(action_low=-np.inf, action_high=np.inf)


def noted_findings(data: EpisodeDataset) -> None:
    """Print findings as notes, under the name of the file."""
    for text in findings_of(data):
        print(f"note: {printable(data.where)}: {printable(in_option_names(text))}", file=sys.stderr)


@contextmanager
def noted_warnings() -> Generator[None]:
    """Print warnings as notes, one line each, without where in the code they come from."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        yield
    texts = list(dict.fromkeys(str(warning.message) for warning in caught if warning.category is UserWarning))
    for text in texts[:3]:
        print(f"note: {printable(in_option_names(text))}", file=sys.stderr)
    if len(texts) > 3:
        print(f"note: and {len(texts) - 3} more like these", file=sys.stderr)
