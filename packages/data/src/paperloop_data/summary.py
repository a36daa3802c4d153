"""Numbers that describe a dataset, and sentences about what in it is often a mistake."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from paperloop.errors import setting
from paperloop_data import arrays
from paperloop_data.arrays import EpisodeArrays

__all__ = ["findings", "moments", "statistics"]


def moments(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation over the first axis, in float64, without a float64 copy of the whole."""
    count = len(values)
    mean = np.add.reduce(values, axis=0, dtype=np.float64) / count
    squares = np.zeros(values.shape[1:])
    for _, block in arrays.blocks(values):
        squares += np.square(block - mean).sum(axis=0)
    return mean, np.sqrt(squares / count)


def _spread(values: np.ndarray) -> dict[str, float]:
    found = {"mean": values.mean(), "std": values.std()}
    found |= zip(("min", "median", "max"), np.quantile(values, [0.0, 0.5, 1.0]), strict=True)
    return {name: float(value) for name, value in found.items()}


def statistics(data: EpisodeArrays) -> dict[str, Any]:
    """See `EpisodeDataset.statistics`."""
    last = data.episode_ends - 1
    return {
        "episodes": data.num_episodes,
        "steps": data.num_steps,
        "terminated_episodes": int(data.terminated[last].sum()),
        "truncated_episodes": int(data.truncated[last].sum()),
        "cut_episodes": int(data.cut.sum()),
        "returns": _spread(data.returns()),
        "lengths": _spread(data.lengths.astype(np.float64)),
        "rewards": _spread(data.rewards.astype(np.float64)),
    }


def findings(data: EpisodeArrays, action_low: Any = None, action_high: Any = None) -> list[str]:
    """Return a sentence for each of these that holds.

    Actions out of bounds (numbers or (*act), where they are known); observation dimensions or rewards that never
    change; NaN in an extra; flags inside episodes; episodes of one step after a terminal step (AntMaze, cut at every
    goal step); every episode of one length and all "terminated" (a time limit recorded as an end of the environment's
    own); the same episode twice.
    """
    twins = _twins(data)
    return [
        *(_out_of_bounds(data, action_low, action_high) if action_low is not None and action_high is not None else ()),
        *_odd_values(data),
        *_odd_ends(data),
        *([f"Episodes {twins[0]} and {twins[1]} are the same, step for step."] if twins else []),
    ]


def _out_of_bounds(data: EpisodeArrays, low: Any, high: Any) -> Iterator[str]:
    if data.actions.dtype.kind == "f":
        outside = (data.actions < low) | (data.actions > high)
        if outside.any():
            row = int(outside.reshape(data.num_steps, -1).any(axis=1).argmax())
            yield (
                f"{int(outside.sum())} action values lie outside the bounds [{low}, {high}], the first "
                f"at {arrays.place(row, data.episode_starts)}: clip them, or give the bounds of the environment."
            )


def _odd_values(data: EpisodeArrays) -> Iterator[str]:
    if data.num_steps > 1:
        still = (data.observations.max(axis=0) == data.observations.min(axis=0)).reshape(-1)
        if still.any():
            which = ", ".join(map(str, np.flatnonzero(still)[:8])) + (", ..." if still.sum() > 8 else "")
            yield f"Observation dimensions {which} never change: dividing by their deviation divides by zero."
        if data.rewards.max() == data.rewards.min():
            yield f"Every reward is {float(data.rewards[0])}: there is nothing for a value function to learn."
    for name, array in data.extras.items():
        row = arrays.first_nonfinite(array)
        if row is not None:
            yield f"The extra {name!r} holds NaN or infinity, first at {arrays.place(row, data.episode_starts)}."


def _odd_ends(data: EpisodeArrays) -> Iterator[str]:
    last = np.zeros(data.num_steps, bool)
    last[data.episode_ends - 1] = True
    for name in ("terminated", "truncated"):
        inside = getattr(data, name) & ~last
        if inside.any():
            at = arrays.place(int(inside.argmax()), data.episode_starts)
            yield f"{int(inside.sum())} steps inside episodes are {name}, the first at {at}."
    # Where the flag stays on at the goal, every step there is taken for an episode of its own.
    after_end = np.append(False, data.terminated[data.episode_ends[:-1] - 1])
    short = (data.lengths == 1) & data.terminated[data.episode_starts] & after_end
    if short.sum() > 0.05 * data.num_episodes and data.lengths.max() > 1:
        by_flags = any(step.get("episode_ends") == "flags" for step in data.provenance)  # so there are time-outs
        rules = ["timeouts"] * by_flags + ["goal"] * ("infos/goal" in data.extras)
        ways = " or ".join(setting("episode_ends", rule) for rule in rules)
        advice = f"read the file with {ways}" if ways else "they belong to the episode before them"
        yield (
            f"{int(short.sum())} of {data.num_episodes} episodes are one terminal step right after another: if the "
            f"terminal flag stays on at the goal, as in AntMaze, {advice}."
        )
    one_length = data.num_episodes > 1 and data.lengths.min() == data.lengths.max() > 1
    if one_length and data.terminated[data.episode_ends - 1].all() and not data.truncated.any():
        yield (
            f"Every episode has {data.lengths[0]} steps and ends terminated: if that is a time limit, take it for "
            f"truncated (with_time_limit({data.lengths[0]}) in Python), or value targets will not bootstrap there."
        )


def _twins(data: EpisodeArrays) -> tuple[int, int] | None:
    """The first two episodes with equal observations, actions and rewards."""
    candidates: dict[tuple[int, float, bytes], list[int]] = {}
    returns = data.returns()
    for episode, start in enumerate(data.episode_starts):
        key = (int(data.lengths[episode]), float(returns[episode]), data.observations[start].tobytes())
        for twin in candidates.setdefault(key, []):
            a, b = (slice(data.episode_starts[n], data.episode_ends[n]) for n in (twin, episode))
            whole = (data.observations, data.actions, data.rewards)
            if all(arrays.same_bits(array[a], array[b]) for array in whole):
                return twin, episode
        candidates[key].append(episode)
    return None
