"""What every reader does: take its options, fill in what the file lacks, make the dataset with its provenance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from paperloop.errors import UserError
from paperloop_data.dataset import EpisodeDataset
from paperloop_data.fields import checked_fields, without_nonfinite

__all__ = ["build", "changed_options", "needed_names", "rewards_or_default", "wants_extra"]


def wants_extra(extras: bool | Sequence[str], name: str) -> bool:
    """Whether the option `extras` asks for the array `name`."""
    return extras if isinstance(extras, bool) else name in extras


def changed_options(options: Mapping[str, Any], **defaults: Any) -> dict[str, Any]:
    """Return the options that differ from their defaults, for the provenance."""
    return {name: options[name] for name, default in defaults.items() if options[name] != default}


def needed_names(need_actions: bool, default_reward: float | None, *flags: str) -> str:
    """Return the arrays that a flat file needs, for a message."""
    names = ["observations", *["actions"] * need_actions, *["rewards"] * (default_reward is None), *flags]
    return ", ".join(names[:-1]) + f" and {names[-1]}"


def rewards_or_default(rewards: Any, default: float | None, steps: int, where: str) -> Any:
    """Return `rewards`, or `default` for every step where there are none.

    Raises:
        UserError: there are neither.
    """
    if rewards is not None:
        return rewards
    if default is None:
        raise UserError(f"{where}: there are no rewards; pass default_reward=0.0 if the method does not need them.")
    return np.full(steps, default, np.float32)


def build(
    fields: Mapping[str, Any], *, attributes: Mapping[str, Any], read: Mapping[str, Any], drop_nonfinite: bool
) -> EpisodeDataset:
    """Make the dataset that a reader has read.

    Args:
        fields: the array fields.
        attributes: facts that the file states; its key "provenance", if any, becomes the older part of the provenance.
        read: the provenance record of this reading, with the key "file".
        drop_nonfinite: leave out the episodes that hold a NaN or an infinity, and record how many.
    """
    attributes = dict(attributes)
    older = tuple(attributes.pop("provenance", ()))
    where = str(read["file"])
    if drop_nonfinite:
        fields, dropped = without_nonfinite(checked_fields(fields, where), where)
        read = {**read, "dropped_nonfinite_episodes": dropped}
    return EpisodeDataset(**fields, attributes=attributes, provenance=(*older, read))
