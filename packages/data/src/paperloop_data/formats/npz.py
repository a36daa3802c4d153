"""NumPy archives: our own flat layout, D4RL's names in an archive, and one group of arrays for each episode."""

from __future__ import annotations

import contextlib
import json
import re
import zipfile
import zlib
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from paperloop.errors import UserError
from paperloop.files import write_atomically
from paperloop_data import arrays
from paperloop_data.dataset import EpisodeDataset
from paperloop_data.formats.boundaries import EndRule, StepCounter
from paperloop_data.formats.flat import CORE, build_flat
from paperloop_data.formats.memory import check_fits
from paperloop_data.formats.reading import build, changed_options, needed_names, rewards_or_default, wants_extra
from paperloop_data.formats.writing import attributes_json, read_record, refuse_existing, saving, write_record

__all__ = ["read_npz", "write_npz"]

#: The flat layout that `write_npz` makes.
FLAT = (
    "observations",
    "actions",
    "rewards",
    "terminated",
    "truncated",
    "episode_starts",
    "next_observations",
    "final_observations",
)
ATTRIBUTES = "attributes"
NAMES = "__arrays__"

EPISODE_KEY = re.compile(r"episode_(\d+)/(.+)")

#: Names that a group of one episode may use, ours first.
ALIASES = {
    "observations": ("observations", "observation", "obs"),
    "actions": ("actions", "action"),
    "rewards": ("rewards", "reward"),
    "next_observations": ("next_observations", "next_observation", "next_obs"),
    "terminated": ("terminated", "terminations", "terminals", "terminal"),
    "truncated": ("truncated", "truncations", "timeouts", "timeout"),
}


def read_npz(
    path: str | Path,
    *,
    episode_ends: EndRule = "auto",
    max_episode_steps: int | None = None,
    step_counter: StepCounter = "exact",
    default_reward: float | None = None,
    states_only: bool = False,
    extras: bool | Sequence[str] = True,
    drop_nonfinite: bool = False,
) -> EpisodeDataset:
    """Read an npz archive in one of three layouts. Pickled objects in it are refused, never loaded.

    - Flat, as `write_npz` makes it: observations, actions, rewards, terminated, truncated, episode_starts, and
      optionally next_observations or final_observations, extras, attributes.
    - Flat under D4RL's names: terminals, and optionally timeouts; then the options of `read_d4rl` hold.
    - `episode_<i>/<array>` for each episode, with observations (or observation, obs), actions, rewards,
      next_observations, terminated (or terminals, terminal), truncated (or timeouts), in the order of i. Observations
      may have one row more than actions: the last one is then the final observation. Absent flags are False, so such
      an episode is *cut*.

    Args:
        path: the file.
        episode_ends: see `read_d4rl`, as for the next two; only for D4RL's names.
        max_episode_steps: likewise.
        step_counter: likewise.
        default_reward: the reward of every step where the file has none.
        states_only: for demonstrations of states: where the file has no actions, they are of no width, (N, 0), and
            where it has no flags of termination, no step terminates.
        extras: False for none, or the names of those wanted.
        drop_nonfinite: leave out episodes with NaN or infinities instead of refusing the file.

    Raises:
        UserError: the file is damaged, misses an array, or its arrays do not fit together.
    """
    path = Path(path)
    options = changed_options(
        locals(),
        episode_ends="auto",
        max_episode_steps=None,
        step_counter="exact",
        default_reward=None,
        states_only=False,
        extras=True,
        drop_nonfinite=False,
    )
    with _opened(path) as archive:
        by_episode = sorted({int(match[1]) for name in archive.files if (match := EPISODE_KEY.fullmatch(name))})
        values = {name: archive[name] for name in archive.files}
    read = read_record(path, path, "npz", options)
    if by_episode:
        return _build_episodes(values, by_episode, extras, default_reward, states_only, read, drop_nonfinite)
    attributes = _attributes(values, path.name)
    # Without any of our flags it is a file of D4RL's names, whose terminals an option may replace.
    ours = "terminated" in values or ("truncated" in values and "terminals" not in values)
    core: Sequence[str] = FLAT if ours else CORE
    steps = np.shape(values.get("observations", ()))[:1]
    further, ignored = {}, []
    for name, value in values.items():
        if name not in core and wants_extra(extras, name):
            if value.shape and value.shape[:1] == steps and value.dtype.kind in "biuf":
                further[name] = value
            else:
                ignored.append(name)
    if ignored:
        attributes["not_loaded"] = sorted({*attributes.get("not_loaded", ()), *ignored})
    fields = {name: values[name] for name in core if name in values}
    if core is CORE:
        return build_flat(
            fields,
            further,
            starts=None,
            attributes=attributes,
            read=read,
            episode_ends=episode_ends,
            max_episode_steps=max_episode_steps,
            step_counter=step_counter,
            default_reward=default_reward,
            states_only=states_only,
            drop_nonfinite=drop_nonfinite,
        )
    if states_only:
        fields.setdefault("actions", np.empty((*steps, 0), np.float32))
        for name in ("terminated", "truncated"):
            fields.setdefault(name, np.zeros(steps, bool))
    for name in ("observations", "actions", "terminated", "truncated"):
        if name not in fields:
            needed = needed_names(not states_only, default_reward, "terminated", "truncated")
            raise UserError(
                f"{path.name}: there is no {name!r} (it holds {arrays.names(values)}); a flat archive needs {needed}, "
                "or D4RL's names."
            )
    fields["rewards"] = rewards_or_default(
        fields.get("rewards"), default_reward, len(np.atleast_1d(fields["observations"])), path.name
    )
    return build(
        {name: fields.get(name) for name in FLAT} | {"extras": further},
        attributes=attributes,
        read=read,
        drop_nonfinite=drop_nonfinite,
    )


def write_npz(data: EpisodeDataset, path: str | Path, *, overwrite: bool = False, compress: bool = False) -> Path:
    """Write a dataset as one flat npz archive, atomically. Equal datasets give equal bytes: no time is recorded.

    Args:
        data: the dataset.
        path: the file to make.
        overwrite: replace what is there.
        compress: deflate the arrays; smaller, and several times slower.

    Returns:
        The path.

    Raises:
        UserError: the path exists, cannot be written, or an extra has a name of the layout.
    """
    path = Path(path)
    refuse_existing(path, overwrite)
    reserved = [n for n in data.extras if n in (*FLAT, ATTRIBUTES, "terminals") or EPISODE_KEY.fullmatch(n)]
    if reserved:
        raise UserError(f"{data.where}: the extra {reserved[0]!r} has a name of the npz layout; rename it.")
    provenance = (*data.provenance, write_record("npz"))
    contents: dict[str, np.ndarray] = {name: getattr(data, name) for name in FLAT if getattr(data, name) is not None}
    contents |= data.extras
    # First, and with the names of all arrays: an archive whose table of contents is damaged can lose members unnoticed.
    text = attributes_json({**data.attributes, NAMES: list(contents)}, provenance, data.where)
    contents = {ATTRIBUTES: np.array(text), **contents}
    method = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED

    def fill(temporary: Path) -> None:
        with zipfile.ZipFile(temporary, "w", method) as archive:
            for name, array in contents.items():
                member = zipfile.ZipInfo(f"{name}.npy")  # its date is fixed, unlike that of numpy.savez
                member.compress_type = method
                with archive.open(member, "w", force_zip64=True) as file:
                    np.lib.format.write_array(file, array, allow_pickle=False)

    with saving(path):
        write_atomically(path, fill)
    return path


@contextlib.contextmanager
def _opened(path: Path) -> Generator[Any]:
    """Open an archive; what is damaged in it, or pickled, is one sentence."""
    try:
        with zipfile.ZipFile(path) as archive:
            check_fits(sum(member.file_size for member in archive.infolist()), path.name)
        with np.load(path, allow_pickle=False) as archive:
            yield archive
    except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); check the path.") from None
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, KeyError, RuntimeError, TypeError) as error:
        if "allow_pickle" in str(error):
            raise UserError(
                f"{path.name} holds pickled objects, which can run code and are never loaded; write its arrays as "
                "numbers."
            ) from None
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"{path.name} is damaged, cut short, or no npz archive ({reason}); fetch or write it again."
        ) from error


def _attributes(values: dict[str, np.ndarray], where: str) -> dict[str, Any]:
    """Take the attributes out of `values`."""
    if ATTRIBUTES not in values or values[ATTRIBUTES].dtype.kind != "U":
        return {}
    try:
        attributes = json.loads(str(values.pop(ATTRIBUTES)))
    except ValueError:
        raise UserError(f"{where}: its attributes are no JSON; remove or rewrite them.") from None
    if not isinstance(attributes, dict):
        raise UserError(f"{where}: its attributes are no JSON object; remove or rewrite them.")
    lost = sorted(set(attributes.pop(NAMES, ())) - values.keys())
    if lost:
        raise UserError(f"{where} is damaged ({lost[0]} is lost); fetch or write it again.")
    return attributes


def _build_episodes(
    values: Mapping[str, np.ndarray],
    numbers: list[int],
    extras: bool | Sequence[str],
    default_reward: float | None,
    states_only: bool,
    read: Mapping[str, Any],
    drop_nonfinite: bool,
) -> EpisodeDataset:
    where = str(read["file"])
    groups: list[dict[str, np.ndarray]] = [{} for _ in numbers]
    position = {number: i for i, number in enumerate(numbers)}
    ignored = []
    for name, value in values.items():
        match = EPISODE_KEY.fullmatch(name)
        if match is None:
            ignored.append(name)
        else:
            groups[position[int(match[1])]][match[2]] = value
    stated = _attributes({ATTRIBUTES: values[ATTRIBUTES]}, where) if ATTRIBUTES in values else {}

    episodes = [_one_episode(g, n, default_reward, states_only, where) for g, n in zip(groups, numbers, strict=True)]
    lengths = np.array([len(episode["rewards"]) for episode in episodes])
    fields: dict[str, Any] = {"episode_starts": np.concatenate([[0], np.cumsum(lengths)[:-1]])}
    for name in ("observations", "actions", "rewards", "terminated", "truncated"):
        fields[name] = _join(episodes, name, numbers, where)
    for name in ("next_observations", "final_observations"):
        having = [episode[name] is not None for episode in episodes]
        fields[name] = _join(episodes, name, numbers, where) if all(having) else None
        if any(having) and not all(having):
            raise UserError(
                f"{where}: episode {numbers[having.index(False)]} has no {name} as the others have; add or remove them."
            )
    used = {alias for names in ALIASES.values() for alias in names}
    candidates = [name for name in groups[0] if name not in used and wants_extra(extras, name)]
    further = {}
    for name in candidates:
        rows = [np.shape(group.get(name, ()))[:1] for group in groups]
        if rows == [(length,) for length in lengths.tolist()]:
            further[name] = _join(groups, name, numbers, where)
        else:
            ignored.append(f"episode_*/{name}")
    ignored = [name for name in ignored if name != ATTRIBUTES]
    if ignored:
        stated["not_loaded"] = sorted(ignored)
    return build({**fields, "extras": further}, attributes=stated, read=read, drop_nonfinite=drop_nonfinite)


def _one_episode(
    group: Mapping[str, np.ndarray], number: int, default_reward: float | None, states_only: bool, where: str
) -> dict[str, Any]:
    at = f"{where}: episode {number}"
    found: dict[str, Any] = {
        field: next((group[alias] for alias in aliases if alias in group), None) for field, aliases in ALIASES.items()
    }
    for name in ("observations", "actions"):
        if found[name] is None and (name != "actions" or not states_only):
            raise UserError(f"{at} has no {name} (it holds {arrays.names(group)}); add them.")
    # Of observations there may be one more than steps, so they are asked last.
    counted = next(n for n in ("actions", "rewards", "terminated", "truncated", "observations") if found[n] is not None)
    steps = len(np.atleast_1d(found[counted]))
    if found["actions"] is None:
        found["actions"] = np.empty((steps, 0), np.float32)
    if steps == 0:
        raise UserError(f"{at} has no steps; leave it out of the file.")
    found["rewards"] = arrays.number_column(
        rewards_or_default(found["rewards"], default_reward, steps, at), "rewards", at
    )
    for name in ("terminated", "truncated"):
        flags = found[name]
        found[name] = np.zeros(steps, bool) if flags is None else arrays.flag_column(flags, name, at)
    found["final_observations"] = None
    observations = np.atleast_1d(found["observations"])
    if len(observations) == steps + 1 and found["next_observations"] is None:
        found["observations"], found["final_observations"] = observations[:-1], observations[-1:]
    for name, value in found.items():
        if value is not None and name != "final_observations" and len(np.atleast_1d(value)) != steps:
            raise UserError(
                f"{at} has {len(np.atleast_1d(value))} rows of {name}, but {steps} {counted}; give one row for each "
                "step."
            )
    return found


def _join(groups: Sequence[Mapping[str, Any]], name: str, numbers: list[int], where: str) -> np.ndarray:
    """Concatenate one array over episodes, naming the first episode whose shape differs from the first one's."""
    head = groups[0][name]
    for group, number in zip(groups, numbers, strict=True):
        if group[name].shape[1:] != head.shape[1:]:
            raise UserError(
                f"{where}: episode {number} has {name} of shape {group[name].shape[1:]} a step, episode {numbers[0]} "
                f"of shape {head.shape[1:]}; give all episodes the same."
            )
    return np.concatenate([group[name] for group in groups])
