"""Names for agents: those with equal names are repetitions of one arm, and no others are.

A name is the agent's own label where it has one; else its learner and, online, what its batches hold. Where two arms
would be called alike though their settings, their data or their pre-trained agents differ, the name says so.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Protocol

from policy_finetune.config import LearnerConfig, OfflineAgent, OnlineAgent

__all__ = ["Origins", "offline_labels", "online_labels"]


class Origins(Protocol):
    """Agents with names that others start from, such as `policy_finetune.Pretrained`."""

    @property
    def labels(self) -> tuple[str, ...]:
        """One name an agent."""
        ...

    @property
    def num_agents(self) -> int:
        """How many agents there are."""
        ...


def offline_labels(agents: Sequence[OfflineAgent], files: Sequence[str], datasets: int) -> tuple[str, ...]:
    """Return the names of agents that learn from data.

    Args:
        agents: the agents.
        files: the datasets' files, where they are known.
        datasets: how many datasets there are.
    """
    stems = [Path(file).stem for file in files]
    places = stems if len(stems) == datasets == len(set(stems)) else [f"dataset {i}" for i in range(datasets)]
    names = told_by(
        [agent.label or learner_name(agent.learner) for agent in agents],
        [f"on {places[agent.dataset]}" if 0 <= agent.dataset < datasets else "" for agent in agents],
    )
    return apart(names, [(agent.label, agent.learner, agent.dataset, agent.top_fraction) for agent in agents])


def online_labels(agents: Sequence[OnlineAgent], start: Origins | None) -> tuple[str, ...]:
    """Return the names of agents that learn online; those from pre-trained agents of one arm count as repetitions.

    Args:
        agents: the agents.
        start: the pre-trained agents, or None.
    """
    origins = [start.labels[agent.start] if start and 0 <= agent.start < start.num_agents else "" for agent in agents]
    names = told_by(
        [agent.label or f"{learner_name(agent.learner)} {agent.replay.kind}" for agent in agents],
        [f"from {origin}" for origin in origins],
    )
    arms = [(agent.label, agent.learner, agent.replay, agent.switch) for agent in agents]
    return apart(names, list(zip(arms, origins, strict=True)))


def told_by(names: Sequence[str], origins: Sequence[str]) -> list[str]:
    """Return the names, with its origin behind each that agents of several origins share."""
    shared = {name: {o for n, o in zip(names, origins, strict=True) if n == name} for name in names}
    return [f"{name} {o}" if len(shared[name]) > 1 else name for name, o in zip(names, origins, strict=True)]


def learner_name(learner: LearnerConfig) -> str:
    """Return a short name of a learner, such as "td3bc" or "calql"."""
    if learner.name == "td3":
        return "td3c" if learner.constraint.enabled else "td3bc" if learner.bc_weight else "td3"
    if learner.name == "sac" and learner.cql_alpha:
        return "calql" if learner.calibrated else "cql"
    return learner.name


def apart(names: Sequence[str], arms: Sequence[Hashable]) -> tuple[str, ...]:
    """Return the names, with a number behind those that agents of different arms would share."""
    known: dict[str, list[Hashable]] = {}
    for name, arm in zip(names, arms, strict=True):
        same = known.setdefault(name, [])
        if arm not in same:
            same.append(arm)
    return tuple(
        name if len(known[name]) == 1 else f"{name} ({known[name].index(arm) + 1})"
        for name, arm in zip(names, arms, strict=True)
    )
