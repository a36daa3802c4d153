"""From distances to rewards: squashing, several demonstrations, the scale of a whole dataset."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from otr.config import PWILConfig, ScaleConfig, SquashConfig

__all__ = ["Scale", "aggregate", "apply_scale", "episode_sums", "fit_scale", "squash", "vanished"]


def squash(distance: np.ndarray, config: SquashConfig, divisor: float) -> np.ndarray:
    """Return the reward of each distance: alpha exp(-(beta/D) d), -(alpha/D) d, or -d; float32, any shape.

    The authors' code writes alpha exp(-beta (1000/D) q) with q = d/1000 (`otr.optimal_transport.sinkhorn`): the same.

    Args:
        distance: expected costs or other distances.
        config: which function.
        divisor: D.
    """
    wide = distance.astype(np.float64)
    if config.kind == "exponential":
        return (config.alpha * np.exp(-config.beta / divisor * wide)).astype(np.float32)
    return (-(config.alpha / divisor if config.kind == "linear" else 1.0) * wide).astype(np.float32)


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
    if squashed is None or getattr(squashed, "kind", "exponential") != "exponential":
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
    if config.kind == "fixed":
        return Scale(config.factor, config.bias, False)
    sums = episode_sums(rewards, starts)
    width = float(sums.max() - sums.min())
    if width <= 1e-6 * float(np.abs(sums).max(initial=0.0)):
        return Scale(1.0, config.bias, True)
    return Scale(config.target / width, config.bias, False)


def apply_scale(rewards: np.ndarray, scale: Scale) -> np.ndarray:
    """Return rewards * factor + bias as float32."""
    return (rewards.astype(np.float64) * scale.factor + scale.bias).astype(np.float32)
