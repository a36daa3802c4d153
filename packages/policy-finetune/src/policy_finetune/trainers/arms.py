"""Names for agents: those with equal names are repetitions of one arm, and no others are.

A name is the agent's own label where it has one; else its learner and, online, what its batches hold. Where two arms
would be called alike though their settings, their data or their pre-trained agents differ, the name says so.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace
from pathlib import Path

from policy_finetune.config import BCConfig, LearnerConfig, OfflineAgent, OnlineAgent, SACConfig, TD3Config
from policy_finetune.presets import LEARNERS
from policy_finetune.trainers.pretrained import Pretrained

__all__ = ["learner_name", "offline_labels", "online_labels"]


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


def online_labels(agents: Sequence[OnlineAgent], start: Pretrained | None) -> tuple[str, ...]:
    """Return the names of agents that learn online; those from pre-trained agents of one arm count as repetitions.

    Args:
        agents: the agents.
        start: the pre-trained agents, or None.
    """
    origins = [start.labels[agent.start] if start and 0 <= agent.start < start.num_agents else "" for agent in agents]
    names = told_by(
        [agent.label or f"{learner_name(agent.learner)} {agent.replay.type}" for agent in agents],
        [f"from {origin}" for origin in origins],
    )
    arms = [(agent.label, agent.learner, agent.replay, agent.switch) for agent in agents]
    return apart(names, list(zip(arms, origins, strict=True)))


def told_by(names: Sequence[str], origins: Sequence[str]) -> list[str]:
    """Return the names, with its origin behind each that agents of several origins share."""
    shared = {name: {o for n, o in zip(names, origins, strict=True) if n == name} for name in names}
    return [f"{name} {o}" if len(shared[name]) > 1 else name for name, o in zip(names, origins, strict=True)]


def learner_name(learner: LearnerConfig) -> str:
    """Return a short name of a learner: its preset's, where it is one but for sizes, else such as "td3c-ln"."""
    for name, known in LEARNERS.items():
        if type(known) is type(learner):
            sizes = {"batch_size": learner.batch_size, "actor_lr_steps": learner.actor_lr_steps}
            if replace(known, network=replace(known.network, hidden=learner.network.hidden), **sizes) == learner:
                return name
    name = learner.type
    if isinstance(learner, TD3Config):
        name = "td3c" if learner.constraint else "td3bc" if learner.bc_weight else "td3"
    elif isinstance(learner, SACConfig) and learner.cql:
        name = "calql" if learner.cql.calibrated else "cql"
    return f"{name}-ln" if not isinstance(learner, BCConfig) and learner.network.layer_norm else name


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
