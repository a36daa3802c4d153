"""NumPy archives: our own flat layout, D4RL's names in an archive, and one group of arrays for each episode."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from paperloop.errors import UserError
from paperloop_data import arrays
from paperloop_data.dataset import EpisodeDataset
from paperloop_data.formats.archive import read_arrays, write_arrays
from paperloop_data.formats.flat import FIELDS, build_flat, rewards_or_default, wanted
from paperloop_data.formats.reading import Reading
from paperloop_data.formats.writing import attributes_json, read_record, refuse_existing, write_record
from paperloop_data.text import checked_attributes, names, shown

__all__ = ["read_npz", "write_npz"]

#: The flat layout that `write_npz` makes.
FLAT = (*arrays.PER_STEP, "episode_starts", "next_observations", "final_observations")
ATTRIBUTES = "attributes"
NAMES = "__arrays__"

EPISODE_KEY = re.compile(r"episode_(\d{1,18})/(.+)", re.DOTALL)

#: Names that a group of one episode may use, ours first.
ALIASES = {
    "observations": ("observations", "observation", "obs"),
    "actions": ("actions", "action"),
    "rewards": ("rewards", "reward"),
    "next_observations": ("next_observations", "next_observation", "next_obs"),
    "terminated": ("terminated", "terminations", "terminals", "terminal"),
    "truncated": ("truncated", "truncations", "timeouts", "timeout"),
}

USED = {alias for aliases in ALIASES.values() for alias in aliases}


def read_npz(path: str | Path, **options: Any) -> EpisodeDataset:
    """Read an npz archive in one of three layouts. Pickled objects in it are refused, never loaded.

    - Flat, as `write_npz` makes it: observations, actions, rewards, terminated, truncated, episode_starts, and
      optionally next_observations or final_observations, extras, attributes.
    - Flat under D4RL's names: terminals, and optionally timeouts, next_observations.
    - `episode_<i>/<array>` for each episode, with observations (or observation, obs), actions, rewards,
      next_observations, terminated (or terminals, terminal), truncated (or timeouts), in the order of i. Observations
      may have one row more than actions: the last one is then the final observation. Absent flags are False, so such
      an episode is *cut*.

    Args:
        path: the file.
        options: fields of `paperloop_data.Reading`.

    Raises:
        UserError: the file is damaged, misses an array, or its arrays do not fit together.
    """
    path = Path(path)
    where, reading = shown(path.name), Reading.of(path, options, minari=False)
    found = read_arrays(path)
    read = read_record(path, path, "npz", reading.changed())
    attributes: dict[str, Any] = {}
    if ATTRIBUTES in found and found[ATTRIBUTES].dtype.kind == "U" and found[ATTRIBUTES].ndim == 0:
        attributes = checked_attributes(str(found.pop(ATTRIBUTES)), where)
    lost = sorted(set(attributes.pop(NAMES, ())) - found.keys())
    if lost:
        raise UserError(f"{where} is damaged ({shown(lost[0])} is lost); fetch or write it again.")
    alone = {name: value for name, value in found.items() if value.ndim == 0 and not EPISODE_KEY.fullmatch(name)}
    texts = {name: str(value) for name, value in alone.items() if value.dtype.kind == "U"}
    if texts:
        attributes.setdefault("metadata", {name.removeprefix("metadata/"): text for name, text in texts.items()})
    holds = found = {name: value for name, value in found.items() if name not in texts}
    ignored: list[str] = []
    if any(EPISODE_KEY.fullmatch(name) for name in found):
        found, ignored = _joined(found, reading, where)
    kept, odd = wanted(found, reading)
    found = {name: found[name] for name in kept}
    if ignored or odd:
        attributes["not_loaded"] = sorted({*attributes.get("not_loaded", ()), *ignored, *odd})
    return build_flat(found, holds, attributes=attributes, read=read, reading=reading)


def _joined(found: Mapping[str, np.ndarray], reading: Reading, where: str) -> tuple[dict[str, Any], list[str]]:
    """Return the flat arrays of an archive by episode, and the names of those that are not in every episode."""
    groups: dict[int, dict[str, np.ndarray]] = {}
    digits: dict[int, str] = {}
    ignored = []
    for name, value in found.items():
        match = EPISODE_KEY.fullmatch(name)
        if match is None:
            ignored.append(name)
            continue
        number = int(match[1])
        if digits.setdefault(number, match[1]) != match[1]:
            raise UserError(
                f"{where}: episode_{digits[number]} and episode_{match[1]} are both episode {number}; rename one."
            )
        groups.setdefault(number, {})[match[2]] = value
    numbers = sorted(groups)
    episodes = [_one_episode(groups[number], number, reading, where) for number in numbers]
    fields: dict[str, Any] = {"episode_starts": arrays.starts_of(np.array([len(one["rewards"]) for one in episodes]))}
    for name in dict.fromkeys(name for one in episodes for name in one):
        having = [name in one for one in episodes]
        if all(having):
            fields[name] = _join(episodes, name, numbers, where)
        elif name in FIELDS:
            raise UserError(
                f"{where}: episode {numbers[having.index(False)]} has no {name} as the others have; add or remove them."
            )
    further = {name for group in groups.values() for name in group} - USED
    return fields, ignored + [f"episode_*/{name}" for name in further - fields.keys()]


def _one_episode(group: Mapping[str, np.ndarray], number: int, reading: Reading, where: str) -> dict[str, Any]:
    """The arrays of one episode by our names, and extras of one row a step; what may be missing is filled in."""
    at = f"{where}: episode {number}"
    found: dict[str, Any] = {}
    for field, aliases in ALIASES.items():
        if given := [alias for alias in aliases if alias in group]:
            found[field] = np.atleast_1d(group[given[0]])
    for name in ("observations", *["actions"] * (not reading.states_only)):
        if name not in found:
            raise UserError(f"{at} has no {name} (it holds {names(group)}); add them.")
    # There may be one observation more than steps, so observations come last.
    counted = next(n for n in ("actions", "rewards", "terminated", "truncated", "observations") if n in found)
    steps = len(found[counted])
    if steps == 0:
        raise UserError(f"{at} has no steps; leave it out of the file.")
    found.setdefault("actions", np.empty((steps, 0), np.float32))
    rewards = rewards_or_default(found.get("rewards"), reading.default_reward, steps, at)
    found["rewards"] = arrays.number_column(rewards, "rewards", at)
    for name in ("terminated", "truncated"):
        found[name] = arrays.flag_column(found.get(name, np.zeros(steps, bool)), name, at)
    if len(found["observations"]) == steps + 1 and "next_observations" not in found:
        found["observations"], found["final_observations"] = np.split(found["observations"], [steps])
    for name, value in found.items():
        if name != "final_observations" and len(value) != steps:
            raise UserError(f"{at} has {len(value)} rows of {name}, but {steps} {counted}; give one for each step.")
    return found | {name: value for name, value in group.items() if name not in USED and value.shape[:1] == (steps,)}


def _join(groups: Sequence[Mapping[str, Any]], name: str, numbers: list[int], where: str) -> np.ndarray:
    """Concatenate one array over episodes, naming the first episode whose shape differs from the first one's."""
    head = groups[0][name]
    for group, number in zip(groups, numbers, strict=True):
        if group[name].shape[1:] != head.shape[1:]:
            raise UserError(
                f"{where}: episode {number} has {shown(name)} of shape {group[name].shape[1:]} a step, episode "
                f"{numbers[0]} of shape {head.shape[1:]}; give all episodes the same."
            )
    return np.concatenate([group[name] for group in groups])


def write_npz(data: EpisodeDataset, path: str | Path, *, overwrite: bool = False, compress: bool = False) -> Path:
    """Write a dataset as one flat npz archive, atomically, and return the path.

    Equal datasets give equal bytes: no time is recorded. `compress` deflates the arrays, which is several times slower.

    Raises:
        UserError: the path exists, cannot be written, or an extra has a name of the layout.
    """
    refuse_existing(Path(path), overwrite)
    reserved = [n for n in data.extras if n in (*FIELDS, ATTRIBUTES) or EPISODE_KEY.fullmatch(n)]
    if reserved:
        raise UserError(f"{data.where}: the extra {reserved[0]!r} has a name of the npz layout; rename it.")
    contents: dict[str, np.ndarray] = {name: getattr(data, name) for name in FLAT if getattr(data, name) is not None}
    contents |= data.extras
    # First, and with the names of all arrays: an archive whose table of contents is damaged can lose members unnoticed.
    provenance = (*data.provenance, write_record("npz"))
    text = attributes_json({**data.attributes, NAMES: list(contents)}, provenance, data.where)
    return write_arrays(path, {ATTRIBUTES: np.array(text), **contents}, overwrite=overwrite, compress=compress)
