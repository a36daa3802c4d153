"""The switch from the offline to the online phase: what of the pre-trained agent the online learner takes over."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from policy_finetune.config import SwitchConfig
from policy_finetune.learners.base import LearnerState, copy
from policy_finetune.offline import OfflineState, OfflineTrainer

__all__ = ["Pretrained", "take_over"]


@dataclass(frozen=True, eq=False)
class Pretrained:
    """P pre-trained agents: all that fine-tuning needs of them.

    Attributes:
        learner: their learners' states, every leaf with a leading axis P.
        mean: (P, obs) f32, the frozen normaliser of observations ...
        std: (P, obs) f32, ... with its ε added.
        dataset: (P,) the index of each one's dataset.
        labels: their arms.
        scale: (P,) what their rewards were multiplied by: critics go with it.
        bias: what was then added.
    """

    learner: LearnerState
    mean: np.ndarray
    std: np.ndarray
    dataset: tuple[int, ...]
    labels: tuple[str, ...]
    scale: np.ndarray
    bias: float

    @classmethod
    def of(cls, trainer: OfflineTrainer, state: OfflineState) -> Pretrained:
        """Return what an offline trainer has trained; the state stays good."""
        picks = [agent.dataset for agent in trainer.agents]
        return cls(
            copy(state.learner),
            trainer.data.mean[picks],
            trainer.data.std[picks],
            tuple(picks),
            tuple(agent.label for agent in trainer.agents),
            trainer.data.scale[picks],
            trainer.data.bias,
        )

    @property
    def num_agents(self) -> int:
        """P."""
        return len(self.dataset)


def take_over(fresh: LearnerState, old: LearnerState, switch: SwitchConfig) -> tuple[LearnerState, list[str]]:
    """Return the online learner's first state, made from a pre-trained one (both of one agent).

    Networks that fit are copied, target networks included; what the new learner has and the old one has not, or has in
    another shape, stays as `fresh` has it, and a note says so. Optimiser moments go with their network unless
    `switch.reset_optimizer` says otherwise. The reference of a constraint starts as a copy of the actor.
    """
    notes: list[str] = []
    params, opt, target = dict(fresh.params), dict(fresh.opt), dict(fresh.target)
    for name in fresh.params:
        if name not in old.params:
            if name not in ("nu", "log_alpha"):
                notes.append(f"the pre-trained agent has no {name}: it starts anew")
            continue
        if name in ("critic", "value") and switch.critic_reinit:
            continue
        if name == "actor":
            params["actor"], whole = _actor(fresh.params["actor"], old.params["actor"])
            if params["actor"] is fresh.params["actor"]:
                notes.append("the pre-trained actor has other layers: it starts anew")
                continue
            if not whole and "log_std" in fresh.params["actor"]:
                notes.append("the actor's spread starts anew: the pre-trained one has another form of it")
        elif _fits(fresh.params[name], old.params[name]):
            params[name], whole = old.params[name], True
        else:
            notes.append(f"the pre-trained {name} has another shape: it starts anew")
            continue
        reset = switch.reset_optimizer in ("all", "critic" if name == "value" else name)
        if whole and not reset and _fits(fresh.opt[name], old.opt.get(name)):
            opt[name] = old.opt[name]
        if name in target:
            before = old.target.get(name)
            target[name] = before if before is not None and _fits(target[name], before) else params[name]
    if "nu" in params:  # a multiplier belongs to its phase
        params["nu"], opt["nu"] = fresh.params["nu"], fresh.opt["nu"]
    reference = None if fresh.reference is None else params["actor"]
    zero = jnp.zeros((), jnp.int32)
    return copy(LearnerState(params, target, opt, reference, zero, zero)), notes


def _actor(fresh: dict[str, Any], old: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    """Return the actor with the old layers, and whether that is all of it."""
    layers = {"hidden": old["hidden"], "mean": old["mean"]}
    if not _fits({"hidden": fresh["hidden"], "mean": fresh["mean"]}, layers):
        return fresh, False
    if "log_std" not in fresh:
        return layers, "log_std" not in old
    if "log_std" in old and _fits(fresh["log_std"], old["log_std"]):
        return layers | {"log_std": old["log_std"]}, True
    return layers | {"log_std": fresh["log_std"]}, False


def _fits(a: Any, b: Any) -> bool:
    """Whether two trees have the same structure, shapes and dtypes."""
    if b is None or jax.tree.structure(a) != jax.tree.structure(b):
        return False
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(x.shape == y.shape and x.dtype == y.dtype for x, y in pairs)


def describe_run(folder: Path) -> dict[str, Any]:
    """Return the configuration document of a run folder."""
    return json.loads((folder / "config.json").read_text())
