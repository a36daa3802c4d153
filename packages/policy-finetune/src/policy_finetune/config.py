"""Configuration: frozen data, checked when it is made. Imports neither jax nor gymnasium.

Numbers that only weigh terms of a loss, or steer sampling, are *data* of the compiled program: agents that differ in
them run side by side in one program (`policy_finetune.agents.weights`). What changes the program itself - networks, the
learner's family, how many updates a round has - is *structure*, and must be the same for all agents of a program.
"""

from __future__ import annotations

from dataclasses import fields, replace
from math import gcd
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
    Seed,
    Share,
    fault,
    settings,
)

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


@settings
class DataOptions:
    """How dataset files are read. Online None means: as the pre-trained run read them.

    Attributes:
        semantics: exact: every step, with its stored next observation; d4rl: next observation = next row, and the last
            step of an episode is left out unless it is terminal, as D4RL's qlearning_dataset does (None: exact)
        actions: units of the file's actions: the environment's own, or canonical, in [-1, 1] (None: env)
        out_of_bounds: what to do with actions outside the bounds: clip, or error (None: clip)
        drop_nonfinite: leave out episodes with NaN or infinity instead of refusing the file (None: no)
        time_limits: take ends at the environment's time limit that the file calls terminated for truncated (None: yes)
        episode_ends: what ends an episode in a D4RL file (see paperloop_data.read_d4rl) (None: auto)
        observation_keys: the parts of observations to join to one vector, in this order, where the environment or a
            Minari dataset has observations made of parts: observation desired_goal
    """

    semantics: Literal["exact", "d4rl"] | None = None
    actions: Literal["env", "canonical"] | None = None
    out_of_bounds: Literal["clip", "error"] | None = None
    drop_nonfinite: bool | None = None
    time_limits: bool | None = None
    episode_ends: Literal["auto", "flags", "timeouts", "steps", "goal", "mismatch"] | None = None
    observation_keys: tuple[str, ...] | None = None

    def over(self, before: DataOptions) -> DataOptions:
        """Return these options, with those of an earlier phase where these are None."""
        mine = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(before, **{name: value for name, value in mine.items() if value is not None})


@settings
class OfflineAgent:
    """One agent of a program that trains several on datasets.

    Attributes:
        label: the arm it belongs to, for tables
        learner: who learns; agents of one program differ only in what is data (`policy_finetune.agents.weights`)
        dataset: index of its dataset
        seed: its randomness, together with the run's seed
        top_fraction: learn from the best episodes only
    """

    label: str = ""
    learner: LearnerConfig = LearnerConfig()
    dataset: CountOrZero = 0
    seed: Seed = 0
    top_fraction: PositiveShare = 1.0


@settings
class OfflineConfig:
    """Learning from a dataset alone.

    Attributes:
        learner: who learns
        data: dataset files or folders, each with agents of its own (the command line's)
        loading: how they are read
        env_id: gymnasium's name of the environment that evaluates; empty: the dataset's own
        updates: critic updates in all; a multiple of `updates_per_step`
        updates_per_step: critic updates a dispatch
        seeds: agents that learn side by side on each dataset
        agents: the agents one by one, where they differ in more than seed and dataset; empty: as `seeds` and the
            datasets say
        normalize_observations: standardise observations by the dataset's mean and standard deviation (+ 1e-3), for good
        top_fraction: learn from the best episodes only (10 % BC: 0.1)
        reward_scale: rewards are multiplied by this ...
        reward_bias: ... and this is added
        normalize_rewards: scale rewards by 1000 / (best - worst episode return) first, as IQL does for locomotion
        initial_value: where critics and value begin: near zero, as networks do, or at the data's mean discounted return
            to go. What is optimal stays as it is; but where rewards are large and vary little, such as labels that are
            all positive, a short run is busy with learning their mean
        eval_episodes: episodes an evaluation
        devices: agents are spread over so many devices (CPU: virtual ones, one a core)
    """

    learner: LearnerConfig = LearnerConfig()
    data: tuple[str, ...] = ()
    loading: DataOptions = DataOptions()
    env_id: str = ""
    updates: Count = 1_000_000
    updates_per_step: Count = 1000
    seeds: Count = 1
    agents: tuple[OfflineAgent, ...] = ()
    normalize_observations: bool = True
    top_fraction: PositiveShare = 1.0
    reward_scale: Positive = 1.0
    reward_bias: float = 0.0
    normalize_rewards: bool = False
    initial_value: Literal["zero", "mean"] = "zero"
    eval_episodes: Count = 10
    devices: Count = 1

    def __post_init__(self) -> None:
        delay = self.structure.policy_delay
        if self.updates_per_step % delay:
            raise fault(self, "updates_per_step", f"a multiple of {{learner.policy_delay}} = {delay}")
        if self.updates % self.updates_per_step:
            fitting = gcd(self.updates, self.updates_per_step)
            other = f", or set {{updates_per_step}} to {fitting}" if fitting % delay == 0 else ""
            raise fault(
                self, "updates",
                f"a multiple of {{updates_per_step}} = {self.updates_per_step}: change it{other}",
            )  # fmt: skip
        for learner in [agent.learner for agent in self.agents] or [self.learner]:
            reference = learner.constraint.reference
            if learner.constraint.enabled and reference in ("offline", "best"):
                raise fault(
                    self, "learner.constraint.reference", text=f"{{learner.constraint.reference}} is {reference}, "
                    "which offline would stay the untrained policy for good: choose target or periodic.",
                )  # fmt: skip

    @property
    def structure(self) -> LearnerConfig:
        """The learner whose structure the program has: the first agent's, where agents are named one by one."""
        return self.agents[0].learner if self.agents else self.learner

    @property
    def num_steps(self) -> int:
        """Dispatches that `updates` take."""
        return self.updates // self.updates_per_step


@settings
class ReplayConfig:
    """What a batch holds once the agent acts in the environment.

    | kind | batch |
    |---|---|
    | append | uniform over offline and online data together |
    | drop | online data only |
    | symmetric | a fixed share `rho` is offline (RLPD: 0.5) |
    | decay | the share falls linearly from `rho` to `rho_final` over `decay_steps` critic updates |
    | balanced | offline data by its density ratio to the online data (Lee et al. 2021, arXiv 2107.00591) |

    Attributes:
        kind: see the table
        rho: share of offline data of symmetric, first one of decay and balanced
        rho_final: where decay ends
        decay_steps: critic updates that decay takes
        top_fraction: keep only the best episodes of the offline data
        capacity: online transitions kept, oldest out first
        temperature: T of balanced: priorities are w^(1/T), normalised
        ratio_lr: learning rate of balanced's density-ratio network
    """

    kind: Literal["append", "drop", "symmetric", "decay", "balanced"] = "append"
    rho: Share = 0.5
    rho_final: Share = 0.0
    decay_steps: Schedule = 50_000
    top_fraction: PositiveShare = 1.0
    capacity: Count = 1_000_000
    temperature: Positive = 5.0
    ratio_lr: Positive = 3e-4


@settings
class SwitchConfig:
    """What happens between the offline and the online phase.

    Attributes:
        warmup_env_steps: environment steps with the frozen policy before the first update (WSRL: 5000)
        critic_warmup: critic updates after that before the actor moves
        reset_optimizer: reset these optimisers' moments
        critic_reinit: forget the critics
        allow_new: let an actor or critic start from scratch where the pre-trained one has another shape, instead of
            refusing it
    """

    warmup_env_steps: CountOrZero = 1000
    critic_warmup: ScheduleOrZero = 0
    reset_optimizer: Literal["none", "actor", "critic", "all"] = "none"
    critic_reinit: bool = False
    allow_new: bool = False


@settings
class OnlineAgent:
    """One agent of a program that fine-tunes several.

    Attributes:
        label: the arm it belongs to, for tables
        learner: who learns; agents of one program differ only in what is data (`policy_finetune.agents.weights`)
        replay: what its batches hold
        switch: how it starts; the warm-up in environment steps is the same for all
        start: index of the pre-trained agent that it goes out from
        seed: its randomness, together with the run's seed
    """

    label: str = ""
    learner: LearnerConfig = LearnerConfig()
    replay: ReplayConfig = ReplayConfig()
    switch: SwitchConfig = SwitchConfig()
    start: CountOrZero = 0
    seed: Seed = 0


@settings
class GuardConfig:
    """Watches training returns, and brings the policy back when it collapses.

    Attributes:
        enabled: watch
        episodes: finished episodes whose mean return is compared
        drop: collapse: the mean falls by this share of (start - random) below the start
        nu_boost: added to ν at each return, where there is a constraint
        max_returns: give up after so many
    """

    enabled: bool = False
    episodes: Count = 10
    drop: Positive = 0.5
    nu_boost: NotNegative = 2.0
    max_returns: Count = 10


@settings
class OnlineConfig:
    """Learning in the environment: from a pre-trained agent (fine-tuning), or from scratch.

    Attributes:
        env_id: gymnasium's name; empty: the pre-trained run's
        learner: who learns online
        replay: what its batches hold
        switch: how it starts
        guard: collapse detector
        start: run folder of the pre-trained agents (the command line's); empty: from scratch
        data: offline datasets (the command line's); empty: the pre-trained run's, and none from scratch
        loading: how they are read
        env_steps: environment steps an agent
        block: K, environment steps between updates; 1 is exact interleaving
        utd: critic updates an environment step
        envs: who steps the environments; envpool is faster from about eight agents on, and its runs continue in new
            episodes
        overlap: act with the policy of the block before, while the device still learns from it
        exploration_noise: standard deviation of the Gaussian noise on the actions of deterministic policies, and of
            IQL's, which acts by its mean; SAC samples its own
        random_env_steps: first steps with uniform actions; None: 0, but `train` takes 10,000 (or
            switch.warmup_env_steps, where a preset such as rlpd sets it: 5000)
        seeds: agents that learn side by side from each pre-trained agent
        agents: the agents one by one, where they differ in more than seed and start; empty: as `seeds` says
        eval_episodes: episodes an evaluation
        eval_env_steps: environment steps between evaluations; soon after the first update they are denser, because
            collapse is early
        reward_scale: rewards are multiplied by this ...
        reward_bias: ... and this is added
        devices: agents are spread over so many devices
    """

    env_id: str = ""
    learner: LearnerConfig = LearnerConfig()
    replay: ReplayConfig = ReplayConfig()
    switch: SwitchConfig = SwitchConfig()
    guard: GuardConfig = GuardConfig()
    start: str = ""
    data: tuple[str, ...] = ()
    loading: DataOptions = DataOptions()
    env_steps: Count = 250_000
    block: Count = 50
    utd: Positive = 1.0
    envs: Literal["gymnasium", "envpool"] = "gymnasium"
    overlap: bool = False
    exploration_noise: NotNegative = 0.1
    random_env_steps: CountOrZero | None = None
    seeds: Count = 1
    agents: tuple[OnlineAgent, ...] = ()
    eval_episodes: Count = 10
    eval_env_steps: Count = 5000
    reward_scale: Positive = 1.0
    reward_bias: float = 0.0
    devices: Count = 1

    def __post_init__(self) -> None:
        delay = self.structure.policy_delay
        rounds = self.block * self.utd / delay
        if abs(rounds - round(rounds)) > 1e-9 or rounds < 1:
            raise fault(
                self, "block", f"such that block x utd = {self.block} x {self.utd:g} critic updates are whole rounds "
                f"of {{learner.policy_delay}} = {delay}: change it, or {{utd}}",
            )  # fmt: skip
        for name, value in (
            ("switch.warmup_env_steps", self.warmup_env_steps), ("random_env_steps", self.random_steps)
        ):  # fmt: skip
            if value % self.block:
                raise fault(
                    self, name, text=f"{{{name}}} is {value}; it must be a multiple of {{block}} = {self.block}."
                )
        if self.env_steps <= self.first_update:
            raise fault(
                self, "env_steps", f"above {self.first_update}, because the first {self.first_update} steps have no "
                f"updates ({{switch.warmup_env_steps}} {self.warmup_env_steps}, {{random_env_steps}} "
                f"{self.random_steps}): raise it, or lower these",
            )  # fmt: skip
        updates = self.rounds_per_block * delay * (self.num_steps - self.first_update // self.block)
        held = max(switch.critic_warmup for switch in [agent.switch for agent in self.agents] or [self.switch])
        if held >= updates:
            raise fault(
                self, "switch.critic_warmup", text=f"{{switch.critic_warmup}} is {held}, but {{env_steps}} "
                f"{self.env_steps} makes {updates} critic updates: the actor would never move; raise {{env_steps}}, or "
                "lower it.",
            )  # fmt: skip
        if any(learner.name == "bc" for learner in [agent.learner for agent in self.agents] or [self.learner]):
            raise fault(
                self, "learner.name", text="{learner.name} is bc, which learns from data alone: choose another online."
            )
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
            raise fault(
                self, "learner.batch_size", text=f"The first batch of {batch} would be drawn from {rows} online "
                "transitions alone: raise {switch.warmup_env_steps} or {random_env_steps}, or lower "
                "{learner.batch_size}.",
            )  # fmt: skip

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
