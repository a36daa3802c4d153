"""A dataset against the environment it is to be used in: what does not fit is refused, what is doubtful is said.

    data, findings = load_for(EnvSpec.of("Hopper-v5"), "hopper-medium.hdf5", batch_size=256)
    for sentence in findings:
        print(sentence)

`paperloop_data` has looked at the file before: shapes that agree, flags that are flags, no NaN.
"""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path
from typing import Any, Literal

import numpy as np

from paperloop.errors import UserError, setting
from paperloop_data import EpisodeDataset, UnusedOptionWarning, environment_of, is_minari
from policy_finetune.config import DataOptions
from policy_finetune.envs.recorded import differences, task_of
from policy_finetune.envs.spec import EnvSpec

__all__ = ["load_for", "load_options"]

#: Actions this far outside the bounds, as a part of half the range, are rounding and not counted.
ROUNDING = 1e-5


def load_options(loading: DataOptions) -> dict[str, Any]:
    """Return the keyword arguments of `load_for` that options of a configuration stand for.

    Options that are None keep `load_for`'s defaults. `semantics` is not among them: it belongs to packing.
    """
    given = {f.name: getattr(loading, f.name) for f in dataclasses.fields(loading) if f.name != "semantics"}
    return {name: value for name, value in given.items() if value is not None}


def load_for(
    spec: EnvSpec,
    source: str | Path | EpisodeDataset,
    *,
    batch_size: int | None = None,
    actions: Literal["env", "canonical"] = "env",
    out_of_bounds: Literal["clip", "error"] = "clip",
    time_limits: bool = True,
    drop_nonfinite: bool = False,
    **options: Any,
) -> tuple[EpisodeDataset, list[str]]:
    """Read a dataset, hold it against the environment, and make its actions canonical.

    Args:
        spec: the environment.
        source: a D4RL HDF5 file, Minari folder or npz archive (the content tells which), or a dataset. One that came
            out of here is recognised, and its actions are left as they are.
        batch_size: refuse fewer steps than this.
        actions: the units of the file's actions; "canonical" for [-1, 1] whatever the environment's bounds.
        out_of_bounds: what is done with actions outside the bounds.
        time_limits: take ends at the environment's time limit that the file calls terminated for truncated.
        drop_nonfinite: leave out episodes with NaN or infinity instead of refusing the file.
        options: passed to the reader, such as episode_ends="goal". `observation_keys` goes to the reader of Minari
            folders alone: other files hold one vector already.

    Returns:
        The dataset with canonical actions, float32; and one sentence for each thing that a user should know.

    Raises:
        UserError: the file cannot be read, or does not fit the environment.
    """
    for name, value, allowed in (
        ("actions", actions, ("env", "canonical")), ("out_of_bounds", out_of_bounds, ("clip", "error"))
    ):  # fmt: skip
        if value not in allowed:
            raise UserError(f"{name} is {' or '.join(map(repr, allowed))}; got {value!r}.")
    said: list[str] = []
    if isinstance(source, EpisodeDataset):
        data = source
    else:
        data = _read(Path(source), spec, said, drop_nonfinite=drop_nonfinite, **options)
    _check_environment(data, spec, said)
    data = _as_vectors(data, spec, said)
    if batch_size is not None and data.num_steps < batch_size:
        raise UserError(
            f"{data.where} holds {data.num_steps} steps, fewer than the batch size of {batch_size}; collect more, or "
            "choose a smaller batch."
        )
    if time_limits:
        data = _time_limits(data, spec, said)
    if data.attributes.get("actions") == "canonical":
        actions = "canonical"
    data = _canonical(data, spec, actions, out_of_bounds, said)
    said += data.findings(action_low=-1.0, action_high=1.0)
    _about_ends(data, spec, said)
    return data, said


def _read(path: Path, spec: EnvSpec, said: list[str], **options: Any) -> EpisodeDataset:
    """Read a file as the environment's: with its time limit, where the format does not keep episodes apart."""
    default_limit = "max_episode_steps" not in options
    if not is_minari(path):
        options.setdefault("max_episode_steps", spec.max_episode_steps)
        options.pop("observation_keys", None)
    elif "episode_ends" in options:
        raise UserError(f"{path} is of Minari, which keeps episodes apart: leave {setting('episode_ends')} out.")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if default_limit:  # which many files do not need
            warnings.simplefilter("ignore", UnusedOptionWarning)
        data = EpisodeDataset.load(path, **options)
    said += _about_reading(data, spec)
    for warning in caught:
        if issubclass(warning.category, UserWarning):
            said.append(str(warning.message))
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    return data


# What fits at all


def _about_reading(data: EpisodeDataset, spec: EnvSpec) -> list[str]:
    said = []
    read = data.provenance[-1]
    if read.get("episode_ends") == "steps":
        said.append(
            f"The file has no time-outs: an episode is taken to end at a terminal and after "
            f"{read.get('options', {}).get('max_episode_steps', spec.max_episode_steps)} steps."
        )
    dropped = read.get("dropped_nonfinite_episodes", 0)
    if dropped:
        said.append(f"Left out because of NaN or infinity: {dropped} episode{'s' if dropped > 1 else ''}.")
    return said


def _check_environment(data: EpisodeDataset, spec: EnvSpec, said: list[str]) -> None:
    """Hold the environment that the data were recorded in against the one that they will be used in."""
    stated = environment_of(data)
    if stated is None:
        return
    if stated.id != spec.env_id:
        if task_of(stated.id) != task_of(spec.env_id):
            raise UserError(
                f"{data.where} is of {stated.id}, not of {spec.env_id}; give data of that environment, or choose the "
                "other."
            )
        said.append(
            f"The data are of {stated.id} and will be used in {spec.env_id}: versions differ in rewards, ends and "
            "dynamics, so scores are not comparable."
        )
    said += differences(stated, spec)


def _as_vectors(data: EpisodeDataset, spec: EnvSpec, said: list[str]) -> EpisodeDataset:
    """Observations (N, obs) and actions (N, act) as floats."""
    changes: dict[str, Any] = {}
    for name, width in (("observations", spec.obs_dim), ("actions", spec.act_dim)):
        array = getattr(data, name)
        if array.ndim == 1 and width == 1 and array.dtype.kind == "f":
            changes[name] = array[:, None]
            if name == "observations":
                for following in ("next_observations", "final_observations"):
                    if getattr(data, following) is not None:
                        changes[following] = getattr(data, following)[:, None]
        elif name == "actions" and array.ndim == 1 and array.dtype.kind != "f":
            raise UserError(
                f"{data.where}: actions are discrete, but those of {spec.env_id} are vectors; give other data."
            )
        elif array.shape[1:] != (width,):
            raise UserError(
                f"{data.where}: {name} are of shape {array.shape[1:]} a step, but {spec.env_id} has {width} {name}; "
                "choose the environment that the data are of."
            )
        if array.dtype == np.float16:
            said.append(f"The {name} are stored as float16: about 3 digits, which is coarse for control.")
        if array.dtype.kind != "f":
            said.append(f"The {name} are stored as {array.dtype} and are converted to float32.")
            changes[name] = array.astype(np.float32)
    return data.replace(**changes) if changes else data


def _time_limits(data: EpisodeDataset, spec: EnvSpec, said: list[str]) -> EpisodeDataset:
    last = data.episode_ends - 1
    limit = spec.max_episode_steps
    wrong = (data.lengths == limit) & data.terminated[last] & ~data.truncated[last]
    if not wrong.any():
        return data
    said.append(
        f"{int(wrong.sum())} of {data.num_episodes} episodes are called terminated at the time limit of {limit} steps; "
        "they are taken for truncated, so that value targets bootstrap there."
    )
    return data.with_time_limit(limit)


def _canonical(data: EpisodeDataset, spec: EnvSpec, units: str, out_of_bounds: str, said: list[str]) -> EpisodeDataset:
    low, high = (-1.0, 1.0) if units == "canonical" else (spec.low, spec.high)
    canonical = np.asarray(data.actions, np.float32) if units == "canonical" else spec.from_env(data.actions)
    outside = np.abs(canonical) > 1 + ROUNDING
    if outside.any():
        row = int(outside.any(axis=1).argmax())
        column = int(outside[row].argmax())
        episode = int(data.episode_of_row[row])
        at = f"row {row} (episode {episode}, step {int(data.step_of_row[row])})"
        bounds = f"[{np.broadcast_to(low, spec.act_dim)[column]:g}, {np.broadcast_to(high, spec.act_dim)[column]:g}]"
        text = (
            f"{int(outside.sum())} of {outside.size} action values lie outside the bounds of {spec.env_id}, the first "
            f"at {at}, which is {data.actions[row, column]:g} in {bounds}"
        )
        if out_of_bounds == "error":
            raise UserError(
                f"{data.where}: {text}; fix the data, or let them be clipped ({setting('out_of_bounds', 'clip')})."
            )
        said.append(f"{text}: they are clipped.")
    largest = np.abs(data.actions).max(initial=0.0)
    wide = np.minimum(-spec.low, spec.high).min() > 1 + ROUNDING
    if units == "env" and wide and data.num_steps >= 100 and 0.9 <= largest <= 1 + ROUNDING:
        said.append(
            f"Every action lies in [-1, 1], though the bounds of {spec.env_id} are wider: if the actions are "
            f"canonical, load them with {setting('actions', 'canonical')}."
        )
    canonical = np.minimum(np.maximum(canonical, np.float32(-1)), np.float32(1))
    return data.replace(
        actions=canonical,
        attributes={**data.attributes, "actions": "canonical"},
        provenance=(*data.provenance, {"action": "canonical actions", "clipped": int(outside.sum())}),
    )


# What is doubtful


def _about_ends(data: EpisodeDataset, spec: EnvSpec, said: list[str]) -> None:
    longer = data.lengths > spec.max_episode_steps
    if longer.any():
        episode = int(longer.argmax())
        said.append(
            f"{int(longer.sum())} episodes are longer than the time limit of {spec.max_episode_steps} steps, the first "
            f"is episode {episode} with {int(data.lengths[episode])}: the ends of episodes are wrong, or the task has "
            "another limit."
        )
    cut = int(data.cut.sum())
    if cut > 1:
        said.append(f"{cut} episodes just stop, neither terminated nor truncated: their last steps bootstrap.")
    if data.next_observations is None and data.final_observations is None:
        said.append(
            "No next observations are stored, so the last step of every episode cannot be used: read transitions with "
            f"{setting('semantics', 'd4rl')}."
        )
    if data.next_observations is not None and data.num_steps > 1:
        inner = np.flatnonzero(data.episode_of_row[1:] == data.episode_of_row[:-1])
        difference = np.abs(data.next_observations[inner] - data.observations[inner + 1])
        torn = inner[difference.max(axis=tuple(range(1, difference.ndim)), initial=0.0) > 1e-4]
        if len(torn):
            said.append(
                f"{len(torn)} steps inside episodes have a next observation that is not the next row, the first at row "
                f"{int(torn[0])}: the rows are shuffled, or steps are missing."
            )
