"""Configuration: frozen data, checked when it is made. Imports neither jax nor gymnasium.

Numbers that only weigh terms of a loss, or steer sampling, are *data* of the compiled program: agents that differ in
them run side by side in one program (`policy_finetune.weights`). What changes the program itself - networks, the
learner's family, how many updates a round has - is *structure*, and must be the same for all agents of a program.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from math import gcd
from typing import Annotated, Any, Literal

import tyro

from paperloop.checks import (
    FINITE,
    NOT_NEGATIVE,
    ONE_OR_MORE,
    POSITIVE,
    POSITIVE_SHARE,
    SHARE,
    Range,
    at_least,
    check,
)
from paperloop.errors import UserError

__all__ = [
    "ConstraintConfig",
    "DataOptions",
    "GuardConfig",
    "LearnerConfig",
    "LearnerName",
    "NetworkConfig",
    "OfflineAgent",
    "OfflineConfig",
    "OnlineAgent",
    "OnlineConfig",
    "ReplayConfig",
    "SwitchConfig",
]

LearnerName = Literal["bc", "td3", "iql", "sac"]
Distance = Literal["mse", "mse_per_dim", "gauss_kl"]
Reference = Literal["target", "periodic", "offline", "best"]


@dataclass(frozen=True)
class NetworkConfig:
    """Multi-layer perceptrons of actor, critics and value."""

    hidden: tuple[int, ...] = (256, 256)
    """widths of the hidden layers"""
    critics: int = 2
    """N, independent critics"""
    layer_norm: bool = False
    """LayerNorm before the activation in every hidden layer of the critics (RLPD, WSRL)"""
    init: Literal["torch", "orthogonal"] = "torch"
    """torch: uniform in ±1/√fan_in, as torch.nn.Linear; orthogonal: gain √2, biases 0"""
    actor_dropout: float = 0.0
    """probability of dropping a hidden unit of the actor while it learns (IQL on Adroit: 0.1)"""

    def __post_init__(self) -> None:
        check(self, hidden=ONE_OR_MORE, critics=ONE_OR_MORE, actor_dropout=Range(0, 0.99))


@dataclass(frozen=True)
class ConstraintConfig:
    """TD3-C's constraint: E_s[dist(π(s), π_ref(s))] ≤ ε, held by a multiplier λ.

    With a reference that trails the policy, ε and the reference's speed make a *speed limit*: the policy leads by √ε
    and the reference follows with τ√ε an update. With a fixed reference ε limits the whole distance.
    """

    enabled: bool = False
    """hold the constraint"""
    epsilon: float = 2e-4
    """ε, in units of the distance"""
    distance: Distance = "mse"
    """mse: mean over action dimensions of the squared difference; mse_per_dim: one multiplier a dimension;
    gauss_kl: KL of two Gaussians of standard deviation `kl_sigma` around the two actions"""
    kl_sigma: float = 0.2
    """standard deviation for gauss_kl"""
    reference: Reference = "target"
    """target: a Polyak average of the policy; periodic: a copy every `reference_period` actor updates; offline: the
    policy at the switch; best: the actor at the end of the block in which its last `guard.episodes` training episodes
    were the best so far (before that, the policy at the switch)"""
    reference_tau: float | None = None
    """Polyak factor of the reference "target" (None: the learner's tau)"""
    reference_period: int = 100
    """actor updates between copies of the reference "periodic" """
    penalty: Literal["dual", "fixed"] = "dual"
    """dual: λ = softplus(ν) adapts; fixed: λ = `coefficient`, decaying linearly over `decay_steps` (PROTO)"""
    nu0: float = 1.0
    """initial ν; Acme's MPO starts with 10"""
    dual_lr: float = 1e-2
    """learning rate of ν (Adam)"""
    nu_min: float = -18.0
    """ν is kept above this"""
    coefficient: float = 2.0
    """λ of the penalty "fixed" """
    decay_steps: int = 0
    """critic updates over which a fixed λ falls to `coefficient_floor`; 0: constant. It does not follow the length of
    the run: the preset proto's 1,111,111 reach 0.2 after a million updates; set about 1.1 x env_steps x utd"""
    coefficient_floor: float = 0.0
    """where a fixed λ ends"""
    epsilon_final: float | None = None
    """ε grows linearly to this over `epsilon_steps` (None: it stays)"""
    epsilon_steps: int = 0
    """critic updates over which ε grows"""
    penalize_target: bool = False
    """subtract λ times the online actor's distance at the next state from the TD target too (PROTO, OCR-CFT)"""

    def __post_init__(self) -> None:
        check(self, epsilon=POSITIVE, kl_sigma=POSITIVE, reference_tau=POSITIVE_SHARE, reference_period=ONE_OR_MORE)
        check(self, dual_lr=NOT_NEGATIVE, coefficient=NOT_NEGATIVE, coefficient_floor=NOT_NEGATIVE, nu_min=FINITE)
        check(self, decay_steps=NOT_NEGATIVE, epsilon_steps=NOT_NEGATIVE, epsilon_final=POSITIVE)
        check(self, nu0=at_least(self.nu_min, "nu_min"))
        if self.epsilon_final is not None and self.epsilon_steps < 1:
            raise UserError("ConstraintConfig.epsilon_final is set, so epsilon_steps must be at least 1.")


@dataclass(frozen=True)
class LearnerConfig:
    """A learner; the defaults are TD3's. `policy_finetune.presets.LEARNERS` names the usual ones."""

    name: LearnerName = "td3"
    """bc; td3 (with TD3+BC and TD3-C as settings of it); iql; sac (with REDQ, RLPD, WSRL, CQL, Cal-QL)"""
    network: NetworkConfig = field(default_factory=NetworkConfig)
    """actor and critics"""
    batch_size: int = 256
    """B, transitions a critic update"""
    discount: float = 0.99
    """γ"""
    tau: float = 0.005
    """Polyak factor of the target networks"""
    actor_lr: float = 3e-4
    """Adam's learning rate of the actor"""
    critic_lr: float = 3e-4
    """Adam's learning rate of critics and value"""
    adam_eps: float = 1e-8
    """Adam's ε"""
    actor_lr_steps: int = 0
    """actor updates (those of a frozen actor do not count) over which its learning rate falls to 0 by a cosine; 0:
    constant"""
    max_grad_norm: float = 0.0
    """clip each network's gradient to this global norm; 0: off"""
    policy_delay: int = 2
    """critic updates before each actor update; together they are one round"""
    target_update: Literal["with_actor", "every_step"] = "with_actor"
    """when the critics' targets move (sfujim/TD3: with the actor; Acme: at every critic update)"""
    target_subset: int = 0
    """M, critics whose minimum is the target, drawn anew for each batch (REDQ); 0: all"""
    actor_q: Literal["first", "min", "mean"] = "first"
    """what the actor climbs: the first critic (TD3), the minimum (SAC) or the mean (REDQ)"""
    target_noise: float = 0.2
    """standard deviation of the target policy's smoothing noise"""
    noise_clip: float = 0.5
    """that noise is clipped to ± this"""
    normalize_q: bool = True
    """divide Q in the actor's loss by the batch's mean |Q|"""
    q_weight: float = 1.0
    """weight of Q in the actor's loss (TD3+BC's α is 2.5)"""
    bc_weight: float = 0.0
    """weight of the squared distance to the batch's actions in the actor's loss (TD3+BC: 1)"""
    bc_decay_steps: int = 0
    """critic updates over which bc_weight falls linearly to bc_floor x bc_weight; 0: constant"""
    bc_floor: float = 0.0
    """share of bc_weight that stays"""
    constraint: ConstraintConfig = field(default_factory=ConstraintConfig)
    """TD3-C's"""
    expectile: float = 0.7
    """IQL's τ"""
    temperature: float = 3.0
    """IQL's β: weights are exp(β A)"""
    max_weight: float = 100.0
    """IQL's weights are clipped here"""
    stale_value: bool = False
    """IQL: targets and advantages by the value before its update (CORL), not after it (the original)"""
    bc_loss: Literal["mse", "mle"] = "mse"
    """BC: squared error of the mean action, or the likelihood of a Gaussian"""
    init_alpha: float = 1.0
    """SAC's first entropy temperature"""
    alpha_lr: float = 3e-4
    """learning rate of the temperature; 0 keeps it"""
    target_entropy_scale: float = 1.0
    """SAC's target entropy is -act_dim times this (RLPD and WSRL: 0.5)"""
    backup_entropy: bool = True
    """subtract α log π in the TD target"""
    cql_alpha: float = 0.0
    """weight of CQL's regulariser; 0: off"""
    cql_actions: int = 10
    """actions sampled for each of CQL's three terms"""
    cql_temperature: float = 1.0
    """temperature of CQL's log-sum-exp"""
    calibrated: bool = False
    """Cal-QL: values of the policy's actions in the regulariser are at least the data's returns to go. Rows collected
    online have none, so on these the regulariser is CQL's; keep offline data in the batches (see
    policy_finetune.replay)"""

    def __post_init__(self) -> None:
        check(self, batch_size=ONE_OR_MORE, discount=SHARE, tau=POSITIVE_SHARE, actor_lr=NOT_NEGATIVE)
        check(self, critic_lr=NOT_NEGATIVE, adam_eps=POSITIVE, actor_lr_steps=NOT_NEGATIVE, max_grad_norm=NOT_NEGATIVE)
        check(self, policy_delay=ONE_OR_MORE, target_subset=Range(0, self.network.critics, note="network.critics"))
        check(self, target_noise=NOT_NEGATIVE, noise_clip=NOT_NEGATIVE, q_weight=NOT_NEGATIVE, bc_weight=NOT_NEGATIVE)
        check(self, bc_decay_steps=NOT_NEGATIVE, bc_floor=SHARE)
        check(self, expectile=Range(0, 1, open_low=True, open_high=True), temperature=NOT_NEGATIVE, max_weight=POSITIVE)
        check(self, init_alpha=POSITIVE, alpha_lr=NOT_NEGATIVE, target_entropy_scale=NOT_NEGATIVE)
        check(self, cql_alpha=NOT_NEGATIVE, cql_actions=ONE_OR_MORE, cql_temperature=POSITIVE)
        if self.constraint.enabled and self.name != "td3":
            raise UserError(f"LearnerConfig.constraint belongs to td3, but name is {self.name!r}: disable it.")
        if self.name != "sac" and (self.cql_alpha or self.calibrated):
            raise UserError(f"LearnerConfig.cql_alpha and calibrated belong to sac, but name is {self.name!r}.")
        if self.calibrated and not self.cql_alpha:
            raise UserError("LearnerConfig.calibrated needs cql_alpha greater than 0 (Cal-QL: 5).")


def _default(text: str) -> Any:
    """Say in the help what None comes to."""
    return tyro.conf.arg(help_behavior_hint=f"(default: {text})")


@dataclass(frozen=True)
class DataOptions:
    """How dataset files are read. Online None means: as the pre-trained run read them."""

    semantics: Annotated[Literal["exact", "d4rl"] | None, _default("exact")] = None
    """exact: every step, with its stored next observation; d4rl: next observation = next row, and the
    last step of an episode is left out unless it is terminal, as D4RL's qlearning_dataset does"""
    actions: Annotated[Literal["env", "canonical"] | None, _default("env")] = None
    """units of the file's actions: the environment's own, or canonical, in [-1, 1]"""
    out_of_bounds: Annotated[Literal["clip", "error"] | None, _default("clip")] = None
    """what to do with actions outside the bounds: clip, or error"""
    drop_nonfinite: Annotated[bool | None, _default("no")] = None
    """leave out episodes with NaN or infinity instead of refusing the file"""
    time_limits: Annotated[bool | None, _default("yes")] = None
    """take ends at the environment's time limit that the file calls terminated for truncated"""
    episode_ends: Annotated[
        Literal["auto", "flags", "timeouts", "steps", "goal", "mismatch"] | None, _default("auto")
    ] = None
    """what ends an episode in a D4RL file (see paperloop_data.read_d4rl)"""
    observation_keys: Annotated[tuple[str, ...] | None, _default("none")] = None
    """the parts of observations to join to one vector, in this order, where the environment or a Minari dataset has
    observations made of parts: observation desired_goal"""

    def __post_init__(self) -> None:
        check(self)

    def over(self, before: DataOptions) -> DataOptions:
        """Return these options, with those of an earlier phase where these are None."""
        mine = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(before, **{name: value for name, value in mine.items() if value is not None})


@dataclass(frozen=True)
class OfflineAgent:
    """One agent of a program that trains several on datasets."""

    label: str = ""
    """the arm it belongs to, for tables"""
    learner: LearnerConfig = field(default_factory=LearnerConfig)
    """who learns; agents of one program differ only in what is data (`policy_finetune.weights`)"""
    dataset: int = 0
    """index of its dataset"""
    seed: int = 0
    """its randomness, together with the run's seed"""
    top_fraction: float = 1.0
    """learn from the best episodes only"""


@dataclass(frozen=True)
class OfflineConfig:
    """Learning from a dataset alone."""

    learner: LearnerConfig = field(default_factory=LearnerConfig)
    """who learns"""
    data: tuple[str, ...] = ()
    """dataset files or folders, each with agents of its own (the command line's)"""
    loading: DataOptions = field(default_factory=DataOptions)
    """how they are read"""
    env_id: str = ""
    """gymnasium's name of the environment that evaluates; empty: the dataset's own"""
    updates: int = 1_000_000
    """critic updates in all; a multiple of `updates_per_step`"""
    updates_per_step: int = 1000
    """critic updates a dispatch"""
    seeds: int = 1
    """agents that learn side by side on each dataset"""
    agents: Annotated[tuple[OfflineAgent, ...], tyro.conf.Suppress] = ()
    """the agents one by one, where they differ in more than seed and dataset; empty: as `seeds` and the datasets say"""
    normalize_observations: bool = True
    """standardise observations by the dataset's mean and standard deviation (+ 1e-3), for good"""
    top_fraction: float = 1.0
    """learn from the best episodes only (10 % BC: 0.1)"""
    reward_scale: float = 1.0
    """rewards are multiplied by this ..."""
    reward_bias: float = 0.0
    """... and this is added"""
    normalize_rewards: bool = False
    """scale rewards by 1000 / (best - worst episode return) first, as IQL does for locomotion"""
    initial_value: Literal["zero", "mean"] = "zero"
    """where critics and value begin: near zero, as networks do, or at the data's mean discounted return to go. What is
    optimal stays as it is; but where rewards are large and vary little, such as labels that are all positive, a short
    run is busy with learning their mean"""
    eval_episodes: int = 10
    """episodes an evaluation"""
    devices: int = 1
    """agents are spread over so many devices (CPU: virtual ones, one a core)"""

    def __post_init__(self) -> None:
        check(self, updates=ONE_OR_MORE, updates_per_step=ONE_OR_MORE, seeds=ONE_OR_MORE, top_fraction=POSITIVE_SHARE)
        check(self, reward_scale=POSITIVE, reward_bias=FINITE, eval_episodes=ONE_OR_MORE, devices=ONE_OR_MORE)
        delay = self.structure.policy_delay
        if self.updates_per_step % delay:
            raise UserError(
                f"OfflineConfig.updates_per_step is {self.updates_per_step}; it must be a multiple of "
                f"learner.policy_delay = {delay}."
            )
        if self.updates % self.updates_per_step:
            fitting = gcd(self.updates, self.updates_per_step)
            raise UserError(
                f"OfflineConfig.updates is {self.updates}; it must be a multiple of updates_per_step = "
                f"{self.updates_per_step}: change it"
                + (f", or set updates_per_step to {fitting}." if fitting % delay == 0 else ".")
            )
        for learner in [agent.learner for agent in self.agents] or [self.learner]:
            reference = learner.constraint.reference
            if learner.constraint.enabled and reference in ("offline", "best"):
                raise UserError(
                    f"learner.constraint.reference is {reference!r}, which offline would stay the untrained policy for "
                    "good: choose target or periodic."
                )

    @property
    def structure(self) -> LearnerConfig:
        """The learner whose structure the program has: the first agent's, where agents are named one by one."""
        return self.agents[0].learner if self.agents else self.learner

    @property
    def num_steps(self) -> int:
        """Dispatches that `updates` take."""
        return self.updates // self.updates_per_step


@dataclass(frozen=True)
class ReplayConfig:
    """What a batch holds once the agent acts in the environment.

    | kind | batch |
    |---|---|
    | append | uniform over offline and online data together |
    | drop | online data only |
    | symmetric | a fixed share `rho` is offline (RLPD: 0.5) |
    | decay | the share falls linearly from `rho` to `rho_final` over `decay_steps` critic updates |
    | balanced | offline data by its density ratio to the online data (Lee et al. 2021, arXiv 2107.00591) |
    """

    kind: Literal["append", "drop", "symmetric", "decay", "balanced"] = "append"
    """see the table"""
    rho: float = 0.5
    """share of offline data of symmetric, first one of decay and balanced"""
    rho_final: float = 0.0
    """where decay ends"""
    decay_steps: int = 50_000
    """critic updates that decay takes"""
    top_fraction: float = 1.0
    """keep only the best episodes of the offline data"""
    capacity: int = 1_000_000
    """online transitions kept, oldest out first"""
    temperature: float = 5.0
    """T of balanced: priorities are w^(1/T), normalised"""
    ratio_lr: float = 3e-4
    """learning rate of balanced's density-ratio network"""

    def __post_init__(self) -> None:
        check(self, rho=SHARE, rho_final=SHARE, decay_steps=ONE_OR_MORE, top_fraction=POSITIVE_SHARE)
        check(self, capacity=ONE_OR_MORE, temperature=POSITIVE, ratio_lr=POSITIVE)


@dataclass(frozen=True)
class SwitchConfig:
    """What happens between the offline and the online phase."""

    warmup_env_steps: int = 1000
    """environment steps with the frozen policy before the first update (WSRL: 5000)"""
    critic_warmup: int = 0
    """critic updates after that before the actor moves"""
    reset_optimizer: Literal["none", "actor", "critic", "all"] = "none"
    """start these optimisers' moments anew"""
    critic_reinit: bool = False
    """forget the critics"""
    allow_new: bool = False
    """let an actor or critic start anew where the pre-trained one has another shape, instead of refusing it"""

    def __post_init__(self) -> None:
        check(self, warmup_env_steps=NOT_NEGATIVE, critic_warmup=NOT_NEGATIVE)


@dataclass(frozen=True)
class OnlineAgent:
    """One agent of a program that fine-tunes several."""

    label: str = ""
    """the arm it belongs to, for tables"""
    learner: LearnerConfig = field(default_factory=LearnerConfig)
    """who learns; agents of one program differ only in what is data (`policy_finetune.weights`)"""
    replay: ReplayConfig = field(default_factory=ReplayConfig)
    """what its batches hold"""
    switch: SwitchConfig = field(default_factory=SwitchConfig)
    """how it starts; the warm-up in environment steps is the same for all"""
    start: int = 0
    """index of the pre-trained agent that it goes out from"""
    seed: int = 0
    """its randomness, together with the run's seed"""


@dataclass(frozen=True)
class GuardConfig:
    """Watches training returns, and brings the policy back when it collapses."""

    enabled: bool = False
    """watch"""
    episodes: int = 10
    """finished episodes whose mean return is compared"""
    drop: float = 0.5
    """collapse: the mean falls by this share of (start - random) below the start"""
    nu_boost: float = 2.0
    """added to ν at each return, where there is a constraint"""
    max_returns: int = 10
    """give up after so many"""

    def __post_init__(self) -> None:
        check(self, episodes=ONE_OR_MORE, drop=POSITIVE, nu_boost=NOT_NEGATIVE, max_returns=ONE_OR_MORE)


@dataclass(frozen=True)
class OnlineConfig:
    """Learning in the environment: from a pre-trained agent (fine-tuning), or from scratch."""

    env_id: str = ""
    """gymnasium's name; empty: the pre-trained run's"""
    learner: LearnerConfig = field(default_factory=LearnerConfig)
    """who learns online"""
    replay: ReplayConfig = field(default_factory=ReplayConfig)
    """what its batches hold"""
    switch: SwitchConfig = field(default_factory=SwitchConfig)
    """how it starts"""
    guard: GuardConfig = field(default_factory=GuardConfig)
    """collapse detector"""
    start: str = ""
    """run folder of the pre-trained agents (the command line's); empty: from scratch"""
    data: tuple[str, ...] = ()
    """offline datasets (the command line's); empty: the pre-trained run's, and none from scratch"""
    loading: DataOptions = field(default_factory=DataOptions)
    """how they are read"""
    env_steps: int = 250_000
    """environment steps an agent"""
    block: int = 50
    """K, environment steps between updates; 1 is exact interleaving"""
    utd: float = 1.0
    """critic updates an environment step"""
    envs: Literal["gymnasium", "envpool"] = "gymnasium"
    """who steps the environments; envpool is faster from about eight agents on, and its runs go on in new episodes"""
    overlap: bool = False
    """act with the policy of the block before, while the device still learns from it"""
    exploration_noise: float = 0.1
    """standard deviation of the Gaussian noise on the actions of deterministic policies, and of IQL's, which acts by
    its mean; SAC samples its own"""
    random_env_steps: int | None = None
    """first steps with uniform actions; None: 0, but `train` takes 10,000 (or switch.warmup_env_steps, where a preset
    such as rlpd sets it: 5000)"""
    seeds: int = 1
    """agents that learn side by side from each pre-trained agent"""
    agents: Annotated[tuple[OnlineAgent, ...], tyro.conf.Suppress] = ()
    """the agents one by one, where they differ in more than seed and start; empty: as `seeds` says"""
    eval_episodes: int = 10
    """episodes an evaluation"""
    eval_env_steps: int = 5000
    """environment steps between evaluations; soon after the first update they are denser, because collapse is early"""
    reward_scale: float = 1.0
    """rewards are multiplied by this ..."""
    reward_bias: float = 0.0
    """... and this is added"""
    devices: int = 1
    """agents are spread over so many devices"""

    def __post_init__(self) -> None:
        check(self, env_steps=ONE_OR_MORE, block=ONE_OR_MORE, utd=POSITIVE, exploration_noise=NOT_NEGATIVE)
        check(self, random_env_steps=NOT_NEGATIVE, seeds=ONE_OR_MORE, eval_episodes=ONE_OR_MORE)
        check(self, eval_env_steps=ONE_OR_MORE, reward_scale=POSITIVE, reward_bias=FINITE, devices=ONE_OR_MORE)
        rounds = self.block * self.utd / self.structure.policy_delay
        if abs(rounds - round(rounds)) > 1e-9 or rounds < 1:
            raise UserError(
                f"OnlineConfig: block x utd = {self.block} x {self.utd:g} critic updates are no whole number of rounds "
                f"of learner.policy_delay = {self.structure.policy_delay}: change block or utd."
            )
        for name, value in (
            ("switch.warmup_env_steps", self.warmup_env_steps), ("random_env_steps", self.random_steps)
        ):  # fmt: skip
            if value % self.block:
                raise UserError(f"OnlineConfig.{name} is {value}; it must be a multiple of block = {self.block}.")
        if self.env_steps <= self.first_update:
            raise UserError(
                f"OnlineConfig.env_steps is {self.env_steps}, but the first {self.first_update} steps have no updates "
                f"(switch.warmup_env_steps {self.warmup_env_steps}, random_env_steps {self.random_steps}): no update "
                "would be made; raise env_steps, or lower these."
            )
        updates = (
            self.rounds_per_block * self.structure.policy_delay * (self.num_steps - self.first_update // self.block)
        )
        held = max(switch.critic_warmup for switch in [agent.switch for agent in self.agents] or [self.switch])
        if held >= updates:
            raise UserError(
                f"OnlineConfig.switch.critic_warmup is {held}, but env_steps {self.env_steps} make {updates} critic "
                "updates: the actor would never move; raise env_steps, or lower it."
            )
        if any(learner.name == "bc" for learner in [agent.learner for agent in self.agents] or [self.learner]):
            raise UserError("OnlineConfig.learner is bc, which learns from data alone: choose another one online.")
        kinds = [agent.replay.kind for agent in self.agents] or [self.replay.kind]
        if "drop" in kinds:
            self.check_first_batch()

    def check_first_batch(self) -> None:
        """Refuse a first batch from fewer online transitions than it has elements, where there is nothing else.

        Raises:
            UserError: the warm-up is too short for the batch.
        """
        batch, rows = self.structure.batch_size, self.first_update + self.block
        if rows < batch:
            raise UserError(
                f"OnlineConfig: the first batch of {batch} would be drawn from {rows} online transitions alone: raise "
                "switch.warmup_env_steps or random_env_steps, or lower learner.batch_size."
            )

    @property
    def structure(self) -> LearnerConfig:
        """The learner whose structure the program has: the first agent's, where agents are named one by one."""
        return self.agents[0].learner if self.agents else self.learner

    @property
    def warmup_env_steps(self) -> int:
        """Environment steps with the frozen policy, the same for all agents."""
        return (self.agents[0].switch if self.agents else self.switch).warmup_env_steps

    @property
    def first_update(self) -> int:
        """Environment steps before the block that ends with the first update."""
        return max(self.warmup_env_steps, self.random_steps)

    @property
    def random_steps(self) -> int:
        """First environment steps with uniform actions; 0 where `random_env_steps` is None."""
        return self.random_env_steps or 0

    @property
    def num_steps(self) -> int:
        """Dispatches (blocks) that `env_steps` take."""
        return -(-self.env_steps // self.block)

    @property
    def rounds_per_block(self) -> int:
        """Rounds of `policy_delay` critic updates and one actor update in a block."""
        return round(self.block * self.utd / self.structure.policy_delay)
