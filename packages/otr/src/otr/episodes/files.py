"""Reading the data that commands are given, and saying what in it looks like a mistake."""

from __future__ import annotations

import warnings
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from paperloop.errors import UserError, note
from paperloop_data import EpisodeDataset, format_of

__all__ = ["findings_of", "noted_findings", "noted_warnings", "read_dataset"]


def read_dataset(path: str | Path, *, states_only: bool = False, **options: Any) -> EpisodeDataset:
    """Read a D4RL file, a Minari folder or an npz file; where it has no rewards they are 0.

    Args:
        path: the file or folder, or the id of a local Minari dataset.
        states_only: for demonstrations, which need no actions: where a flat file has none, they are of no width.
        options: of the readers in `paperloop_data`; those that are None are left out.

    Raises:
        UserError: it cannot be read, or an option does not belong to its format.
    """
    given = {name: value for name, value in options.items() if value not in (None, False)}
    if format_of(path) == "minari":
        return EpisodeDataset.load(path, **given)
    try:
        return EpisodeDataset.load(path, **given)
    except UserError:
        # Once more, as if all that is missing were rewards, which labelling does without.
        if states_only:
            given["states_only"] = True
        return EpisodeDataset.load(path, default_reward=0.0, **given)


def findings_of(data: EpisodeDataset) -> list[str]:
    """Return what in a dataset is legal but often a mistake, see `EpisodeDataset.findings`.

    Nothing is said of rewards that are all equal, because labels replace them.
    """
    rewards = data.rewards.astype(np.float64)
    rewards[data.episode_starts] += 1.0  # no longer all equal, while equal episodes stay equal
    return data.replace(rewards=rewards, provenance=data.provenance).findings()


def noted_findings(data: EpisodeDataset) -> None:
    """Print findings as notes, under the name of the file."""
    note(f"{data.where}: {text}" for text in findings_of(data))


@contextmanager
def noted_warnings() -> Generator[None]:
    """Print warnings as notes, one line each, without where in the code they come from."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        yield
    texts = list(dict.fromkeys(str(warning.message) for warning in caught if warning.category is UserWarning))
    note([*texts[:3], *([f"and {len(texts) - 3} more like these"] if len(texts) > 3 else [])])
