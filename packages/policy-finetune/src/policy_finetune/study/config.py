"""What a study runs: {dataset} x {pre-trainer} x {online learner} x {replay} x {constraint} over seeds."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any, Literal

from paperloop.errors import UserError
from paperloop.settings import Count, CountOrZero, Positive, fault, settings
from policy_finetune.agents.structure import constraint_form, structure_of
from policy_finetune.config import (
    AppendReplay,
    BalancedReplay,
    BCConfig,
    DataOptions,
    DecayReplay,
    DropReplay,
    DualConstraint,
    LearnerConfig,
    OfflineAgent,
    OfflineConfig,
    OnlineAgent,
    OnlineConfig,
    OnlineLearner,
    ReplayConfig,
    SACConfig,
    SwitchConfig,
    SymmetricReplay,
    TD3Config,
)
from policy_finetune.presets import learner, offline_presets, online_presets

#: Replay policies by name.
REPLAYS: dict[str, Any] = {
    "append": AppendReplay, "drop": DropReplay, "symmetric": SymmetricReplay, "decay": DecayReplay,
    "balanced": BalancedReplay,
}  # fmt: skip

__all__ = ["StudyArm", "StudyConfig", "offline_runs", "online_runs"]


@settings
class StudyArm:
    """One way of fine-tuning.

    Attributes:
        label: its name in tables and figures
        learner: who learns online
        replay: what its batches hold
        switch: how it starts; None: as the study says
        utd: critic updates an environment step
        block: environment steps between updates; None: as the study says
        datasets: only on these datasets, by index; empty: on all
    """

    label: str
    learner: OnlineLearner = TD3Config()
    replay: ReplayConfig = AppendReplay()
    switch: SwitchConfig | None = None
    utd: Positive = 1.0
    block: Count | None = None
    datasets: tuple[CountOrZero, ...] = ()


@settings
class StudyConfig:
    """A study; every combination of the lists is run, and `arms` besides.

    Attributes:
        env_id: gymnasium's name of the environment
        data: dataset files or folders
        loading: how they are read, in both phases
        pretrainers: who learns offline, by the names of `policy-finetune learners`
        learners: who learns online
        replays: append, drop, symmetric, decay, balanced
        epsilons: ε of the constrained learners whose multiplier adapts; empty: their own
        arms: more arms, one by one (in a configuration file)
        pre_seeds: pre-trained agents for each dataset
        seeds: fine-tuned agents for each pre-trained one and each arm
        updates: critic updates of pre-training
        env_steps: environment steps of fine-tuning
        hidden: widths of the hidden layers of all networks
        layer_norm: LayerNorm in all critics, offline and online
        critics: critics of every learner, offline and online; None: each learner's own number
        batch_size: transitions an update
        switch: between the phases
        block: environment steps between updates
        eval_env_steps: environment steps between evaluations
        eval_episodes: episodes an evaluation
        parts: programs that the agents of a phase are shared between; so many can run at once
    """

    env_id: str = "InvertedDoublePendulum-v5"
    data: tuple[str, ...] = ()
    loading: DataOptions = DataOptions()
    pretrainers: tuple[str, ...] = ("td3bc",)
    learners: tuple[str, ...] = ("td3", "td3bc", "td3c")
    replays: tuple[Literal["append", "drop", "symmetric", "decay", "balanced"], ...] = ("append", "drop")
    epsilons: tuple[Positive, ...] = ()
    arms: tuple[StudyArm, ...] = ()
    pre_seeds: Count = 2
    seeds: Count = 3
    updates: Count = 100_000
    env_steps: Count = 50_000
    hidden: tuple[Count, ...] = (256, 256)
    layer_norm: bool = False
    critics: Count | None = None
    batch_size: Count = 256
    switch: SwitchConfig = SwitchConfig()
    block: Count = 50
    eval_env_steps: Count = 1000
    eval_episodes: Count = 5
    parts: Count = 1

    def __post_init__(self) -> None:
        for names, presets, phase in (
            (self.pretrainers, offline_presets(), "pre-training"), (self.learners, online_presets(), "fine-tuning")
        ):  # fmt: skip
            for name in names:
                learner(name)  # named at all?
                if name not in presets:
                    raise UserError(f'The learner "{name}" is not for {phase}: see policy-finetune learners.')
        if not self.pretrainers:
            raise fault(self, "pretrainers", "the name of at least one learner, such as td3bc")
        labels = [arm.label for arm in self.all_arms()]
        if not labels:
            raise UserError("A study needs at least one arm: name learners and replays, or give arms.")
        self._check_critics()
        double = next((label for label in labels if labels.count(label) > 1), None)
        if double is not None:
            raise UserError(f'Two arms of the study are called "{double}": give each a name of its own.')

    def _check_critics(self) -> None:
        """Refuse arms that could not continue with the critics of a pre-trainer, before anything is trained."""
        for name in self.pretrainers:
            before = self.with_networks(learner(name))
            for arm in self.all_arms():
                assert arm.switch is not None
                if isinstance(before, BCConfig) or arm.switch.critic_reinit or arm.switch.allow_new:
                    continue
                here, there = _critics(arm.learner), _critics(before)
                if here != there:
                    raise fault(
                        self, "critics", text=f"The pre-trainer {name} has {there}, and the arm {arm.label!r} has "
                        f"{here}: give all learners the same with {{layer_norm}} and {{critics}}, or let critics start "
                        "from scratch with {switch.critic_reinit}.",
                    )  # fmt: skip

    def with_networks(self, config: LearnerConfig) -> LearnerConfig:
        """Return a learner with the study's networks and batch size."""
        changes: dict[str, Any] = {"hidden": self.hidden}
        if not isinstance(config, BCConfig):
            changes["layer_norm"] = config.network.layer_norm or self.layer_norm
            changes["critics"] = self.critics or config.network.critics
        return replace(config, network=replace(config.network, **changes), batch_size=self.batch_size)

    def all_arms(self) -> tuple[StudyArm, ...]:
        """Return every arm, networks and switch filled in."""
        made = []
        for name, kind in itertools.product(self.learners, self.replays):
            base = learner(name)
            limit = base.constraint if isinstance(base, TD3Config) else None
            bounded = isinstance(limit, DualConstraint)  # others have no ε
            for epsilon in self.epsilons if bounded and self.epsilons else (None,):
                label, config = f"{name} {kind}", base
                if epsilon is not None and bounded:
                    label = f"{name} ε={epsilon:g} {kind}"
                    config = replace(base, constraint=replace(limit, epsilon=epsilon))
                made.append(self._arm(name, label, config, kind))
        return tuple(
            replace(arm, learner=self.with_networks(arm.learner), switch=arm.switch or self.switch)
            for arm in (*made, *self.arms)
        )

    def _arm(self, name: str, label: str, config: Any, kind: str) -> StudyArm:
        """Return an arm of a named learner; updates a step, where it has its own, are the preset's."""
        preset = online_presets()[name]
        block = preset.block if preset.utd != 1.0 else None
        return StudyArm(label=label, learner=config, replay=REPLAYS[kind](), utd=preset.utd, block=block)


def _critics(config: OnlineLearner) -> str:
    """Say what critics a learner has."""
    return f"{config.network.critics} critics with{'' if config.network.layer_norm else 'out'} LayerNorm"


def offline_runs(study: StudyConfig) -> dict[str, OfflineConfig]:
    """Return name -> configuration of the pre-training runs: one for each pre-trainer, each as its preset has it."""
    runs = {}
    for name in study.pretrainers:
        preset = offline_presets()[name]
        config = study.with_networks(preset.learner)
        config = replace(config, actor_lr_steps=study.updates if config.actor_lr_steps else 0)
        agents = tuple(
            OfflineAgent(label=name, learner=config, dataset=d, seed=i)
            for d in range(len(study.data))
            for i in range(study.pre_seeds)
        )
        per_step = min(1000, study.updates)
        runs[name] = replace(
            preset,
            learner=config,
            data=study.data,
            loading=study.loading.over(preset.loading),
            env_id=study.env_id,
            updates=study.updates,
            updates_per_step=max(per_step - per_step % config.policy_delay, config.policy_delay),
            agents=agents,
            eval_episodes=study.eval_episodes,
        )
    return runs


def online_runs(study: StudyConfig, starts: dict[str, str]) -> list[OnlineConfig]:
    """Return the configurations of the fine-tuning runs.

    Arms that can share a program do; `study.parts` shares the pre-trained agents out. How datasets are read stays open
    in each (`OnlineConfig.loading`), which means: as the pre-trained run read them.

    Args:
        study: the study.
        starts: pre-trainer -> its run folder.
    """
    groups: dict[object, list[StudyArm]] = {}
    for arm in study.all_arms():
        assert arm.switch is not None
        learner, replay = arm.learner, arm.replay
        program = structure_of(learner), constraint_form(learner) or ("mse", False), arm.utd, arm.block
        balanced = replace(replay, top_fraction=1.0) if isinstance(replay, BalancedReplay) else None
        calibrated = isinstance(learner, SACConfig) and learner.cql is not None and learner.cql.calibrated
        discount = learner.discount if calibrated else None  # the data's returns to go hold it
        key = (*program, arm.switch.warmup_env_steps, balanced, discount, replay.capacity)
        groups.setdefault(key, []).append(arm)
    starting = len(study.data) * study.pre_seeds
    parts = min(study.parts, starting)
    runs = []
    for folder, arms, part in itertools.product(starts.values(), groups.values(), range(parts)):
        agents = tuple(
            OnlineAgent(
                label=arm.label,
                learner=arm.learner,
                replay=arm.replay,
                switch=arm.switch or study.switch,
                start=p,
                seed=i,
            )
            for arm in arms
            for p in range(part, starting, parts)
            if not arm.datasets or p // study.pre_seeds in arm.datasets
            for i in range(study.seeds)
        )
        if not agents:  # none of these arms takes a dataset of this part
            continue
        runs.append(
            OnlineConfig(
                env_id=study.env_id,
                learner=agents[0].learner,
                replay=agents[0].replay,
                switch=agents[0].switch,
                start=folder,
                data=study.data,
                env_steps=study.env_steps,
                block=arms[0].block or study.block,
                utd=arms[0].utd,
                agents=agents,
                eval_episodes=study.eval_episodes,
                eval_env_steps=study.eval_env_steps,
            )
        )
    return runs
