"""What a replay buffer has recorded, as a dataset is made from it."""

from __future__ import annotations

import warnings

import numpy as np

from policy_finetune.replay.packing import Layout

__all__ = ["OverwrittenWarning", "recorded_transitions"]


class OverwrittenWarning(UserWarning):
    """A replay buffer does not begin with the run's first transition: it was full, and later ones took its place."""


def recorded_transitions(
    ring: np.ndarray, done: int, layout: Layout, *, mean: np.ndarray, std: np.ndarray, scale: float, bias: float
) -> dict[str, np.ndarray]:
    """Return an agent's online transitions, oldest first, in the environment's own units except for the actions.

    Warns with `OverwrittenWarning`, in the name of its caller's caller, where transitions were lost.

    Args:
        ring: (capacity, width), the packed rows.
        done: transitions made in all.
        layout: of a row.
        mean: (obs_dim,), what was subtracted from observations ...
        std: (obs_dim,), ... and what they were divided by.
        scale: what rewards were multiplied by ...
        bias: ... and what was added.
    """
    o, a, capacity = layout.obs_dim, layout.act_dim, len(ring)
    filled = min(done, capacity)
    rows = np.roll(ring, -(done % capacity), 0) if done > capacity else ring[:filled]
    if done > filled:
        warnings.warn(
            f"the replay buffer holds {filled:,} transitions and has lost the {done - filled:,} before them: the "
            "dataset begins there, perhaps in the middle of an episode, and not with the start of training",
            OverwrittenWarning,
            stacklevel=3,
        )
    following = rows[:, o + a : 2 * o + a]
    terminated = rows[:, -2] == 0
    # A row that the next one does not follow on from ended its episode.
    broken = np.append((rows[1:, :o] != following[:-1]).any(1), True)
    return {
        "observations": rows[:, :o] * std + mean,
        "actions": rows[:, o : o + a],
        "rewards": (rows[:, -3] - bias) / scale,
        "next_observations": following * std + mean,
        "terminated": terminated,
        "truncated": broken & ~terminated,
    }
