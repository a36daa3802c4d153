"""Named learners: the settings of published methods, as far as they are known."""

from __future__ import annotations

from dataclasses import replace

from policy_finetune.config import (
    BCConfig,
    CQLConfig,
    DropReplay,
    DualConstraint,
    Fade,
    FixedPenalty,
    IQLConfig,
    LearnerConfig,
    NetworkConfig,
    OfflineConfig,
    OnlineConfig,
    Periodic,
    SACConfig,
    SwitchConfig,
    SymmetricReplay,
    TD3Config,
)

__all__ = ["LEARNERS", "LEARNER_HELP", "learner", "offline_presets", "online_presets"]

_REDQ = NetworkConfig(critics=10, layer_norm=True)
_LAYER_NORM = NetworkConfig(layer_norm=True)
_ORTHOGONAL = NetworkConfig(init="orthogonal")
_CALIBRATED = CQLConfig(calibrated=True)
_LEVEL = TD3Config(network=_LAYER_NORM, target_update="every_step", q_weight=2.5, bc_weight=1.0)
_RLPD = SACConfig(network=_REDQ, policy_delay=20, target_subset=2, actor_q="mean", target_entropy_scale=0.5)

#: Name -> learner.
LEARNERS: dict[str, LearnerConfig] = {
    "td3": TD3Config(),
    "td3bc": TD3Config(q_weight=2.5, bc_weight=1.0),
    "td3c": TD3Config(constraint=DualConstraint()),
    "td3-ln": TD3Config(network=_LAYER_NORM),
    "td3bc-ln": TD3Config(network=_LAYER_NORM, q_weight=2.5, bc_weight=1.0),
    "td3c-ln": TD3Config(network=_LAYER_NORM, constraint=DualConstraint()),
    "td3bc-level": _LEVEL,
    "td3bc-loose": replace(_LEVEL, bc_weight=0.2),
    "td3c-acme": TD3Config(
        target_update="every_step", max_grad_norm=40.0, actor_lr=1e-4, critic_lr=1e-4,
        constraint=DualConstraint(distance="mse_per_dim", reference=Periodic(), nu0=10.0),
    ),
    "td3bc-decay": TD3Config(q_weight=2.5, bc_weight=1.0, bc_fade=Fade(steps=100_000)),
    "proto": TD3Config(
        q_weight=2.5, constraint=FixedPenalty(coefficient=2.0, fade=Fade(steps=1_111_111), penalize_target=True)
    ),
    "iql": IQLConfig(network=_ORTHOGONAL),
    "iql-redq": IQLConfig(network=_REDQ),
    "iql-antmaze": IQLConfig(network=_ORTHOGONAL, expectile=0.9, temperature=10.0),
    "bc": BCConfig(),
    "sac": SACConfig(),
    "rlpd": _RLPD,
    "wsrl": replace(_RLPD, policy_delay=4),
    "cql": SACConfig(cql=CQLConfig(), backup_entropy=False),
    "calql": SACConfig(cql=_CALIBRATED, backup_entropy=False),
    "calql-redq": replace(_RLPD, policy_delay=1, cql=_CALIBRATED, backup_entropy=False),
}  # fmt: skip

#: Name -> one line.
LEARNER_HELP: dict[str, str] = {
    "td3": "TD3 (Fujimoto et al. 2018)",
    "td3bc": "TD3+BC, α = 2.5 (Fujimoto & Gu 2021)",
    "td3c": "TD3 under a constraint on how far the policy moves (after Luo et al. 2023)",
    "td3-ln": "td3 with LayerNorm in the critics",
    "td3bc-ln": "td3bc with LayerNorm in the critics: a start for the other two",
    "td3c-ln": "td3c with LayerNorm in the critics: what we recommend, after pre-training with td3bc-ln",
    "td3bc-level": "td3bc-ln with critics that begin at the data's mean return to go, and targets that move at every"
    " update: a start for td3bc-loose",
    "td3bc-loose": "td3bc-level with a fifth of the BC term's weight: what we recommend, after pre-training with"
    " td3bc-level, where an agent can fall",
    "td3c-acme": "td3c with the multiplier's settings of Acme's MPO",
    "td3bc-decay": "TD3+BC whose BC term fades",
    "proto": "TD3 with a penalty on the distance to the trailing policy, in the target too, that decays over 1.1"
    " million updates (after PROTO); for shorter runs lower learner.constraint.fade.steps",
    "iql": "implicit Q-learning (Kostrikov et al. 2021), locomotion; online it explores with Gaussian noise of"
    " exploration_noise around its mean",
    "iql-redq": "iql with RLPD's networks (advantages by the minimum of all 10 critics): another start for wsrl",
    "iql-antmaze": "implicit Q-learning, AntMaze; its pre-training takes 1 from every reward",
    "bc": "behaviour cloning",
    "sac": "soft actor-critic",
    "rlpd": "RLPD: 10 critics with LayerNorm, 20 updates a step; use it with replay symmetric and --data",
    "wsrl": "WSRL's online learner: RLPD's networks, 4 updates a step; use it with replay drop and a warm-up of 5000,"
    " after pre-training with calql-redq",
    "cql": "conservative Q-learning, α = 5",
    "calql": "Cal-QL: calibrated conservative Q-learning, α = 5; online with half of each batch offline, because only"
    " offline rows have a return to be calibrated by",
    "calql-redq": "Cal-QL with RLPD's networks: what WSRL is pre-trained with (five times the critics, so slow)",
}


def learner(name: str) -> LearnerConfig:
    """Return the learner of that name.

    Raises:
        UserError: there is none.
    """
    from paperloop.errors import UserError
    from paperloop.settings import did_you_mean

    try:
        return LEARNERS[name]
    except KeyError:
        raise UserError(f'There is no learner "{name}"{did_you_mean(name, LEARNERS)}') from None


def offline_presets() -> dict[str, OfflineConfig]:
    """Return name -> configuration of pre-training, one for each learner."""
    return {
        # The original IQL lets the actor's learning rate fall to 0 over its million steps. It scales locomotion's
        # rewards by the range of returns, and takes 1 from AntMaze's, which are 0 or 1.
        name: OfflineConfig(
            learner=replace(config, actor_lr_steps=1_000_000) if isinstance(config, IQLConfig) else config,
            normalize_rewards=name in ("iql", "iql-redq"),
            reward_bias=-1.0 if name == "iql-antmaze" else 0.0,
            initial_value="mean" if name == "td3bc-level" else "zero",
        )
        for name, config in LEARNERS.items()
        if name not in ("proto", "rlpd", "td3bc-loose", "wsrl")
    }


def online_presets() -> dict[str, OnlineConfig]:
    """Return name -> configuration of online learning: each learner with the replay and switch that belong to it."""
    out = {
        name: OnlineConfig(learner=config)
        for name, config in LEARNERS.items()
        if not isinstance(config, BCConfig) and name not in ("rlpd", "wsrl")
    }
    for name in ("calql", "calql-redq"):
        out[name] = replace(out[name], replay=SymmetricReplay())
    out["rlpd"] = OnlineConfig(
        learner=_RLPD, replay=SymmetricReplay(), utd=20.0, block=1,
        switch=SwitchConfig(warmup_env_steps=5000),
    )  # fmt: skip
    out["wsrl"] = OnlineConfig(
        learner=replace(_RLPD, policy_delay=4), replay=DropReplay(), utd=4.0, block=1,
        switch=SwitchConfig(warmup_env_steps=5000),
    )  # fmt: skip
    return out
