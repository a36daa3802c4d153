"""What is measured of agents while they learn, as `paperloop.Evaluator`s."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from paperloop_data import REFERENCE_SCORES, normalised_score
from policy_finetune.data.policies import GradedPolicy, save_policy
from policy_finetune.envs.recorded import task_of
from policy_finetune.envs.rollouts import Returns, RolloutEnvs, evaluate
from policy_finetune.envs.spec import EnvSpec

__all__ = ["EvaluationReturns", "PolicySnapshots", "score_task"]


def score_task(env_id: str) -> str | None:
    """Return the D4RL task whose reference scores go with an environment, "hopper" for "Hopper-v5"; None without."""
    name = task_of(env_id)
    return name if name in REFERENCE_SCORES else None


class EvaluationReturns:
    """Deterministic returns in episodes that training never sees; every call of a run meets the same ones.

    Metrics, (A,) each: `return`, `return_std` over episodes, `length`, and `score`, the D4RL-normalised return, where
    the task has reference scores. With `noise` another set `noisy/...`, under exploration noise: the starts of some
    tasks hardly vary.
    """

    def __init__(self, trainer: Any, spec: EnvSpec, *, episodes: int = 10, noise: float = 0.0) -> None:
        self.trainer, self.spec, self.episodes, self.noise = trainer, spec, episodes, noise
        self._task = score_task(spec.env_id)
        self._envs = RolloutEnvs(spec)

    def __call__(self, state: Any, seed: int) -> Mapping[str, Any]:
        """Return the metrics of `state`."""
        policy = self.trainer.canonical_policy(state)
        out = self._describe(evaluate(policy, self.spec, episodes=self.episodes, seed=seed, envs=self._envs))
        if self.noise:
            noisy = evaluate(policy, self.spec, episodes=self.episodes, seed=seed, noise=self.noise, envs=self._envs)
            out |= {f"noisy/{name}": value for name, value in self._describe(noisy).items()}
        return out

    def _describe(self, returns: Returns) -> dict[str, np.ndarray]:
        out = {"return": returns.mean, "return_std": returns.std, "length": returns.lengths.mean(1)}
        if self._task is not None:
            out["score"] = np.asarray(normalised_score(returns.mean, self._task))
        return out


class PolicySnapshots:
    """Writes every agent's policy at every evaluation, with its measured return, for `make-data --policies`."""

    def __init__(self, trainer: Any, returns: EvaluationReturns, folder: Path, **about: Any) -> None:
        """Bind the trainer, who measures, where the files go, and what their metadata says besides."""
        self.trainer, self.returns, self.folder, self.about = trainer, returns, folder, about

    def __call__(self, state: Any, seed: int) -> Mapping[str, Any]:
        """Evaluate, write, and return the evaluation's metrics."""
        metrics = self.returns(state, seed)
        steps = self.trainer.progress(state)["env_steps"]
        policy = self.trainer.canonical_policy(state)
        for agent in range(policy.num_agents):
            prefix = "" if policy.num_agents == 1 else f"agent-{agent}-"
            metadata = {
                "env_id": self.returns.spec.env_id, **self.about, "env_steps": steps,
                "return_mean": float(metrics["return"][agent]), "return_std": float(metrics["return_std"][agent]),
                "episodes": self.returns.episodes,
                "versions": {name: importlib.metadata.version(name) for name in ("numpy", "gymnasium", "mujoco")},
            }  # fmt: skip
            one = GradedPolicy(policy.agent(agent), metadata=metadata)
            # A resumed run may be at this step again.
            save_policy(one, self.folder / f"{prefix}step-{steps:07d}.npz", overwrite=True)
        return metrics
