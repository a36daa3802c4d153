"""The numbers by which agents of one compiled program may differ: losses' weights, schedules, replay shares.

`weights_of(learner, replay, switch)` gives them as a flat dictionary of scalars; stacked over agents
(`policy_finetune.agents.weights`) they are an argument of the program, so that a whole ablation compiles once.
`structure_of` is what is left and must agree. Nothing here imports jax.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from paperloop.settings import replace_in
from policy_finetune.config import LearnerConfig, ReplayConfig, SwitchConfig

__all__ = ["structure_of", "weights_of"]

#: Fields of a learner that are data of the program, except for the constraint's.
_LEARNER = (
    "discount", "tau", "actor_lr", "critic_lr", "target_noise", "noise_clip", "q_weight", "bc_weight",
    "bc_decay_steps", "bc_floor", "expectile", "temperature", "max_weight", "alpha_lr", "actor_lr_steps",
    "cql_alpha",
)  # fmt: skip
_CONSTRAINT = ("dual_lr", "nu_min", "coefficient", "decay_steps", "coefficient_floor", "reference_period")


def weights_of(
    learner: LearnerConfig, replay: ReplayConfig | None = None, switch: SwitchConfig | None = None, *, act_dim: int
) -> dict[str, float]:
    """Return the data of one agent, by name."""
    constraint = learner.constraint
    # The KL of two Gaussians of one spread is the squared distance over 2σ², summed over dimensions: a mean times this.
    unit = act_dim / (2 * constraint.kl_sigma**2) if constraint.distance == "gauss_kl" else 1.0
    out = {name: float(getattr(learner, name)) for name in _LEARNER}
    out |= {name: float(getattr(constraint, name)) for name in _CONSTRAINT}
    tau = learner.tau if constraint.reference_tau is None else constraint.reference_tau
    final = constraint.epsilon if constraint.epsilon_final is None else constraint.epsilon_final
    out |= {
        "normalize_q": float(learner.normalize_q),
        "distance_unit": unit,
        "constrained": float(constraint.enabled),
        "dual": float(constraint.penalty == "dual"),
        "epsilon": constraint.epsilon,
        "epsilon_final": final,
        "epsilon_steps": float(max(constraint.epsilon_steps, 1)),
        "reference_tau": tau if constraint.reference == "target" else 0.0,
        "reference_copies": float(constraint.reference == "periodic"),
        "target_entropy": -act_dim * learner.target_entropy_scale,
    }
    replay = replay or ReplayConfig()
    rho = {"append": (0.0, 0.0), "drop": (0.0, 0.0), "symmetric": (replay.rho,) * 2}
    first, last = rho.get(replay.kind, (replay.rho, replay.rho_final))
    out |= {
        "rho": first,
        "rho_final": last,
        "rho_steps": float(replay.decay_steps),
        "append": float(replay.kind == "append"),
        "critic_warmup": float(switch.critic_warmup if switch else 0),
    }
    return out


def structure_of(learner: LearnerConfig) -> LearnerConfig:
    """Return the learner with all data at their defaults: two agents share a program if these are equal.

    Whether the constraint holds is data too: TD3 and TD3+BC run in one program with TD3-C, which then computes all
    terms for all.
    """
    default = LearnerConfig()
    changes: dict[str, Any] = {name: getattr(default, name) for name in _LEARNER if name != "cql_alpha"}
    changes |= {f"constraint.{name}": getattr(default.constraint, name) for name in _CONSTRAINT}
    changes |= {
        "normalize_q": default.normalize_q,
        "target_entropy_scale": default.target_entropy_scale,
        "constraint.enabled": False,
        "constraint.epsilon": default.constraint.epsilon,
        "constraint.epsilon_final": None,
        "constraint.epsilon_steps": 0,
        "constraint.nu0": default.constraint.nu0,
        "constraint.kl_sigma": default.constraint.kl_sigma,
        "constraint.reference": default.constraint.reference,
        "constraint.reference_tau": None,
        "constraint.penalty": default.constraint.penalty,
        "constraint.distance": "mse_per_dim" if learner.constraint.distance == "mse_per_dim" else "mse",
    }
    changes["cql_alpha"] = 1.0 if learner.cql_alpha else 0.0
    return replace_in(dataclasses.replace(learner), changes)
