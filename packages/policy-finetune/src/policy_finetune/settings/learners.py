"""Settings of a learner: its networks, its losses, its constraint."""

from __future__ import annotations

from typing import Annotated, Literal

from paperloop.settings import (
    Count,
    CountOrZero,
    Ge,
    Gt,
    Le,
    Lt,
    NotNegative,
    Positive,
    PositiveShare,
    Share,
    fault,
    settings,
)

__all__ = [
    "ConstraintConfig",
    "Distance",
    "LearnerConfig",
    "LearnerName",
    "NetworkConfig",
    "Reference",
    "Schedule",
    "ScheduleOrZero",
]

LearnerName = Literal["bc", "td3", "iql", "sac"]
Distance = Literal["mse", "mse_per_dim", "gauss_kl"]
Reference = Literal["target", "periodic", "offline", "best"]

#: Updates that a schedule takes: fewer than counters of updates can count (`policy_finetune.learners.base.counted`).
Schedule = Annotated[int, Ge(1), Le(2**30)]
ScheduleOrZero = Annotated[int, Ge(0), Le(2**30)]


@settings
class NetworkConfig:
    """Multi-layer perceptrons of actor, critics and value.

    Attributes:
        hidden: widths of the hidden layers
        critics: N, independent critics
        layer_norm: LayerNorm before the activation in every hidden layer of the critics (RLPD, WSRL)
        init: torch: uniform in ±1/√fan_in, as torch.nn.Linear; orthogonal: gain √2, biases 0
        actor_dropout: probability of dropping a hidden unit of the actor while it learns (IQL on Adroit: 0.1)
    """

    hidden: tuple[Count, ...] = (256, 256)
    critics: Count = 2
    layer_norm: bool = False
    init: Literal["torch", "orthogonal"] = "torch"
    actor_dropout: Annotated[float, Ge(0), Le(0.99)] = 0.0

    def __post_init__(self) -> None:
        if not self.hidden:
            raise fault(self, "hidden", "at least one width")


@settings
class ConstraintConfig:
    """TD3-C's constraint: E_s[dist(π(s), π_ref(s))] ≤ ε, held by a multiplier λ.

    With a reference that trails the policy, ε and the reference's speed make a *speed limit*: the policy leads by √ε
    and the reference follows with τ√ε an update. With a fixed reference ε limits the whole distance.

    Attributes:
        enabled: hold the constraint
        epsilon: ε, in units of the distance
        distance: mse: mean over action dimensions of the squared difference; mse_per_dim: one multiplier a dimension;
            gauss_kl: KL of two Gaussians of standard deviation `kl_sigma` around the two actions
        kl_sigma: standard deviation for gauss_kl
        reference: target: a Polyak average of the policy; periodic: a copy every `reference_period` actor updates;
            offline: the policy at the switch; best: the actor at the end of the block in which its last
            `guard.episodes` training episodes were the best so far (before that, the policy at the switch)
        reference_tau: Polyak factor of the reference "target" (None: the learner's tau)
        reference_period: actor updates between copies of the reference "periodic"
        penalty: dual: λ = softplus(ν) adapts; fixed: λ = `coefficient`, decaying linearly over `decay_steps` (PROTO)
        nu0: initial ν; Acme's MPO starts with 10
        dual_lr: learning rate of ν (Adam)
        nu_min: ν is kept above this
        coefficient: λ of the penalty "fixed"
        decay_steps: critic updates over which a fixed λ falls to `coefficient_floor`; 0: constant. It does not follow
            the length of the run: the preset proto's 1,111,111 reach 0.2 after a million updates; set about 1.1 x
            env_steps x utd
        coefficient_floor: where a fixed λ ends
        epsilon_final: ε grows linearly to this over `epsilon_steps` (None: it stays)
        epsilon_steps: critic updates over which ε grows
        penalize_target: subtract λ times the online actor's distance at the next state from the TD target too (PROTO,
            OCR-CFT)
    """

    enabled: bool = False
    epsilon: Positive = 2e-4
    distance: Distance = "mse"
    kl_sigma: Positive = 0.2
    reference: Reference = "target"
    reference_tau: PositiveShare | None = None
    reference_period: Schedule = 100
    penalty: Literal["dual", "fixed"] = "dual"
    nu0: float = 1.0
    dual_lr: NotNegative = 1e-2
    nu_min: float = -18.0
    coefficient: NotNegative = 2.0
    decay_steps: ScheduleOrZero = 0
    coefficient_floor: NotNegative = 0.0
    epsilon_final: Positive | None = None
    epsilon_steps: ScheduleOrZero = 0
    penalize_target: bool = False

    def __post_init__(self) -> None:
        if self.nu0 < self.nu_min:
            raise fault(self, "nu0", f"at least {{nu_min}} = {self.nu_min:g}")
        if self.epsilon_final is not None and self.epsilon_steps < 1:
            raise fault(self, "epsilon_steps", "at least 1, because {epsilon_final} is given")


@settings
class LearnerConfig:
    """A learner; the defaults are TD3's. `policy_finetune.presets.LEARNERS` names the usual ones.

    Attributes:
        name: bc; td3 (with TD3+BC and TD3-C as settings of it); iql; sac (with REDQ, RLPD, WSRL, CQL, Cal-QL)
        network: actor and critics
        batch_size: B, transitions a critic update
        discount: γ
        tau: Polyak factor of the target networks
        actor_lr: Adam's learning rate of the actor
        critic_lr: Adam's learning rate of critics and value
        adam_eps: Adam's ε
        actor_lr_steps: actor updates (those of a frozen actor do not count) over which its learning rate falls to 0 by
            a cosine; 0: constant
        max_grad_norm: clip each network's gradient to this global norm; 0: off
        policy_delay: critic updates before each actor update; together they are one round
        target_update: when the critics' targets move (sfujim/TD3: with the actor; Acme: at every critic update)
        target_subset: M, critics whose minimum is the target, redrawn for each batch (REDQ); 0: all
        actor_q: what the actor climbs: the first critic (TD3), the minimum (SAC) or the mean (REDQ)
        target_noise: standard deviation of the target policy's smoothing noise
        noise_clip: that noise is clipped to ± this
        normalize_q: divide Q in the actor's loss by the batch's mean |Q|
        q_weight: weight of Q in the actor's loss (TD3+BC's α is 2.5)
        bc_weight: weight of the squared distance to the batch's actions in the actor's loss (TD3+BC: 1)
        bc_decay_steps: critic updates over which bc_weight falls linearly to bc_floor x bc_weight; 0: constant
        bc_floor: share of bc_weight that stays
        constraint: TD3-C's
        expectile: IQL's τ
        temperature: IQL's β: weights are exp(β A)
        max_weight: IQL's weights are clipped here
        stale_value: IQL: targets and advantages by the value before its update (CORL), not after it (the original)
        bc_loss: BC: squared error of the mean action, or the likelihood of a Gaussian
        init_alpha: SAC's first entropy temperature
        alpha_lr: learning rate of the temperature; 0 keeps it
        target_entropy_scale: SAC's target entropy is -act_dim times this (RLPD and WSRL: 0.5)
        backup_entropy: subtract α log π in the TD target
        cql_alpha: weight of CQL's regulariser; 0: off
        cql_actions: actions sampled for each of CQL's three terms
        cql_temperature: temperature of CQL's log-sum-exp
        calibrated: Cal-QL: values of the policy's actions in the regulariser are at least the data's returns to go.
            Rows collected online have none, so on these the regulariser is CQL's; keep offline data in the batches (see
            policy_finetune.replay.buffers)
    """

    name: LearnerName = "td3"
    network: NetworkConfig = NetworkConfig()
    batch_size: Count = 256
    discount: Share = 0.99
    tau: PositiveShare = 0.005
    actor_lr: NotNegative = 3e-4
    critic_lr: NotNegative = 3e-4
    adam_eps: Positive = 1e-8
    actor_lr_steps: ScheduleOrZero = 0
    max_grad_norm: NotNegative = 0.0
    policy_delay: Count = 2
    target_update: Literal["with_actor", "every_step"] = "with_actor"
    target_subset: CountOrZero = 0
    actor_q: Literal["first", "min", "mean"] = "first"
    target_noise: NotNegative = 0.2
    noise_clip: NotNegative = 0.5
    normalize_q: bool = True
    q_weight: NotNegative = 1.0
    bc_weight: NotNegative = 0.0
    bc_decay_steps: ScheduleOrZero = 0
    bc_floor: Share = 0.0
    constraint: ConstraintConfig = ConstraintConfig()
    expectile: Annotated[float, Gt(0), Lt(1)] = 0.7
    temperature: NotNegative = 3.0
    max_weight: Positive = 100.0
    stale_value: bool = False
    bc_loss: Literal["mse", "mle"] = "mse"
    init_alpha: Positive = 1.0
    alpha_lr: NotNegative = 3e-4
    target_entropy_scale: NotNegative = 1.0
    backup_entropy: bool = True
    cql_alpha: NotNegative = 0.0
    cql_actions: Count = 10
    cql_temperature: Positive = 1.0
    calibrated: bool = False

    def __post_init__(self) -> None:
        if self.target_subset > self.network.critics:
            raise fault(self, "target_subset", f"at most {{network.critics}} = {self.network.critics}")
        if self.constraint.enabled and self.name != "td3":
            raise fault(
                self, "constraint.enabled", text=f"{{constraint.enabled}} belongs to td3, and {{name}} is {self.name}: "
                "leave the constraint out.",
            )  # fmt: skip
        if self.name != "sac" and (self.cql_alpha or self.calibrated):
            field = "calibrated" if self.calibrated else "cql_alpha"
            raise fault(self, field, text=f"{{{field}}} belongs to sac, and {{name}} is {self.name}: leave it out.")
        if self.calibrated and not self.cql_alpha:
            raise fault(self, "cql_alpha", "above 0 (Cal-QL: 5), because {calibrated} is given")
