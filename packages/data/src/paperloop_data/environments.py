"""Environments: in which one a dataset was recorded, and D4RL's normalised score, 0 for random and 100 for expert."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

from paperloop.errors import UserError
from paperloop_data.arrays import EpisodeArrays
from paperloop_data.text import parsed

__all__ = ["REFERENCE_SCORES", "RecordedEnvironment", "environment_of", "normalised_score"]

#: Names under which files keep a whole specification, or only a name; the first that says something counts.
#: `env_spec` is Gymnasium's and Minari's, `env_args` robomimic's; `env_id`, `env` and `env_name` are everybody's.
PLACES = ("env_spec", "env_args", "env_id", "env_name", "env", "environment", "eval_env_spec")
IDS = ("id", "env_id", "env_name")
ARGUMENTS = ("kwargs", "env_kwargs")


@dataclass(frozen=True)
class RecordedEnvironment:
    """The environment that a dataset states."""

    id: str  # such as "Hopper-v5"
    kwargs: Mapping[str, Any] = field(default_factory=dict)  # that it was made with, where they are recorded
    max_episode_steps: int | None = None  # its time limit, where one is recorded
    #: The whole specification as it was recorded, additional wrappers included; empty where there is only a name.
    spec: Mapping[str, Any] = field(default_factory=dict)


def environment_of(data: EpisodeArrays) -> RecordedEnvironment | None:
    """Return the environment that a dataset states, or None.

    Looked for in the dataset's own attributes, in what its file keeps as metadata (`attributes["metadata"]`: arrays
    under `metadata/` and attributes of an HDF5 file, texts of an npz archive), and in Minari's metadata
    (`attributes["minari"]`). A specification of the same environment is preferred to its bare name.
    """
    found = list(_stated(data.attributes))
    same = [one for one in found if one.id == found[0].id]
    return max(
        same, key=lambda one: (bool(one.spec), bool(one.kwargs), one.max_episode_steps is not None), default=None
    )


def _stated(attributes: Mapping[str, Any]) -> Iterator[RecordedEnvironment]:
    for place in (attributes, attributes.get("metadata"), attributes.get("minari")):
        if not isinstance(place, Mapping):
            continue
        for name in PLACES:
            value = _value(place.get(name))
            if isinstance(value, Mapping):
                stated = next((value[key] for key in IDS if isinstance(value.get(key), str) and value[key]), None)
                if stated is not None:
                    yield _recorded(stated, value, value)
            elif isinstance(value, str) and value:
                yield _recorded(value, place, {})


def _value(value: Any) -> Any:
    """What a value says: the object in a JSON text, else the text or mapping itself."""
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    if isinstance(value, str) and value.lstrip().startswith(("{", '"')):
        try:
            return parsed(value)
        except ValueError:
            return None
    return value


def _recorded(name: str, place: Mapping[str, Any], spec: Mapping[str, Any]) -> RecordedEnvironment:
    kwargs = next((found for key in ARGUMENTS if isinstance(found := _value(place.get(key)), Mapping)), {})
    limit = place.get("max_episode_steps")
    is_limit = isinstance(limit, int) and not isinstance(limit, bool) and limit >= 1
    return RecordedEnvironment(name, kwargs, limit if is_limit else None, spec)


#: Environment -> (return of a random policy, return of an expert). D4RL, `d4rl/infos.py`, the same for v0, v1 and v2;
#: the maze2d rows are the sparse-reward v1 tasks.
REFERENCE_SCORES: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "halfcheetah": (-280.178953, 12135.0),
        "hopper": (-20.272305, 3234.3),
        "walker2d": (1.629008, 4592.3),
        "ant": (-325.6, 3879.7),
        "antmaze": (0.0, 1.0),
        "kitchen": (0.0, 4.0),
        "pen": (96.262799, 3076.8331017826877),
        "hammer": (-274.856578, 12794.134825156867),
        "relocate": (-6.425911, 4233.877797728884),
        "door": (-56.512833, 2880.5693087298737),
        "maze2d-umaze": (23.85, 161.86),
        "maze2d-medium": (13.13, 277.39),
        "maze2d-large": (6.7, 273.99),
    }
)


def normalised_score(returns: Any, environment: str) -> Any:
    """Return 100 · (return − random) / (expert − random), which is what papers print.

    Args:
        returns: undiscounted returns of any shape.
        environment: a key of `REFERENCE_SCORES`, or a D4RL name that starts with one, such as "hopper-medium-v2".

    Raises:
        UserError: no reference scores are known for it.
    """
    name = environment.lower()
    keys = [key for key in REFERENCE_SCORES if name == key or name.startswith(f"{key}-")]
    if not keys or ("maze2d" in name and "dense" in name):
        raise UserError(
            f"There are no reference scores for {environment!r}; the known ones are {', '.join(REFERENCE_SCORES)}."
        )
    low, high = REFERENCE_SCORES[max(keys, key=len)]
    return 100.0 * (np.asarray(returns, np.float64) - low) / (high - low)
