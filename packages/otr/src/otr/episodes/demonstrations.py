"""Choosing demonstrations: from a file, or the best episodes of the data that is to be labelled.

Where either was labelled before, what counts is the rewards that it had before that (`otr.episodes.truth`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from otr.episodes.files import read_dataset
from otr.episodes.truth import with_true_rewards
from paperloop.errors import UserError
from paperloop_data import EpisodeDataset

__all__ = ["Score", "best_episodes", "demonstrations_by", "episode_scores", "load_demonstrations"]

Score = Literal["return", "antmaze"]


def episode_scores(data: EpisodeDataset, score: Score = "return") -> np.ndarray:
    """Return (E,) numbers, higher for better demonstrations.

    Args:
        data: with its true rewards, or labelled and with those that it had before.
        score: "return", Σ_t r_t; or "antmaze", that divided by 1e-4 + |xy of the first observation|, as OTR's authors
            have it. The terminal flag of AntMaze stays on at the goal, so that its files cut into one-step episodes
            there, each with full return: those begin far from the origin, a proper episode begins near it.
    """
    data = with_true_rewards(data)
    returns = data.returns()
    if score == "return":
        return returns
    if score != "antmaze":
        raise UserError(f"The score of demonstrations is 'return' or 'antmaze'; got {score!r}.")
    first = data.observations[data.episode_starts].reshape(data.num_episodes, -1)[:, :2].astype(np.float64)
    return returns / (1e-4 + np.linalg.norm(first, axis=1))


def best_episodes(data: EpisodeDataset, count: int, score: Score = "return") -> EpisodeDataset:
    """Return the `count` best episodes by true reward, best first; of equals the earlier comes first.

    The paper's protocol: they are taken from the data that is then relabelled, and stay in it. Those of labelled data
    come with their true rewards.

    Raises:
        UserError: there are fewer episodes, or no true rewards to choose by.
    """
    if not 1 <= count <= data.num_episodes:
        raise UserError(f"{data.where}: top:{count} of {data.num_episodes} episodes; take 1 to {data.num_episodes}.")
    data = with_true_rewards(data)
    returns = data.returns()
    # A reward of 1 a step does rank episodes, by their lengths; a file without rewards, read as zeros, does not.
    if count < data.num_episodes and data.rewards.max() == data.rewards.min() and returns.max() == returns.min():
        options = [step.get("options") for step in data.provenance]
        if any("default_reward" in one for one in options if isinstance(one, Mapping)):
            raise UserError(
                f"{data.where}: top:{count} chooses by the true rewards, and there are none in it: give a file of "
                "demonstrations."
            )
        raise UserError(
            f"{data.where}: top:{count} chooses by the true rewards, and every reward is {float(data.rewards[0]):g}: "
            "give a file of demonstrations."
        )
    return data.top(count, scores=episode_scores(data, score))


def load_demonstrations(
    spec: str | Path, data: EpisodeDataset, *, score: Score = "return", **options: Any
) -> EpisodeDataset:
    """Return demonstrations by a short text.

    Args:
        spec: "top:K" for the K best episodes of `data`, else the path of a file that `EpisodeDataset.load` reads;
            it needs no rewards, and actions only for a labeller that compares them. Where either was labelled, its
            original rewards count and are what is returned.
        data: the data to be labelled.
        score: see `episode_scores`.
        options: passed to `otr.episodes.files.read_dataset`.

    Raises:
        UserError: the text is neither, or what it names cannot be had.
    """
    match = re.fullmatch(r"top:(\d+)", str(spec))
    if match:
        return best_episodes(data, int(match[1]), score)
    if str(spec).startswith("top:"):
        raise UserError(f"Demonstrations are a file or top:K with a whole number K, such as top:1; got {str(spec)!r}.")
    demos = with_true_rewards(read_dataset(spec, states_only=True, **options))
    if demos.observations.shape[1:] != data.observations.shape[1:]:
        raise UserError(
            f"{demos.where}: the demonstrations have observations of shape {demos.observations.shape[1:]}, and "
            f"{data.where} of shape {data.observations.shape[1:]}: give demonstrations of the same environment and "
            "version."
        )
    return demos


def demonstrations_by(spec: str, score: Score) -> dict[str, str]:
    """Return how demonstrations were named; of a path only its last part, so that no home folder is published."""
    return {"spec": spec, "score": score} if spec.startswith("top:") else {"spec": Path(spec).name}
