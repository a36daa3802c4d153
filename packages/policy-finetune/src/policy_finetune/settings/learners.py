"""Settings of a learner: its networks, its losses, its constraint.

A field marked `Traced` is a number that only weighs terms of a loss: it is *data* of the compiled program, and agents
that differ in it run side by side (`policy_finetune.agents.structure`). All other fields are *structure*, and must be
the same for all agents of a program.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

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
    "ActorNetwork", "BCConfig", "Best", "CQLConfig", "Constraint", "DualConstraint", "Fade", "FixedPenalty", "Growth",
    "IQLConfig", "LearnerConfig", "NetworkConfig", "Offline", "OnlineLearner", "Periodic", "SACConfig", "Schedule",
    "TD3Config", "Target", "Traced",
]  # fmt: skip


class _Traced:
    """Marks a field as data of the program."""


Traced = _Traced()

#: Updates that a schedule takes: fewer than counters of updates can count (`policy_finetune.learners.base.counted`).
Schedule = Annotated[int, Ge(1), Le(2**30)]
ScheduleOrZero = Annotated[int, Ge(0), Le(2**30)]
Dropout = Annotated[float, Ge(0), Le(0.99)]

Init = Literal["torch", "orthogonal"]


# Networks


@settings
class _Network:
    """What all networks have.

    Attributes:
        hidden: widths of the hidden layers
        init: torch: uniform in ±1/√fan_in, as torch.nn.Linear; orthogonal: gain √2, biases 0
    """

    hidden: tuple[Count, ...] = (256, 256)
    init: Init = "torch"

    def __post_init__(self) -> None:
        if not self.hidden:
            raise fault(self, "hidden", "at least one width")


@settings
class ActorNetwork(_Network):
    """The multi-layer perceptron of an actor without critics."""


@settings
class NetworkConfig(_Network):
    """Multi-layer perceptrons of actor, critics and value.

    Attributes:
        critics: N, independent critics
        layer_norm: LayerNorm before the activation in every hidden layer of the critics (RLPD, WSRL)
    """

    critics: Count = 2
    layer_norm: bool = False


# The constraint of TD3-C


@settings
class Target:
    """A reference that trails the policy: its Polyak average.

    Attributes:
        tau: Polyak factor (None: the learner's tau)
    """

    type: Literal["target"] = "target"
    tau: PositiveShare | None = None


@settings
class Periodic:
    """A reference that is a copy of the policy, made now and then.

    Attributes:
        period: actor updates between copies
    """

    type: Literal["periodic"] = "periodic"
    period: Schedule = 100


@settings
class Offline:
    """The policy at the switch is the reference for good."""

    type: Literal["offline"] = "offline"


@settings
class Best:
    """The reference is the best policy so far.

    It is the actor at the end of the block in which its last `guard.episodes` training episodes (10 without a guard)
    were the best so far; before that, the policy at the switch.
    """

    type: Literal["best"] = "best"


@settings
class Fade:
    """A weight that falls linearly.

    Attributes:
        steps: critic updates that it takes
        floor: share of the weight that stays
    """

    steps: Schedule = 100_000
    floor: Share = 0.0


@settings
class Growth:
    """A limit that grows linearly.

    Attributes:
        to: where it ends
        steps: critic updates that it takes
    """

    to: Positive = 1e-2
    steps: Schedule = 10_000


@settings
class _Held:
    """What both forms of a constraint have.

    Attributes:
        distance: mse: mean over action dimensions of the squared difference; mse_per_dim: one multiplier a dimension
        reference: what the policy is held to
        penalize_target: subtract λ times the online actor's distance at the next state from the TD target too (PROTO,
            OCR-CFT)
    """

    distance: Literal["mse", "mse_per_dim"] = "mse"
    reference: Annotated[Target | Periodic | Offline | Best, Field(discriminator="type")] = Target()
    penalize_target: bool = False


@settings
class DualConstraint(_Held):
    """TD3-C's constraint: E_s[dist(π(s), π_ref(s))] ≤ ε, held by a multiplier λ = softplus(ν) that adapts.

    With a reference that trails the policy, ε and the reference's speed make a *speed limit*: the policy leads by √ε
    and the reference follows with τ√ε an update. With a fixed reference ε limits the whole distance.

    Attributes:
        epsilon: ε, in units of the distance
        growth: how ε grows (None: it stays)
        nu0: initial ν; Acme's MPO starts with 10
        dual_lr: learning rate of ν (Adam)
        nu_min: ν is kept above this
    """

    type: Literal["dual"] = "dual"
    epsilon: Annotated[Positive, Traced] = 2e-4
    growth: Growth | None = None
    nu0: float = 1.0
    dual_lr: Annotated[NotNegative, Traced] = 1e-2
    nu_min: Annotated[float, Traced] = -18.0

    def __post_init__(self) -> None:
        if self.nu0 < self.nu_min:
            raise fault(self, "nu0", f"at least {{nu_min}} = {self.nu_min:g}")


@settings
class FixedPenalty(_Held):
    """A penalty λ dist(π(s), π_ref(s)) with a given λ (PROTO).

    Attributes:
        coefficient: λ
        fade: how λ falls (None: it stays). It does not follow the length of the run: the preset proto's 1,111,111 steps
            reach 0.2 after a million updates; set about 1.1 x env_steps x utd
    """

    type: Literal["fixed"] = "fixed"
    coefficient: Annotated[NotNegative, Traced] = 2.0
    fade: Fade | None = None


Constraint = Annotated[DualConstraint | FixedPenalty, Field(discriminator="type")]


# The learners


@settings
class _Learner:
    """What every learner has.

    Attributes:
        batch_size: B, transitions a critic update
        actor_lr: Adam's learning rate of the actor
        actor_lr_steps: actor updates (those of a frozen actor do not count) over which its learning rate falls to 0 by
            a cosine; 0: constant
        adam_eps: Adam's ε
        max_grad_norm: clip each network's gradient to this global norm; 0: off
        policy_delay: critic updates before each actor update; together they are one round
    """

    batch_size: Count = 256
    actor_lr: Annotated[NotNegative, Traced] = 3e-4
    actor_lr_steps: Annotated[ScheduleOrZero, Traced] = 0
    adam_eps: Positive = 1e-8
    max_grad_norm: NotNegative = 0.0
    policy_delay: Count = 1


@settings
class BCConfig(_Learner):
    """Behaviour cloning.

    Attributes:
        network: the actor
        loss: squared error of the mean action, or the likelihood of a Gaussian
        actor_dropout: probability of dropping a hidden unit of the actor while it learns
    """

    type: Literal["bc"] = "bc"
    network: ActorNetwork = ActorNetwork()
    loss: Literal["mse", "mle"] = "mse"
    actor_dropout: Dropout = 0.0


@settings
class _Critics(_Learner):
    """What learners with critics have.

    Attributes:
        network: actor and critics
        discount: γ
        tau: Polyak factor of the target networks
        critic_lr: Adam's learning rate of critics and value
    """

    network: NetworkConfig = NetworkConfig()
    discount: Annotated[Share, Traced] = 0.99
    tau: Annotated[PositiveShare, Traced] = 0.005
    critic_lr: Annotated[NotNegative, Traced] = 3e-4


@settings
class TD3Config(_Critics):
    """TD3, TD3+BC and TD3-C.

    Attributes:
        target_update: when the critics' targets move (sfujim/TD3: with the actor; Acme: at every critic update)
        target_subset: M, critics whose minimum is the target, redrawn for each batch (REDQ); 0: all
        actor_q: what the actor climbs: the first critic (TD3), the minimum or the mean of all
        target_noise: standard deviation of the target policy's smoothing noise
        noise_clip: that noise is clipped to ± this
        normalize_q: divide Q in the actor's loss by the batch's mean |Q|
        q_weight: weight of Q in the actor's loss (TD3+BC's α is 2.5)
        bc_weight: weight of the squared distance to the batch's actions in the actor's loss (TD3+BC: 1)
        bc_fade: how bc_weight falls (None: it stays)
        constraint: TD3-C's (None: none)
    """

    type: Literal["td3"] = "td3"
    policy_delay: Count = 2
    target_update: Literal["with_actor", "every_step"] = "with_actor"
    target_subset: CountOrZero = 0
    actor_q: Literal["first", "min", "mean"] = "first"
    target_noise: Annotated[NotNegative, Traced] = 0.2
    noise_clip: Annotated[NotNegative, Traced] = 0.5
    normalize_q: Annotated[bool, Traced] = True
    q_weight: Annotated[NotNegative, Traced] = 1.0
    bc_weight: Annotated[NotNegative, Traced] = 0.0
    bc_fade: Fade | None = None
    constraint: Constraint | None = None

    def __post_init__(self) -> None:
        _check_subset(self)
        if self.bc_fade is not None and not self.bc_weight:
            raise fault(self, "bc_weight", "above 0, because {bc_fade} is given")


@settings
class IQLConfig(_Critics):
    """Implicit Q-learning.

    Attributes:
        expectile: τ of the expectile
        temperature: β: weights are exp(β A)
        max_weight: weights are clipped here
        stale_value: targets and advantages by the value before its update (CORL), not after it (the original)
        actor_dropout: probability of dropping a hidden unit of the actor while it learns (Adroit: 0.1)
    """

    type: Literal["iql"] = "iql"
    expectile: Annotated[float, Gt(0), Lt(1), Traced] = 0.7
    temperature: Annotated[NotNegative, Traced] = 3.0
    max_weight: Annotated[Positive, Traced] = 100.0
    stale_value: bool = False
    actor_dropout: Dropout = 0.0


@settings
class CQLConfig:
    """CQL's regulariser, and Cal-QL's.

    Attributes:
        weight: α, of the regulariser
        actions: actions sampled for each of its three terms
        temperature: of its log-sum-exp
        calibrated: Cal-QL: values of the policy's actions in the regulariser are at least the data's returns to go.
            Rows collected online have none, so on these the regulariser is CQL's; keep offline data in the batches (see
            policy_finetune.replay.buffers)
    """

    weight: Annotated[Positive, Traced] = 5.0
    actions: Count = 10
    temperature: Positive = 1.0
    calibrated: bool = False


@settings
class SACConfig(_Critics):
    """Soft actor-critic, and REDQ, RLPD, WSRL, CQL and Cal-QL.

    Attributes:
        target_subset: M, critics whose minimum is the target, redrawn for each batch (REDQ); 0: all
        actor_q: what the actor climbs: the first critic, the minimum of all (SAC) or the mean (REDQ)
        init_alpha: first entropy temperature
        alpha_lr: learning rate of the temperature; 0 keeps it
        target_entropy_scale: the target entropy is -act_dim times this (RLPD and WSRL: 0.5)
        backup_entropy: subtract α log π in the TD target
        cql: CQL's regulariser (None: none)
    """

    type: Literal["sac"] = "sac"
    target_subset: CountOrZero = 0
    actor_q: Literal["first", "min", "mean"] = "min"
    init_alpha: Positive = 1.0
    alpha_lr: Annotated[NotNegative, Traced] = 3e-4
    target_entropy_scale: Annotated[NotNegative, Traced] = 1.0
    backup_entropy: bool = True
    cql: CQLConfig | None = None

    def __post_init__(self) -> None:
        _check_subset(self)


def _check_subset(learner: TD3Config | SACConfig) -> None:
    if learner.target_subset > learner.network.critics:
        raise fault(learner, "target_subset", f"at most {{network.critics}} = {learner.network.critics}")


LearnerConfig = Annotated[BCConfig | TD3Config | IQLConfig | SACConfig, Field(discriminator="type")]

#: Who can learn online: all but behaviour cloning.
OnlineLearner = Annotated[TD3Config | IQLConfig | SACConfig, Field(discriminator="type")]
