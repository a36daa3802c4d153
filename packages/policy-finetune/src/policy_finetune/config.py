"""Configuration: frozen data, checked when it is made. Imports neither jax nor gymnasium.

Numbers that only weigh terms of a loss, or steer sampling, are *data* of the compiled program: agents that differ in
them run side by side in one program (`policy_finetune.agents.structure`). What changes the program itself - networks,
the learner's family, how many updates a round has - is *structure*, and must be the same for all agents of a program.
"""

from __future__ import annotations

from typing import Literal

from paperloop.settings import Count, CountOrZero, NotNegative, Positive, PositiveShare, Seed, fault, settings
from policy_finetune.settings.learners import (
    ActorNetwork,
    BCConfig,
    Best,
    Constraint,
    CQLConfig,
    DualConstraint,
    Fade,
    FixedPenalty,
    Growth,
    IQLConfig,
    LearnerConfig,
    NetworkConfig,
    Offline,
    OnlineLearner,
    Periodic,
    SACConfig,
    Target,
    TD3Config,
)
from policy_finetune.settings.phases import (
    AppendReplay,
    BalancedReplay,
    DataOptions,
    DecayReplay,
    DropReplay,
    GuardConfig,
    ReplayConfig,
    SwitchConfig,
    SymmetricReplay,
)

__all__ = [
    "SCHEMA", "ActorNetwork", "AppendReplay", "BCConfig", "BalancedReplay", "Best", "CQLConfig", "Constraint",
    "DataOptions", "DecayReplay", "DropReplay", "DualConstraint", "Fade", "FixedPenalty", "Growth", "GuardConfig",
    "IQLConfig", "LearnerConfig", "NetworkConfig", "Offline", "OfflineAgent", "OfflineConfig", "OnlineAgent",
    "OnlineConfig", "OnlineLearner", "Periodic", "ReplayConfig", "SACConfig", "SwitchConfig", "SymmetricReplay",
    "TD3Config", "Target",
]  # fmt: skip

#: Of saved configurations: raised when a field changes its meaning, so that older files are refused.
SCHEMA = 2


@settings
class OfflineAgent:
    """One agent of a program that trains several on datasets.

    Attributes:
        label: the arm it belongs to, for tables
        learner: who learns; agents of one program differ only in what is data (`Traced`)
        dataset: index of its dataset
        seed: its randomness, together with the run's seed
        top_fraction: learn from the best episodes only
    """

    label: str = ""
    learner: LearnerConfig = TD3Config()
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
        updates: critic updates in all, rounded up to whole dispatches of `updates_per_step`
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

    learner: LearnerConfig = TD3Config()
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
        for learner in [agent.learner for agent in self.agents] or [self.learner]:
            limit = learner.constraint if isinstance(learner, TD3Config) else None
            if limit is not None and isinstance(limit.reference, Offline | Best):
                raise fault(
                    self, "learner.constraint.reference.type", text=f"{{learner.constraint.reference.type}} is "
                    f"{limit.reference.type}, which offline would stay the untrained policy for good: choose target or "
                    "periodic.",
                )  # fmt: skip

    @property
    def structure(self) -> LearnerConfig:
        """The learner whose structure the program has: the first agent's, where agents are named one by one."""
        return self.agents[0].learner if self.agents else self.learner

    @property
    def num_steps(self) -> int:
        """Dispatches that `updates` take, the last of them whole."""
        return -(-self.updates // self.updates_per_step)


@settings
class OnlineAgent:
    """One agent of a program that fine-tunes several.

    Attributes:
        label: the arm it belongs to, for tables
        learner: who learns; agents of one program differ only in what is data (`Traced`)
        replay: what its batches hold
        switch: how it starts; the warm-up in environment steps is the same for all
        start: index of the pre-trained agent that it goes out from
        seed: its randomness, together with the run's seed
    """

    label: str = ""
    learner: OnlineLearner = TD3Config()
    replay: ReplayConfig = AppendReplay()
    switch: SwitchConfig = SwitchConfig()
    start: CountOrZero = 0
    seed: Seed = 0


@settings
class OnlineConfig:
    """Learning in the environment: from a pre-trained agent (fine-tuning), or from scratch.

    Attributes:
        env_id: gymnasium's name; empty: the pre-trained run's
        learner: who learns online
        replay: what its batches hold
        switch: how it starts
        guard: collapse detector (None: none)
        start: run folder of the pre-trained agents (the command line's); empty: from scratch
        data: offline datasets (the command line's); empty: the pre-trained run's, and none from scratch
        loading: how they are read
        env_steps: environment steps an agent
        block: K, environment steps between updates; 1 is exact interleaving
        utd: critic updates an environment step
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
    learner: OnlineLearner = TD3Config()
    replay: ReplayConfig = AppendReplay()
    switch: SwitchConfig = SwitchConfig()
    guard: GuardConfig | None = None
    start: str = ""
    data: tuple[str, ...] = ()
    loading: DataOptions = DataOptions()
    env_steps: Count = 250_000
    block: Count = 50
    utd: Positive = 1.0
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
        if any(isinstance(replay, DropReplay) for replay in [agent.replay for agent in self.agents] or [self.replay]):
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
    def structure(self) -> OnlineLearner:
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
