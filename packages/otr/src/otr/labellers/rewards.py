"""From distances to rewards: squashing, several demonstrations, the scale of a whole dataset."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from otr.config import PWILConfig
from otr.settings.rewards import ExponentialSquash, FixedScale, ScaleConfig, SquashConfig
from paperloop.errors import UserError
from paperloop_data import EpisodeDataset

__all__ = [
    "Scale", "aggregate", "apply_scale", "divisor", "episode_sums", "exponential", "fit_scale", "squash", "vanished",
]  # fmt: skip


def divisor(config: SquashConfig, data: EpisodeDataset, width: int) -> float:
    """Return D of the squashing.

    Args:
        config: which.
        data: what is labelled; demonstrations may lack actions.
        width: of the compared vectors.

    Raises:
        UserError: the dimension is 0.
    """
    sizes = {
        "observation": int(np.prod(data.observations.shape[1:])), "action": int(np.prod(data.actions.shape[1:])),
        "feature": width, "none": 1,
    }  # fmt: skip
    if not sizes[config.divisor]:
        raise UserError(
            f"{data.where}: squash.divisor is {config.divisor!r}, and there are none in the data: choose another "
            "divisor."
        )
    return float(sizes[config.divisor])


def exponential(distance: np.ndarray, *, alpha: float, rate: float) -> np.ndarray:
    """Return alpha exp(-rate d); float32, any shape.

    The authors' code writes alpha exp(-beta (1000/D) q) with q = d/1000 (`otr.optimal_transport.sinkhorn`): the same
    for rate = beta/D.
    """
    return (alpha * np.exp(-rate * distance.astype(np.float64))).astype(np.float32)


def squash(distance: np.ndarray, config: SquashConfig, divisor: float) -> np.ndarray:
    """Return the reward of each distance, float32, any shape: `exponential` with rate beta/D, or -(alpha/D) d."""
    if isinstance(config, ExponentialSquash):
        return exponential(distance, alpha=config.alpha, rate=config.beta / divisor)
    return (-(config.alpha / divisor) * distance.astype(np.float64)).astype(np.float32)


#: An exponential label below this share of its scale has vanished: compared with the others, a learner sees 0.
VANISHED = 1e-6


def vanished(rewards: np.ndarray, config: Any) -> float | None:
    """Return the share of labels that an exponential has taken to next to nothing; None where there is no exponential.

    alpha exp(-beta d) of distances far above 1/beta is 0 whatever the distance, and ranks nothing.

    Args:
        rewards: (N,) before the scale of the dataset.
        config: the labeller's configuration.
    """
    squashed = config if isinstance(config, PWILConfig) else getattr(config, "squash", None)
    if not isinstance(squashed, PWILConfig | ExponentialSquash):
        return None
    return float(np.mean(rewards < VANISHED * squashed.alpha))


def episode_sums(rewards: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Return the sums of each episode over the last axis, (..., E) float64."""
    return np.add.reduceat(rewards.astype(np.float64), starts, axis=-1)


def aggregate(rewards: np.ndarray, starts: np.ndarray, rule: str) -> tuple[np.ndarray, np.ndarray]:
    """Combine the rewards that K demonstrations give.

    Args:
        rewards: (K, N).
        starts: (E,) first rows of the episodes.
        rule: "best" takes for each episode all rewards from the demonstration with the highest sum, the earlier of
            equals; "mean" the mean over demonstrations.

    Returns:
        (N,) float32 rewards and (E,) the demonstration with the highest sum.
    """
    sums = episode_sums(rewards, starts)
    chosen = np.argmax(sums, axis=0)
    if rule == "mean":
        return rewards.mean(axis=0, dtype=np.float64).astype(np.float32), chosen
    lengths = np.diff(np.append(starts, rewards.shape[1]))
    return rewards[np.repeat(chosen, lengths), np.arange(rewards.shape[1])], chosen


class Scale(NamedTuple):
    """What rewards are multiplied by and what is then added.

    Attributes:
        factor: the multiplier.
        bias: the constant.
        guarded: whether the factor is 1 because all episodes have one return.
    """

    factor: float
    bias: float
    guarded: bool


def fit_scale(rewards: np.ndarray, starts: np.ndarray, config: ScaleConfig) -> Scale:
    """Return target / (highest - lowest episode return), from the rewards of a whole dataset.

    Returns that differ by no more than float32 rounding count as equal.
    """
    if isinstance(config, FixedScale):
        return Scale(config.factor, config.bias, False)
    sums = episode_sums(rewards, starts)
    width = float(sums.max() - sums.min())
    if width <= 1e-6 * float(np.abs(sums).max(initial=0.0)):
        return Scale(1.0, config.bias, True)
    return Scale(config.target / width, config.bias, False)


def apply_scale(rewards: np.ndarray, scale: Scale) -> np.ndarray:
    """Return rewards * factor + bias as float32."""
    return (rewards.astype(np.float64) * scale.factor + scale.bias).astype(np.float32)
