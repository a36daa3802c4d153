"""What a replay buffer has recorded, as a dataset is made from it."""

from __future__ import annotations

import numpy as np

from policy_finetune.replay.packing import Layout

__all__ = ["recorded_transitions"]


def recorded_transitions(
    ring: np.ndarray, done: int, layout: Layout, *, mean: np.ndarray, std: np.ndarray, scale: float, bias: float
) -> dict[str, np.ndarray]:
    """Return an agent's online transitions, oldest first, in the environment's own units except for the actions.

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
