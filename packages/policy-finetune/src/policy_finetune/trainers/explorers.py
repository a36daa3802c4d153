"""How agents act while they learn: uniform at first, then their policy with noise, or a sample of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from policy_finetune.config import OnlineConfig, SACConfig
from policy_finetune.envs.acting import HostPolicy, squashed_sample
from policy_finetune.envs.pool import EnvPool, EnvState, Finished
from policy_finetune.replay.packing import Layout
from policy_finetune.trainers.common import host_policy
from policy_finetune.trainers.units import Units

__all__ = ["Explorer", "Seen"]


class Seen(NamedTuple):
    """What a block of steps gave.

    Attributes:
        rows: (A, K, width) f32, packed in the units of learning.
        finished: the episodes that ended.
        uniform: for each of them, whether it began with uniform actions.
    """

    rows: np.ndarray
    finished: list[Finished]
    uniform: list[bool]


class Explorer:
    """Makes the environment steps of each block.

    The noise of a block is a function of the agent's seed and the block's number alone, so that a run continues exactly
    and arms with the same seed meet the same noise. SAC's actors are sampled, all others act with Gaussian noise.
    """

    def __init__(self, config: OnlineConfig, layout: Layout, units: Units) -> None:
        self.config, self.layout, self.units = config, layout, units

    def collect(self, pool: EnvPool, env: EnvState, actor: Any, block: int) -> Seen:
        """Do K steps of every agent, which change `env`.

        Args:
            pool: the environments.
            env: where they stand.
            actor: the acting actors, leading axis A.
            block: the block's number.
        """
        length, units = self.config.block, self.units
        rows = np.empty((pool.num_agents, length, self.layout.width), np.float32)
        rows[:, :, -1] = -np.inf  # returns to go are not known yet
        parts = self.layout.split(rows)
        act = self._actions(actor, pool.seeds, block)
        finished: list[Finished] = []
        uniform: list[bool] = []
        for k in range(length):
            step = pool.step(env, act(env.observation, k))
            parts.obs[:, k] = step.observation
            parts.action[:, k] = step.action  # what was executed, clipped
            parts.next_obs[:, k] = step.next_observation
            parts.reward[:, k] = step.reward
            parts.mask[:, k] = ~step.terminated
            finished += step.finished
            now = block * length + k + 1
            uniform += [now - episode.length < self.config.random_steps for episode in step.finished]
        mean, std = units.mean[:, None], units.std[:, None]
        parts.obs[:] = (parts.obs - mean) / std
        parts.next_obs[:] = (parts.next_obs - mean) / std
        parts.reward[:] = parts.reward * units.scale[:, None] + units.bias
        return Seen(rows, finished, uniform)

    def _actions(self, actor: Any, seeds: Sequence[int], block: int) -> Callable[[np.ndarray, int], np.ndarray]:
        """Return (observations [A, obs], step of the block) -> canonical actions [A, act]."""
        config, shape = self.config, (self.config.block, self.layout.act_dim)
        generators = [np.random.default_rng([seed, block]) for seed in seeds]
        if block * config.block < config.random_steps:
            uniform = np.stack([g.uniform(-1.0, 1.0, shape) for g in generators], 1).astype(np.float32)
            return lambda observation, k: uniform[k]
        normal = np.stack([g.standard_normal(shape) for g in generators], 1).astype(np.float32)
        if isinstance(config.structure, SACConfig):
            gaussian = _gaussian(actor, self.units)
            return lambda observation, k: squashed_sample(gaussian(observation[:, None])[:, 0], normal[k])
        policy, sigma = host_policy(actor, self.units.mean, self.units.std), np.float32(config.exploration_noise)
        return lambda observation, k: policy(observation[:, None])[:, 0] + sigma * normal[k]


def _gaussian(actor: Any, units: Units) -> HostPolicy:
    """Return SAC's actors before the squashing."""
    actor = jax.device_get(actor)
    layers = [(layer["w"], layer["b"][:, None, :]) for layer in (*actor["hidden"], actor["mean"], actor["log_std"])]
    return HostPolicy.gaussian(layers[:-1], layers[-1], units.mean, units.std)
