"""The configuration of a training run; `minimax_ued.settings` has its parts.

Nothing here imports jax.
"""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import Field

from minimax_ued.methods import AnyMethod
from minimax_ued.settings.counts import Count
from minimax_ued.settings.curricula import BufferConfig, MutationConfig
from minimax_ued.settings.environments import CartPoleConfig, EditorConfig, MazeConfig, OwnConfig
from minimax_ued.settings.learners import GRUConfig, LSTMConfig, PPOConfig, S5Config, StudentConfig, TeacherConfig
from minimax_ued.settings.methods import DRConfig, NCCConfig, ReplayConfig, SFLConfig, TaughtConfig
from paperloop.settings import Ge, Le, fault, settings

__all__ = [
    "SCHEMA", "BufferConfig", "CartPoleConfig", "DRConfig", "EditorConfig", "GRUConfig", "LSTMConfig", "MazeConfig",
    "MutationConfig", "NCCConfig", "OwnConfig", "PPOConfig", "ReplayConfig", "S5Config", "SFLConfig", "StudentConfig",
    "TaughtConfig", "TeacherConfig", "TrainConfig",
]  # fmt: skip

#: Of saved configurations; raised when a field changes its meaning or goes.
SCHEMA = 2


@settings
class TrainConfig:
    """One training run: B environments, S steps each, per cycle and source of levels.

    Attributes:
        env: the environment.
        student: the network.
        ppo: the learner.
        method: how levels are found and learned from; `minimax-ued methods` lists those of the literature.
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

    env: Annotated[MazeConfig | CartPoleConfig | OwnConfig, Field(discriminator="type")] = MazeConfig()
    student: StudentConfig = StudentConfig()
    ppo: PPOConfig = PPOConfig()
    method: Annotated[AnyMethod, Field(discriminator="type")] = DRConfig()
    n_envs: Count = 32
    rollout_steps: Count = 256
    levels_ahead: Count = 8
    total_env_steps: Annotated[int, Ge(1), Le(2**62)] = 245_760_000
    cycles_per_step: Count = 16
    seeds: Count = 1
    devices: Count = 1

    def __post_init__(self) -> None:
        method = self.method
        self._check_parts()
        self._check_lengths()
        if method.buffer is not None:
            offered = self.n_envs * method.parts
            if method.buffer.capacity < offered:
                rule = f"at least {offered}, the levels that a cycle offers ({{n_envs}} = {self.n_envs})"
                raise fault(self, "method.buffer.capacity", rule)
        edits = method.mutation
        if edits is not None and edits.parents != "batch" and self.n_envs % edits.n_parents:
            rule = f"a divisor of {{n_envs}} = {self.n_envs}, so that each parent is edited equally often"
            raise fault(self, "method.mutation.n_parents", rule)
        if method.teacher is not None and isinstance(self.env, CartPoleConfig):
            raise fault(self, "env.type", "'maze' where a teacher builds the levels: it builds mazes")
        self._check_replay()

    def _check_lengths(self) -> None:
        """Every rollout starts with new episodes, so that one longer than it would never be finished or scored."""
        # Of an environment of the user's own, the trainer checks the length.
        longest = 1 if isinstance(self.env, OwnConfig) else self.env.max_steps
        if self.rollout_steps < longest:
            rule = f"at least {{env.max_steps}} = {longest}, or no long episode would ever be finished or scored"
            raise fault(self, "rollout_steps", rule)
        if isinstance(self.method, SFLConfig) and self.method.steps < 2 * longest:
            rule = f"at least {2 * longest}: learnable levels show in several episodes of up to {longest} steps each"
            raise fault(self, "method.steps", rule)

    def _check_parts(self) -> None:
        """Whole environments are shared out over minibatches and devices."""
        devices = "" if self.devices == 1 else " x {devices}"
        needed = [(self.devices, "{devices}")]
        minibatches = self.ppo.minibatches * self.devices
        chunks = "" if self.ppo.chunks == 1 else " (in chunks)"
        needed.append((minibatches // math.gcd(minibatches, self.ppo.chunks), f"{{ppo.minibatches}}{devices}{chunks}"))
        if (teacher := self.method.teacher) is not None:
            needed.append((teacher.ppo.minibatches * self.devices, f"{{method.teacher.ppo.minibatches}}{devices}"))
        for part, name in needed:
            if self.n_envs % part:
                nearest = math.ceil(self.n_envs / part) * part
                rule = f"a multiple of {name} = {part}, such as {nearest}: whole environments are shared out"
                raise fault(self, "n_envs", rule)
        if self.rollout_steps % self.ppo.chunks:
            rule = f"a multiple of {{ppo.chunks}} = {self.ppo.chunks}: chunks are equally long"
            raise fault(self, "rollout_steps", rule)

    def _check_replay(self) -> None:
        """A run too short to fill the buffer, even if every level offered is new, would replay, or learn, nothing."""
        if self.method.buffer is None or not self.method.replays:
            return
        needed, offered = self.method.buffer.first_replay, self.n_envs * self.method.parts
        waiting = math.ceil(needed / offered)
        if self.total_cycles <= waiting:
            outcome = "no level would be replayed" if "fresh" in self.method.gradient else "no update would be made"
            dispatches = waiting // self.cycles_per_step  # a run of so many is still too short
            least = math.floor(dispatches * self.cycles_per_step * self.env_steps_per_cycle)
            raise fault(
                self,
                "total_env_steps",
                text=f"{{total_env_steps}} is {self.total_env_steps}, which is {self.total_cycles} cycles of {offered} "
                f"new levels each, but replay begins once the buffer holds {needed} levels, so that {outcome}: "
                f"set {{total_env_steps}} above {least}, or lower {{method.buffer.min_fill}} or "
                "{method.buffer.capacity}.",
            )

    @property
    def n_students(self) -> int:
        """Students that learn side by side."""
        return self.method.students

    @property
    def steps_per_rollout(self) -> int:
        """Environment steps of one rollout of B environments by one student: B x S."""
        return self.n_envs * self.rollout_steps

    @property
    def steps_per_refresh(self) -> int:
        """Environment steps that one refresh of what is kept takes."""
        method = self.method
        if isinstance(method, SFLConfig):
            return method.candidates * method.steps
        if isinstance(method, NCCConfig):
            return (method.capacity + self.n_envs) * method.trials * self.rollout_steps
        return 0

    @property
    def env_steps_per_cycle(self) -> float:
        """Environment steps of a cycle, expected: which rollouts a cycle makes can be left to chance."""
        method = self.method
        rollouts = float(method.parts * self.n_students)
        if method.explores and method.buffer is not None:
            rollouts += method.buffer.lot
        refreshing = self.steps_per_refresh / method.refresh_every if method.refresh_every else 0.0
        return rollouts * self.steps_per_rollout + refreshing

    @property
    def total_cycles(self) -> int:
        """Cycles that `total_env_steps` takes, rounded up to whole dispatches."""
        return self.num_steps * self.cycles_per_step

    @property
    def num_steps(self) -> int:
        """Dispatches (calls of `UEDTrainer.step`) that `total_env_steps` takes, rounded up."""
        return math.ceil(self.total_env_steps / (self.env_steps_per_cycle * self.cycles_per_step))
