"""The configuration of a training run; `minimax_ued.settings` has its parts.

Nothing here imports jax.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

from minimax_ued.methods import METHODS, Method, get_method
from minimax_ued.settings.counts import Count, Several
from minimax_ued.settings.curricula import BufferConfig, DistributionConfig, LearnableConfig
from minimax_ued.settings.environments import CartPoleConfig, EditorConfig, MazeConfig, MutationConfig
from minimax_ued.settings.learners import PPOConfig, S5Config, StudentConfig, TeacherConfig
from minimax_ued.support.readiness import check_readiness
from paperloop.settings import Ge, Le, did_you_mean, fault, settings

__all__ = [
    "BufferConfig", "CartPoleConfig", "DistributionConfig", "EditorConfig", "LearnableConfig", "MazeConfig",
    "MutationConfig", "PPOConfig", "S5Config", "StudentConfig", "TeacherConfig", "TrainConfig",
]  # fmt: skip


@settings
class TrainConfig:
    """One training run: B environments, S steps each, per cycle and source of levels.

    Attributes:
        domain: the environment, described by the field of that name (`env` for the maze); "own" for one that is given
            to `UEDTrainer`.
        env: the maze.
        cartpole: CartPole with its physics as the level.
        student: the network.
        ppo: the learner.
        method: how levels are found and learned from: dr, plr, accel, paired and others; `minimax-ued methods` lists
            them.
        score: what a level is worth, a name of `minimax_ued.replay.scores.SCORES`; unused by methods
            without a level buffer.
        buffer: the level buffer; unused by methods without one.
        mutation: how levels are edited; unused by methods that do not.
        teacher: what makes levels; unused by methods without a teacher.
        population: students of methods whose number is free.
        learnable: the choice of learnable levels; unused by other methods than "sfl".
        distribution: the learned distribution over levels; unused by other methods than "ncc".
        n_envs: B, levels of one source that are rolled out at once. A parallel method rolls out as many of each source.
        rollout_steps: S, steps of each environment per cycle.
        levels_ahead: levels that methods with a fresh level for each episode draw ahead of need, per environment.
            Changes the speed only.
        total_env_steps: environment steps of the whole run, per seed: those of all students and of all rollouts,
            with and without gradients, as expected; rounded up to whole dispatches.
        cycles_per_step: cycles fused into one dispatch, that is, per call of `UEDTrainer.step`.
        seeds: independent runs trained at once by vmap.
        devices: devices over which the environments are split.
    """

    domain: Literal["maze", "cartpole", "own"] = "maze"
    env: MazeConfig = MazeConfig()
    cartpole: CartPoleConfig = CartPoleConfig()
    student: StudentConfig = StudentConfig()
    ppo: PPOConfig = PPOConfig()
    method: str = "dr"
    score: str = "max_mc"
    buffer: BufferConfig = BufferConfig()
    mutation: MutationConfig = MutationConfig()
    teacher: TeacherConfig = TeacherConfig()
    population: Several = 3
    learnable: LearnableConfig = LearnableConfig()
    distribution: DistributionConfig = DistributionConfig()
    n_envs: Count = 32
    rollout_steps: Count = 256
    levels_ahead: Count = 8
    total_env_steps: Annotated[int, Ge(1), Le(2**62)] = 245_760_000
    cycles_per_step: Count = 16
    seeds: Count = 1
    devices: Count = 1

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            hint = did_you_mean(self.method, METHODS)
            raise fault(self, "method", text=f"{{method}} is {self.method!r}, which is not a method{hint}")
        method = self.method_spec
        self._check_parts(method)
        self._check_lengths(method)
        if method.curator == "buffer":
            offered = self.n_envs * method.parts
            if self.buffer.capacity < offered:
                rule = f"at least {offered}, the levels that a cycle offers ({{n_envs}} = {self.n_envs})"
                raise fault(self, "buffer.capacity", rule)
            if "fresh" not in method.gradient and self.buffer.replay_prob == 0 and not method.parallel:
                rule = f"above 0 where {{method}} is {self.method}, which learns from replayed levels only"
                raise fault(self, "buffer.replay_prob", rule)
        if method.mutates and self.mutation.parents != "batch":
            if method.parallel:
                reason = "edits levels before they are played, when none is known to be easy or hard"
                rule = f"'batch' where {{method}} is {self.method}, which {reason}"
                raise fault(self, "mutation.parents", rule)
            if self.n_envs % self.mutation.n_parents:
                rule = f"a divisor of {{n_envs}} = {self.n_envs}, so that each parent is edited equally often"
                raise fault(self, "mutation.n_parents", rule)
        if method.teacher and self.domain == "cartpole":
            raise fault(self, "domain", f"'maze' where {{method}} is {self.method}, whose teacher builds mazes")
        check_readiness(self)

    def _check_lengths(self, method: Method) -> None:
        """Every rollout starts with new episodes, so that one longer than it would never be finished or scored."""
        # Of an environment of the user's own, the trainer checks the length.
        name = {"maze": "env.max_steps", "cartpole": "cartpole.max_steps", "own": ""}[self.domain]
        longest = {"maze": self.env.max_steps, "cartpole": self.cartpole.max_steps, "own": 1}[self.domain]
        if self.rollout_steps < longest:
            rule = f"at least {{{name}}} = {longest}, or no long episode would ever be finished or scored"
            raise fault(self, "rollout_steps", rule)
        if method.curator == "learnable" and self.learnable.steps < 2 * longest:
            rule = f"at least {2 * longest}: learnable levels show in several episodes of up to {longest} steps each"
            raise fault(self, "learnable.steps", rule)

    def _check_parts(self, method: Method) -> None:
        """Whole environments are shared out over minibatches and devices."""
        devices = "" if self.devices == 1 else " x {devices}"
        needed = [(self.devices, "{devices}")]
        minibatches = self.ppo.minibatches * self.devices
        chunks = "" if self.ppo.chunks == 1 else " (in chunks)"
        needed.append((minibatches // math.gcd(minibatches, self.ppo.chunks), f"{{ppo.minibatches}}{devices}{chunks}"))
        if method.teacher:
            needed.append((self.teacher.ppo.minibatches * self.devices, f"{{teacher.ppo.minibatches}}{devices}"))
        for part, name in needed:
            if self.n_envs % part:
                nearest = math.ceil(self.n_envs / part) * part
                rule = f"a multiple of {name} = {part}, such as {nearest}: whole environments are shared out"
                raise fault(self, "n_envs", rule)
        if self.rollout_steps % self.ppo.chunks:
            rule = f"a multiple of {{ppo.chunks}} = {self.ppo.chunks}: chunks are equally long"
            raise fault(self, "rollout_steps", rule)

    @property
    def method_spec(self) -> Method:
        """The declaration that `method` names."""
        return get_method(self.method)

    @property
    def n_students(self) -> int:
        """Students that learn side by side."""
        students = self.method_spec.students
        return self.population if students is None else students

    @property
    def objective(self) -> str:
        """What the teacher is rewarded by; empty for methods without a teacher."""
        return self.teacher.objective or self.method_spec.objective

    @property
    def steps_per_rollout(self) -> int:
        """Environment steps of one rollout of B environments by one student: B x S."""
        return self.n_envs * self.rollout_steps

    @property
    def refresh_every(self) -> int:
        """Cycles from one refresh of the curator to the next; 0 where there is nothing to refresh."""
        curator = self.method_spec.curator
        return {"learnable": self.learnable.refresh_every, "distribution": self.distribution.refresh_every}.get(
            curator, 0
        )

    @property
    def steps_per_refresh(self) -> int:
        """Environment steps that one refresh of the curator takes."""
        curator = self.method_spec.curator
        if curator == "learnable":
            return self.learnable.candidates * self.learnable.steps
        if curator == "distribution":
            return (self.distribution.capacity + self.n_envs) * self.distribution.trials * self.rollout_steps
        return 0

    @property
    def env_steps_per_cycle(self) -> float:
        """Environment steps of a cycle, expected: which rollouts a cycle makes can be left to chance."""
        method = self.method_spec
        rollouts = method.parts * self.n_students
        if method.mutates and not method.parallel:
            rollouts += self.buffer.replay_prob
        refreshing = self.steps_per_refresh / self.refresh_every if self.refresh_every else 0.0
        return rollouts * self.steps_per_rollout + refreshing

    @property
    def total_cycles(self) -> int:
        """Cycles that `total_env_steps` takes, rounded up to whole dispatches."""
        return self.num_steps * self.cycles_per_step

    @property
    def num_steps(self) -> int:
        """Dispatches (calls of `UEDTrainer.step`) that `total_env_steps` takes, rounded up."""
        return math.ceil(self.total_env_steps / (self.env_steps_per_cycle * self.cycles_per_step))
