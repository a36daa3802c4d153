"""Rivals that are trained for one objective: rewards put on the motion afterwards, and IQL or TD3+BC on them.

Both learners are those of `policy-finetune` (the extra `specialists`), by its public names.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from hgap.envs.objectives import Objective, Trajectory
from hgap.envs.simulator import Simulator
from paperloop.errors import UserError
from paperloop_data import EpisodeDataset

__all__ = ["Specialist", "relabel", "train_specialist"]


def relabel(data: EpisodeDataset, objective: Objective, slices: dict[str, tuple[int, int]]) -> EpisodeDataset:
    """Return the data with what an objective pays for each step: the state after the action counts.

    Raises:
        UserError: the data do not say what followed the last steps, or the objective returns no reward for each step.
    """
    following = [episode.next_observations for episode in data]
    if any(rows is None for rows in following):
        raise UserError(f"{data.where} does not say which state followed the last step of an episode.")
    states = np.concatenate([np.asarray(rows) for rows in following]).astype(np.float32)
    actions = np.asarray(data.actions, np.float32)
    rewards = np.asarray(objective(Trajectory(states, actions, slices)), np.float32)
    if rewards.shape != (len(actions),):
        raise UserError("The objective returns totals: what is trained for it needs a reward for each step.")
    return data.replace(rewards=rewards)


class Specialist:
    """A policy of one objective, as a controller."""

    def __init__(self, policy: Any) -> None:
        self._policy = policy

    def begin(self, copies: int, seed: int) -> None:
        """Do nothing: a policy has no memory."""

    def act(self, states: np.ndarray, observations: np.ndarray) -> np.ndarray:
        """Return the policy's actions, without noise."""
        return np.asarray(self._policy.predict(np.asarray(observations, np.float32)))


def train_specialist(
    kind: Literal["iql", "td3bc"], data: EpisodeDataset, simulator: Simulator, *, updates: int, seed: int = 0
) -> Specialist:
    """Return the policy that an offline learner finds on relabelled data.

    Args:
        kind: IQL (Kostrikov et al., 2022) or TD3+BC (Fujimoto and Gu, 2021), with policy-finetune's settings.
        data: of `relabel`.
        simulator: of the body, for the range of its actions.
        updates: of the critics.
        seed: everything random follows from it.

    Raises:
        UserError: policy-finetune is not installed.
    """
    try:
        from policy_finetune import LEARNERS, EnvSpec, OfflineConfig, OfflineTrainer
    except ImportError:
        raise UserError(f"{kind} comes with policy-finetune: pip install 'hgap[specialists]'.") from None
    low, high = (np.asarray(x, np.float32) for x in (simulator.action_low, simulator.action_high))
    body = simulator.body
    spec = EnvSpec(
        env_id=body.env_id, obs_dim=simulator.observation_size, act_dim=len(low), low=low, high=high,
        max_episode_steps=body.max_steps,
    )  # fmt: skip
    actions = np.clip((np.asarray(data.actions) - (high + low) / 2) / ((high - low) / 2), -1, 1).astype(np.float32)
    trainer = OfflineTrainer(
        OfflineConfig(learner=LEARNERS[kind], updates=updates), data.replace(actions=actions), spec=spec
    )
    state = trainer.init(seed)
    for _ in range(trainer.num_steps):
        state, _ = trainer.step(state)
    return Specialist(trainer.policy(state, spec).agent(0))
