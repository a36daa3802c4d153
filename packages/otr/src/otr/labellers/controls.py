"""UDS and the constant reward, which a labeller has to beat, and the true rewards, which it can hardly beat."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from otr.config import ConstantConfig, OracleConfig, UDSConfig
from otr.episodes.features import check_compatible
from otr.episodes.truth import true_rewards
from otr.labellers.interface import Labels
from otr.settings.rewards import FeatureConfig
from paperloop.errors import UserError
from paperloop_data import EpisodeDataset

__all__ = ["FittedConstant", "FittedOracle", "FittedUDS"]


class FittedConstant:
    """The same reward for every step."""

    def __init__(self, config: ConstantConfig, demos: EpisodeDataset, data: EpisodeDataset) -> None:
        del demos, data
        self.config = config

    def label(self, data: EpisodeDataset) -> Labels:
        """See `Fitted.label`."""
        return Labels(np.full(data.num_steps, self.config.value, np.float32))


class FittedOracle:
    """The true rewards: those of the data, or those that it had before it was labelled.

    Raises:
        UserError: every reward is 0, as where a file has none.
    """

    def __init__(self, config: OracleConfig, demos: EpisodeDataset, data: EpisodeDataset) -> None:
        del config, demos
        if not true_rewards(data).any():
            raise UserError(
                f"{data.where}: every reward is 0, so the true rewards, which the oracle needs, are not known: give "
                "data that has them, or leave the oracle out."
            )

    def label(self, data: EpisodeDataset) -> Labels:
        """See `Fitted.label`."""
        return Labels(true_rewards(data).astype(np.float32))


class FittedUDS:
    """Demonstrations keep their true rewards, all else gets one value (Yu et al. 2022, arXiv 2202.01741).

    Raises:
        UserError: none of the demonstrations is an episode of the data.
    """

    def __init__(self, config: UDSConfig, demos: EpisodeDataset, data: EpisodeDataset) -> None:
        check_compatible(data, demos, FeatureConfig(inputs="state_action"))
        rewards = true_rewards(demos)
        self._rewards = {_content(demos, e): rewards[_rows(demos, e)] for e in range(demos.num_episodes)}
        self._fill = 0.0 if config.fill == "zero" else float(rewards.min())
        if not self.found(data).any():
            raise UserError(
                f"{data.where}: no demonstration is among its episodes, and UDS rewards nothing else: join them first, "
                "by EpisodeDataset.concatenate([data, demos])."
            )

    def found(self, data: EpisodeDataset) -> np.ndarray:
        """Return (E,) booleans: which episodes are demonstrations, bit for bit."""
        return np.array([_content(data, e) in self._rewards for e in range(data.num_episodes)])

    def label(self, data: EpisodeDataset) -> Labels:
        """See `Fitted.label`. Per episode: whether it is a demonstration."""
        rewards = np.full(data.num_steps, self._fill, np.float32)
        found = self.found(data)
        for e in np.flatnonzero(found):
            rewards[_rows(data, int(e))] = self._rewards[_content(data, int(e))]
        return Labels(rewards, {"is_demonstration": found})

    def describe(self) -> Mapping[str, Any]:
        """See `Fitted.describe`."""
        return {"fill": self._fill, "demonstrations": len(self._rewards)}


def _rows(data: EpisodeDataset, episode: int) -> slice:
    return slice(int(data.episode_starts[episode]), int(data.episode_ends[episode]))


def _content(data: EpisodeDataset, episode: int) -> bytes:
    rows = _rows(data, episode)
    return data.observations[rows].tobytes() + data.actions[rows].tobytes()
