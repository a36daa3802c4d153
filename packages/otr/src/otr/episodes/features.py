"""The vectors that labellers compare, taken from datasets."""

from __future__ import annotations

import warnings

import numpy as np

from otr.settings.rewards import FeatureConfig
from paperloop.errors import UserError, setting
from paperloop_data import EpisodeDataset, next_rows
from paperloop_data.summary import moments

__all__ = ["PLACE", "Features", "check_compatible", "raw_features", "warn_about_zeros"]

#: Attribute of a chunk: its first (row, episode) in the dataset that it was cut from, for what is said about it.
PLACE = "otr/place"

#: A dimension whose deviation is below this share of its size is constant but for rounding.
CONSTANT = 1e-7


class Features:
    """From datasets to the vectors that are compared: `Features(config, demos, data)(data)` is (N, D).

    Args:
        config: which vectors.
        demos: the demonstrations.
        data: all of the data that will be labelled.

    Raises:
        UserError: the two have vectors of different sizes, or lack what is compared.
    """

    def __init__(self, config: FeatureConfig, demos: EpisodeDataset, data: EpisodeDataset) -> None:
        check_compatible(data, demos, config)
        self.config = config
        self._moments: tuple[np.ndarray, np.ndarray] | None = None
        raw_features(demos.select([0]), config)  # says what is missing
        if config.scaling != "none":
            mean, deviation = moments(raw_features(data if config.scaling == "standard" else demos, config))
            changing = deviation > CONSTANT * np.maximum(np.abs(mean), 1e-30)
            self._moments = mean, np.where(changing, deviation, 1.0)

    def __call__(self, data: EpisodeDataset) -> np.ndarray:
        """Return the (N, D) vectors of a dataset, scaled."""
        values = raw_features(data, self.config)
        if self._moments is None:
            return values
        mean, deviation = self._moments
        return ((values - mean) / deviation).astype(values.dtype)


def check_compatible(data: EpisodeDataset, demos: EpisodeDataset, config: FeatureConfig) -> None:
    """Raise unless both have vectors of one size.

    Raises:
        UserError: the dimensions differ.
    """
    for name in ("observations", *(["actions"] if "action" in config.inputs else [])):
        one, other = getattr(data, name).shape[1:], getattr(demos, name).shape[1:]
        if name == "actions" and other == (0,):
            raise UserError(
                f"{demos.where}: the demonstrations have no actions, which this labeller compares: give some that "
                "have, or choose a labeller that compares states only."
            )
        if one != other:
            raise UserError(
                f"{demos.where}: the demonstrations have {name} of shape {other}, and {data.where} of shape {one}: "
                "give demonstrations of the same environment and version."
            )


def raw_features(data: EpisodeDataset, config: FeatureConfig) -> np.ndarray:
    """Return (N, D) vectors before scaling, float32 unless the dataset has float64.

    Raises:
        UserError: s' is wanted and not stored.
    """
    states = _flat(data.observations)
    parts = [states]
    if "action" in config.inputs:
        parts.append(_flat(data.actions))
    if "next" in config.inputs:
        parts.append(_following(data, states, config))
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)


def _following(data: EpisodeDataset, states: np.ndarray, config: FeatureConfig) -> np.ndarray:
    stored = next_rows(data)
    if stored is not None:
        return _flat(stored)
    if config.missing_next == "error":
        raise UserError(
            f"{data.where}: there are no stored next observations, so the last step of an episode has no s': give "
            f"{setting('features.missing_next', 'repeat')}, or a labeller that compares s or (s, a), such as otr."
        )
    following = np.concatenate([states[1:], states[-1:]])
    last = data.episode_ends - 1
    following[last] = states[last]
    return following


def _flat(values: np.ndarray) -> np.ndarray:
    values = values.reshape(len(values), -1)
    return values if values.dtype == np.float64 else values.astype(np.float32, copy=False)


def warn_about_zeros(values: np.ndarray, data: EpisodeDataset, name: str) -> None:
    """Warn where the cosine is undefined; of a chunk, by the rows and episodes of the whole dataset."""
    zero = ~values.any(axis=1)
    if zero.any():
        at, place = int(zero.argmax()), data.attributes.get(PLACE)
        row, episode = place if isinstance(place, tuple) else (0, 0)  # a tuple never comes from a file
        within = f" in rows {row} to {row + len(values) - 1}" if isinstance(place, tuple) else ""
        warnings.warn(
            f"{data.where}: {int(zero.sum())} vectors of the {name}{within} are all zero, the first at row "
            f"{row + at} (episode {episode + int(data.episode_of_row[at])}); the cosine is undefined there and its "
            "cost taken as 1. Scale the features, or use another cost.",
            stacklevel=3,
        )
