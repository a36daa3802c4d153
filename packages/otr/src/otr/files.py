"""Reading the data that commands are given, and choosing the format of what they write."""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from paperloop.errors import UserError
from paperloop.option_names import in_option_names
from paperloop_data import EpisodeDataset
from paperloop_data.transitions import next_rows

__all__ = [
    "Format",
    "check_output",
    "is_minari",
    "noted_warnings",
    "output_format",
    "read_dataset",
    "save_dataset",
]

Format = Literal["d4rl", "minari", "npz"]

SUFFIXES: dict[str, Format] = {".hdf5": "d4rl", ".h5": "d4rl", ".hdf": "d4rl", ".npz": "npz"}
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


def output_format(out: Path, source: Path, wanted: Format | None) -> Format:
    """Return the format of what is written: as asked for, else by the suffix of `out`, else that of `source`.

    Raises:
        UserError: the suffix of `out` names no format.
    """
    if wanted is not None:
        return wanted
    if out.suffix:
        found = SUFFIXES.get(out.suffix.lower())
        if found is None:
            raise UserError(
                f"{out}: the suffix {out.suffix!r} names no format: use .hdf5, .npz or none, or give --format."
            )
        return found
    if is_minari(source):
        return "minari"
    from paperloop_data.formats.hdf5 import is_hdf5

    return "d4rl" if is_hdf5(source) else "npz"


def check_output(data: EpisodeDataset, source: Path, out: Path, format: Format, *, overwrite: bool) -> None:
    """Refuse before labelling what could not be written after it.

    Raises:
        UserError: `out` is the source, exists already, or the format cannot hold the data.
    """
    if out.exists() and source.exists() and out.samefile(source):
        raise UserError(f"{out} is the data itself, which stays as it is: choose another name.")
    if out.exists() and not overwrite:
        raise UserError(f"{out} exists already: choose another name, or give --overwrite.")
    if format == "minari" and next_rows(data) is None:
        raise UserError(
            f"{source}: Minari keeps the observation after each episode, and this file has none: write .hdf5 or .npz."
        )


def save_dataset(data: EpisodeDataset, out: Path, format: Format, *, overwrite: bool, compress: bool) -> Path:
    """Write the dataset, atomically; a Minari folder is named after `out`.

    Raises:
        UserError: see `EpisodeDataset.save`.
    """
    options: dict[str, Any] = {"compress": compress} if format != "npz" else {}
    if format == "minari":
        name = re.sub(r"[^-\w]+", "-", out.name).strip("-") or "labelled"
        options["dataset_id"] = name if re.search(r"-v\d+$", name) else f"{name}-v0"
    return data.save(out, format=format, overwrite=overwrite, **options)


@contextmanager
def noted_warnings() -> Generator[None]:
    """Print warnings as notes, one line each, without where in the code they come from."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        yield
    texts = list(dict.fromkeys(str(warning.message) for warning in caught if warning.category is UserWarning))
    for text in texts[:3]:
        print(f"note: {in_option_names(text)}", file=sys.stderr)
    if len(texts) > 3:
        print(f"note: and {len(texts) - 3} more like these", file=sys.stderr)
