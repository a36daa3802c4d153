"""What a study runs: {dataset} x {pre-trainer} x {online learner} x {replay} x {constraint} over seeds."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace
from typing import Annotated

import tyro

from paperloop.checks import ONE_OR_MORE, check
from paperloop.errors import UserError
from policy_finetune.config import (
    DataOptions,
    LearnerConfig,
    OfflineAgent,
    OfflineConfig,
    OnlineAgent,
    OnlineConfig,
    ReplayConfig,
    SwitchConfig,
)
from policy_finetune.presets import learner, offline_presets, online_presets
from policy_finetune.weights_structure import structure_of

__all__ = ["StudyArm", "StudyConfig", "offline_runs", "online_runs"]


@dataclass(frozen=True)
class StudyArm:
    """One way of fine-tuning."""

    label: str
    """its name in tables and figures"""
    learner: LearnerConfig = field(default_factory=LearnerConfig)
    """who learns online"""
    replay: ReplayConfig = field(default_factory=ReplayConfig)
    """what its batches hold"""
    switch: SwitchConfig | None = None
    """how it starts; None: as the study says"""
    utd: float = 1.0
    """critic updates an environment step"""
    block: int | None = None
    """environment steps between updates; None: as the study says"""
    datasets: tuple[int, ...] = ()
    """only on these datasets, by index; empty: on all"""


@dataclass(frozen=True)
class StudyConfig:
    """A study; every combination of the lists is run, and `arms` besides."""

    env_id: str = "InvertedDoublePendulum-v5"
    """gymnasium's name of the environment"""
    data: tuple[str, ...] = ()
    """dataset files or folders"""
    loading: DataOptions = field(default_factory=DataOptions)
    """how they are read, in both phases"""
    pretrainers: tuple[str, ...] = ("td3bc",)
    """who learns offline, by the names of `policy-finetune learners`"""
    learners: tuple[str, ...] = ("td3", "td3bc", "td3c")
    """who learns online"""
    replays: tuple[str, ...] = ("append", "drop")
    """append, drop, symmetric, decay, balanced"""
    epsilons: tuple[float, ...] = ()
    """ε of the constrained learners whose multiplier adapts; empty: their own"""
    arms: Annotated[tuple[StudyArm, ...], tyro.conf.Suppress] = ()
    """more arms, one by one (in a configuration file)"""
    pre_seeds: int = 2
    """pre-trained agents for each dataset"""
    seeds: int = 3
    """fine-tuned agents for each pre-trained one and each arm"""
    updates: int = 100_000
    """critic updates of pre-training"""
    env_steps: int = 50_000
    """environment steps of fine-tuning"""
    hidden: tuple[int, ...] = (256, 256)
    """widths of the hidden layers of all networks"""
    layer_norm: bool = False
    """LayerNorm in all critics, offline and online"""
    critics: int | None = None
    """critics of every learner, offline and online; None: each learner's own number"""
    batch_size: int = 256
    """transitions an update"""
    switch: SwitchConfig = field(default_factory=SwitchConfig)
    """between the phases"""
    block: int = 50
    """environment steps between updates"""
    eval_env_steps: int = 1000
    """environment steps between evaluations"""
    eval_episodes: int = 5
    """episodes an evaluation"""
    parts: int = 1
    """programs that the agents of a phase are shared between; so many can run at once"""

    def __post_init__(self) -> None:
        check(self, pre_seeds=ONE_OR_MORE, seeds=ONE_OR_MORE, updates=ONE_OR_MORE, env_steps=ONE_OR_MORE)
        check(self, hidden=ONE_OR_MORE, batch_size=ONE_OR_MORE, block=ONE_OR_MORE, parts=ONE_OR_MORE)
        check(self, critics=ONE_OR_MORE)
        check(self, eval_env_steps=ONE_OR_MORE, eval_episodes=ONE_OR_MORE)
        for names, presets, phase in (
            (self.pretrainers, offline_presets(), "pre-training"), (self.learners, online_presets(), "fine-tuning")
        ):  # fmt: skip
            for name in names:
                learner(name)  # named at all?
                if name not in presets:
                    raise UserError(f'The learner "{name}" is not for {phase}: see policy-finetune learners.')
        if not self.pretrainers:
            raise UserError("StudyConfig.pretrainers is empty: name at least one learner, such as td3bc.")
        labels = [arm.label for arm in self.all_arms()]
        if not labels:
            raise UserError("A study needs at least one arm: name learners and replays, or give arms.")
        self._check_critics()
        double = next((label for label in labels if labels.count(label) > 1), None)
        if double is not None:
            raise UserError(f'Two arms of the study are called "{double}": give each a name of its own.')

    def _check_critics(self) -> None:
        """Refuse arms that could not go on with the critics of a pre-trainer, before anything is trained."""
        for name in self.pretrainers:
            before = self.with_networks(learner(name))
            for arm in self.all_arms():
                assert arm.switch is not None
                if before.name == "bc" or arm.switch.critic_reinit or arm.switch.allow_new:
                    continue
                here, there = _critics(arm.learner), _critics(before)
                if here != there:
                    raise UserError(
                        f"The pre-trainer {name} has {there}, and the arm {arm.label!r} has {here}: give all learners "
                        "the same with --layer-norm and --critics N, or let critics start anew with "
                        "--switch.critic-reinit."
                    )

    def with_networks(self, config: LearnerConfig) -> LearnerConfig:
        """Return a learner with the study's networks and batch size."""
        network = replace(
            config.network,
            hidden=self.hidden,
            layer_norm=config.network.layer_norm or self.layer_norm,
            critics=self.critics or config.network.critics,
        )
        return replace(config, network=network, batch_size=self.batch_size)

    def all_arms(self) -> tuple[StudyArm, ...]:
        """Return every arm, networks and switch filled in."""
        made = []
        for name, kind in itertools.product(self.learners, self.replays):
            base = learner(name)
            bounded = base.constraint.enabled and base.constraint.penalty == "dual"  # others do not read ε
            for epsilon in self.epsilons if bounded and self.epsilons else (None,):
                label, config = f"{name} {kind}", base
                if epsilon is not None:
                    label = f"{name} ε={epsilon:g} {kind}"
                    config = replace(base, constraint=replace(base.constraint, epsilon=epsilon))
                made.append(self._arm(name, label, config, kind))
        return tuple(
            replace(arm, learner=self.with_networks(arm.learner), switch=arm.switch or self.switch)
            for arm in (*made, *self.arms)
        )

    def _arm(self, name: str, label: str, config: LearnerConfig, kind: str) -> StudyArm:
        """Return an arm of a named learner; updates a step, where it has its own, are the preset's."""
        preset = online_presets()[name]
        block = preset.block if preset.utd != 1.0 else None
        replay = ReplayConfig(kind=kind)  # ty: ignore[invalid-argument-type]
        return StudyArm(label, config, replay, utd=preset.utd, block=block)


def _critics(config: LearnerConfig) -> str:
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
        program = structure_of(arm.learner), arm.utd, arm.block, arm.switch.warmup_env_steps
        replay = arm.replay
        balanced = (replay.rho, replay.temperature, replay.ratio_lr) if replay.kind == "balanced" else None
        calibrated = arm.learner.discount if arm.learner.calibrated else None  # the data's returns to go hold it
        groups.setdefault((*program, balanced, calibrated, replay.capacity), []).append(arm)
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
