"""How agents act while they learn: uniform at first, then their policy with noise, or a sample of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from policy_finetune.config import OnlineConfig
from policy_finetune.envs.acting import HostPolicy
from policy_finetune.envs.spec import EnvSpec
from policy_finetune.learners.sac import LOG_STD_RANGE
from policy_finetune.trainers.offline import host_policy

__all__ = ["Explorer"]


class Explorer:
    """Makes the action function of each block.

    The noise of a block is a function of the agent's seed and the block's number alone, so that a run continues exactly
    and arms with the same seed meet the same noise. SAC's actors are sampled, all others act with Gaussian noise.
    """

    def __init__(self, config: OnlineConfig, spec: EnvSpec) -> None:
        self.config, self.spec = config, spec

    def block(
        self, actor: Any, mean: np.ndarray, std: np.ndarray, seeds: Sequence[int], block: int
    ) -> Callable[[np.ndarray, int], np.ndarray]:
        """Return (observations [A, obs], step of the block) -> canonical actions [A, act].

        Args:
            actor: the acting actors, leading axis A, on the device or the host.
            mean: [A, obs], the observations' normaliser.
            std: [A, obs].
            seeds: one an agent.
            block: the block's number.
        """
        config, shape = self.config, (self.config.block, self.spec.act_dim)
        generators = [np.random.default_rng([seed, block]) for seed in seeds]
        if block * config.block < config.random_steps:
            uniform = np.stack([g.uniform(-1.0, 1.0, shape) for g in generators], 1).astype(np.float32)
            return lambda observation, k: uniform[k]
        normal = np.stack([g.standard_normal(shape) for g in generators], 1).astype(np.float32)
        if config.structure.name == "sac":
            gaussian = _Gaussian(actor, mean, std)
            return lambda observation, k: gaussian(observation, normal[k])
        policy, sigma = host_policy(actor, mean, std), np.float32(config.exploration_noise)
        return lambda observation, k: policy(observation[:, None])[:, 0] + sigma * normal[k]


class _Gaussian:
    """Samples tanh(mean + σ ε) of SAC's actors."""

    def __init__(self, actor: Any, mean: np.ndarray, std: np.ndarray) -> None:
        actor = jax.device_get(actor)
        both = {name: np.concatenate([actor["mean"][name], actor["log_std"][name]], -1) for name in ("w", "b")}
        layers = [*actor["hidden"], both]
        self._policy = HostPolicy(
            [(layer["w"], layer["b"][:, None, :]) for layer in layers], mean, std, output="linear"
        )

    def __call__(self, observation: np.ndarray, normal: np.ndarray) -> np.ndarray:
        mean, log_std = np.split(self._policy(observation[:, None])[:, 0], 2, axis=-1)
        return np.tanh(mean + np.exp(np.clip(log_std, *LOG_STD_RANGE)) * normal)
