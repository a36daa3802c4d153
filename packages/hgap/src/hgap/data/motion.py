"""Unlabelled motion: policies that are switched at random, with noise, in parts that survive being killed."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hgap.data.behaviours import Behaviours, Policies
from hgap.envs.simulator import Simulator
from hgap.files import read_arrays
from paperloop.files import write_atomically
from paperloop_data import EpisodeDataset

__all__ = ["Switching", "make_motion"]

#: Episodes that are played side by side; a part is one such batch.
COPIES = 32


class Switching(NamedTuple):
    """How policies take turns.

    Attributes:
        shortest: control steps of a turn.
        longest: likewise.
        noise: standard deviations of the noise on the actions; each turn has one of them.
        means: whether the actions that are written are those before noise, as MoCapAct's mean actions.
    """

    shortest: int = 25
    longest: int = 150
    noise: tuple[float, ...] = (0.05, 0.1, 0.2, 0.5)
    means: bool = False


def make_motion(
    simulator: Simulator, behaviours: Behaviours, *, steps: int, episode: int, seed: int, parts: Path,
    switching: Switching | None = None, say: Callable[[int], None] = lambda done: None,
) -> EpisodeDataset:  # fmt: skip
    """Return at least `steps` control steps of motion.

    Args:
        simulator: of the body.
        behaviours: its policies.
        steps: in all; the last batch of episodes is played to its end.
        episode: control steps of an episode, unless the body falls.
        seed: part i of two calls with equal arguments is equal.
        parts: a folder for the parts; those that are there are not made again.
        switching: how policies take turns.
        say: is told the steps so far.

    Returns:
        Episodes whose rewards are zero, with the policy of each step in the extra "behaviour".
    """
    parts.mkdir(parents=True, exist_ok=True)
    episodes: list[dict[str, np.ndarray]] = []
    done = index = 0
    while done < steps:
        path = parts / f"{index}.npz"
        if not path.exists():
            part = _play(simulator, behaviours.policy, episode, np.random.default_rng([seed, index]), switching)
            buffer = io.BytesIO()
            np.savez(buffer, **part)  # ty: ignore[invalid-argument-type]
            write_atomically(path, buffer.getvalue())
        part = read_arrays(path, "a part of the motion: remove it")
        episodes.append(part)
        done, index = done + len(part["actions"]), index + 1
        say(done)
    joined = {name: np.concatenate([part[name] for part in episodes]) for name in episodes[0]}
    lengths = joined.pop("lengths")
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    fell = joined.pop("fell")
    last = starts + lengths - 1
    terminated, truncated = (np.zeros(len(joined["actions"]), bool) for _ in range(2))
    terminated[last], truncated[last] = fell, ~fell
    return EpisodeDataset(
        observations=joined["observations"], actions=joined["actions"], rewards=np.zeros(len(terminated), np.float32),
        terminated=terminated, truncated=truncated, episode_starts=starts, final_observations=joined["final"],
        extras={"behaviour": joined["behaviour"]},
        attributes={"env_id": behaviours.env_id, "control_step": simulator.control_step},
        provenance=({"action": "hgap make-data", "seed": seed, "policies": list(behaviours.names)},),
    )  # fmt: skip


def _play(
    simulator: Simulator, policy: Policies, episode: int, rng: np.random.Generator, switching: Switching | None
) -> dict[str, np.ndarray]:
    """Play a batch of episodes to their ends, and return their steps one episode after another."""
    rule = switching or Switching()
    states = simulator.reset(COPIES, rng)
    policy.begin(COPIES)
    observation = simulator.observe(states)
    left, chosen, noise = np.zeros(COPIES, int), np.zeros(COPIES, int), np.zeros(COPIES)
    rows = {"observations": [], "actions": [], "behaviour": []}
    length, standing = np.full(COPIES, episode), np.ones(COPIES, bool)
    for t in range(episode):
        over = left == 0
        left = np.where(over, rng.integers(rule.shortest, rule.longest + 1, COPIES), left) - 1
        chosen = np.where(over, rng.integers(policy.size, size=COPIES), chosen)
        noise = np.where(over, rng.choice(rule.noise, COPIES), noise)
        disturbed = noise[:, None] * rng.standard_normal((COPIES, simulator.action_size))
        limits, meant = (simulator.action_low, simulator.action_high), policy.choose(chosen, observation)
        action = np.clip(meant + disturbed, *limits)
        after = simulator.roll(states, action[:, None])
        written = np.clip(meant, *limits) if rule.means else action
        for name, row in zip(rows, (observation, written, chosen), strict=True):
            rows[name].append(row)
        states, observation = after.states[:, -1], after.observations[:, -1]
        fell = standing & simulator.fallen(states)
        length[fell] = np.where(np.isfinite(states[fell]).all(-1), t + 1, max(t, 1))  # a blown-up step is left out
        standing &= ~fell
    stacked = {name: np.stack(row, 1) for name, row in rows.items()}  # (COPIES, T, ...)
    final = np.stack([*(row for row in stacked["observations"].swapaxes(0, 1)), observation], 1)
    within = np.arange(episode) < length[:, None]
    out = {name: x[within] for name, x in stacked.items()}
    return {
        "observations": out["observations"].astype(np.float32),
        "actions": out["actions"].astype(np.float32),
        "behaviour": out["behaviour"].astype(np.int16),
        "final": final[np.arange(COPIES), length].astype(np.float32),
        "lengths": length,
        "fell": ~standing,
    }
