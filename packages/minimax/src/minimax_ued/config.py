"""Configuration of environments, students, PPO, the level buffer and a training run; and named presets.

Plain frozen dataclasses that check themselves. Nothing here imports jax.
"""

from __future__ import annotations

import dataclasses
import math
import operator
from dataclasses import dataclass, field
from typing import Any, Literal

from minimax_ued.methods import Method, get_method
from outerloop.errors import UserError

__all__ = ["PRESETS", "BufferConfig", "MazeConfig", "PPOConfig", "StudentConfig", "TrainConfig"]


def _refuse(config: Any, name: str, allowed: str) -> UserError:
    return UserError(f"{type(config).__name__}.{name} is {getattr(config, name)!r}, but must be {allowed}.")


def _check_int(config: Any, *names: str, low: int, high: int = 2**31 - 1) -> None:
    for name in names:
        value = getattr(config, name)
        try:
            whole = operator.index(value)
        except TypeError:
            whole = None
        if whole is None or isinstance(value, bool) or not low <= whole <= high:
            limit = f"an integer of at least {low}" if high == 2**31 - 1 else f"an integer from {low} to {high}"
            raise _refuse(config, name, limit)


def _check_float(config: Any, name: str, low: float, high: float, *, open_low: bool = False) -> None:
    value = getattr(config, name)
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not number or not (low < value if open_low else low <= value) or value > high:
        interval = f"{'(' if open_low else '['}{low:g}, {high:g}{')' if high == math.inf else ']'}"
        raise _refuse(config, name, f"a finite number in {interval}")


def _check_bool(config: Any, *names: str) -> None:
    for name in names:
        if not isinstance(getattr(config, name), bool):
            raise _refuse(config, name, "true or false")


def _check_choice(config: Any, name: str, choices: tuple[str, ...]) -> None:
    if getattr(config, name) not in choices:
        raise _refuse(config, name, "one of " + ", ".join(repr(choice) for choice in choices))


@dataclass(frozen=True, kw_only=True)
class MazeConfig:
    """The maze environment and its random level generator.

    Attributes:
        height: rows of the maze, outer wall not counted.
        width: columns of the maze, outer wall not counted.
        n_walls: cells drawn as walls by the random generator.
        replace_walls: draw wall cells with replacement, so that the number of distinct walls varies.
        sample_n_walls: draw the number of walls uniformly from 0 to `n_walls`.
        view_size: edge of the square the agent sees in front of it, in cells; odd.
        see_through_walls: no occlusion.
        see_agent: show the agent in its own cell.
        normalize: observe float32 images of codes divided by 10 instead of uint8 codes.
        max_steps: T, steps after which an episode is cut off.
    """

    height: int = 13
    width: int = 13
    n_walls: int = 60
    replace_walls: bool = True
    sample_n_walls: bool = False
    view_size: int = 5
    see_through_walls: bool = True
    see_agent: bool = False
    normalize: bool = True
    max_steps: int = 250

    def __post_init__(self) -> None:
        _check_int(self, "height", "width", low=1, high=255)
        _check_int(self, "n_walls", low=0)
        _check_int(self, "view_size", low=3, high=15)
        _check_int(self, "max_steps", low=1)
        _check_bool(self, "replace_walls", "sample_n_walls", "see_through_walls", "see_agent", "normalize")
        if self.view_size % 2 == 0:
            raise _refuse(self, "view_size", "odd, because the agent stands in the middle column of its view")
        cells = self.height * self.width
        if cells < 2:
            raise UserError(
                f"MazeConfig.height x MazeConfig.width is {self.height} x {self.width}, but a maze needs at least two "
                "cells: one for the agent and one for the goal."
            )
        if self.n_walls > cells - 2:
            raise _refuse(
                self,
                "n_walls",
                f"at most {cells - 2}, so that {self.height} x {self.width} cells keep room for agent and goal",
            )


@dataclass(frozen=True, kw_only=True)
class StudentConfig:
    """The student network.

    Attributes:
        arch: the recurrent core.
        features: units of the recurrent core.
        conv_filters: filters of the 3x3 convolution over the view.
        head_width: hidden units of the policy head and of the value head.
        direction_embedding: width of the embedding of the direction the agent faces.
    """

    arch: Literal["lstm"] = "lstm"
    features: int = 256
    conv_filters: int = 16
    head_width: int = 32
    direction_embedding: int = 5

    def __post_init__(self) -> None:
        _check_choice(self, "arch", ("lstm",))
        _check_int(self, "features", "conv_filters", "head_width", "direction_embedding", low=1)


@dataclass(frozen=True, kw_only=True)
class PPOConfig:
    """Proximal policy optimisation (Schulman et al. 2017, arXiv 1707.06347).

    Attributes:
        lr: Adam's step size.
        anneal_lr: let the step size fall linearly to zero over the run's cycles.
        gamma: discount.
        gae_lambda: lambda of generalised advantage estimation.
        clip: epsilon of the probability ratio, and of the value where `clip_value` is set.
        clip_value: clip the change of the value as well; otherwise plain squared error.
        value_coef: weight of the value loss.
        entropy_coef: weight of the entropy bonus.
        epochs: passes over a rollout.
        minibatches: parts of a rollout, by whole environments.
        max_grad_norm: limit of the global gradient norm.
        adam_eps: Adam's epsilon.
        bootstrap_timeouts: at an episode cut off by the step limit, continue with the value of its last observation
            instead of treating it as an end worth zero. The cost is one network evaluation per cut-off, not per step.
            The reference implementation treats time-outs as ends, and the presets that reproduce it do as well.
    """

    lr: float = 1e-4
    anneal_lr: bool = False
    gamma: float = 0.995
    gae_lambda: float = 0.98
    clip: float = 0.2
    clip_value: bool = True
    value_coef: float = 0.5
    entropy_coef: float = 1e-3
    epochs: int = 5
    minibatches: int = 1
    max_grad_norm: float = 0.5
    adam_eps: float = 1e-5
    bootstrap_timeouts: bool = True

    def __post_init__(self) -> None:
        for name in ("lr", "clip", "max_grad_norm", "adam_eps"):
            _check_float(self, name, 0.0, math.inf, open_low=True)
        for name in ("gamma", "gae_lambda"):
            _check_float(self, name, 0.0, 1.0)
        for name in ("value_coef", "entropy_coef"):
            _check_float(self, name, 0.0, math.inf)
        _check_int(self, "epochs", "minibatches", low=1)
        _check_bool(self, "anneal_lr", "clip_value", "bootstrap_timeouts")


@dataclass(frozen=True, kw_only=True)
class BufferConfig:
    """The level buffer (Jiang et al. 2021, arXiv 2010.03934 and 2110.02439).

    Attributes:
        capacity: N, levels kept.
        replay_prob: p, probability that a cycle replays once the buffer is filled enough.
        staleness_coef: rho, weight of the staleness distribution.
        temperature: beta of the score distribution; small is greedy.
        prioritization: weights by rank of the score, or proportional to the score.
        ties: what ranks do with equal scores. "slot", the reference's way, gives the lower slot the better rank.
            "share" gives each the mean weight of the ranks they hold together; choose it for scores with few values,
            such as learnability, where otherwise the slot number decides.
        min_fill: part of the capacity that must be filled before the first replay.
        deduplicate: keep no level twice.
        sequential: draw and insert one level after the other as the reference does, instead of a batch at once.
    """

    capacity: int = 4000
    replay_prob: float = 0.5
    staleness_coef: float = 0.3
    temperature: float = 0.3
    prioritization: Literal["rank", "proportional"] = "rank"
    ties: Literal["slot", "share"] = "slot"
    min_fill: float = 0.5
    deduplicate: bool = True
    sequential: bool = False

    def __post_init__(self) -> None:
        _check_int(self, "capacity", low=1)
        for name in ("replay_prob", "staleness_coef", "min_fill"):
            _check_float(self, name, 0.0, 1.0)
        _check_float(self, "temperature", 0.0, math.inf, open_low=True)
        _check_choice(self, "prioritization", ("rank", "proportional"))
        _check_choice(self, "ties", ("slot", "share"))
        _check_bool(self, "deduplicate", "sequential")
        self._check_underflow()

    def _check_underflow(self) -> None:
        """Refuse a temperature at which float32 cannot hold the score distribution.

        exp(-87) is the last whole power of e above the smallest normal float32; XLA flushes what is below to zero. By
        rank, the weight of the last of N ranks, N ** (-1 / temperature), must stay above it, that is temperature >=
        log(N) / 87 (0.0953 for N = 4000): then every level in the buffer has a weight above zero. Proportional weights
        have no such bound; there a level with half the best score must keep a weight, that is log(2) / 87 = 0.00797.
        """
        by_rank = self.prioritization == "rank"
        lowest = math.log(self.capacity if by_rank else 2) / 87.0
        if self.temperature < lowest:
            what, mend = (
                (f"rank {self.capacity} of a full buffer", f" or lower capacity (now {self.capacity})")
                if by_rank
                else ("a level with half the best score", "")
            )
            raise UserError(
                f"BufferConfig.temperature is {self.temperature:g}, so small that the weight of {what} underflows in "
                f"float32: set it to at least {math.ceil(lowest * 1e4) / 1e4:g}{mend}."
            )


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One training run: B environments, S steps each, per cycle.

    Attributes:
        env: the maze.
        student: the network.
        ppo: the learner.
        buffer: the level buffer; unused by methods that keep no levels.
        method: a name of `minimax_ued.methods.METHODS`.
        score: a name of `minimax_ued.scores.SCORES`; unused by methods that keep no levels.
        n_envs: B, environments rolled out at once, and levels drawn per cycle.
        rollout_steps: S, steps of each environment per cycle.
        levels_ahead: levels that methods with a fresh level for each episode draw ahead of need, per environment.
            Changes the speed only.
        total_env_steps: student steps of the whole run, per seed; rounded up to whole dispatches.
        cycles_per_step: cycles fused into one dispatch, that is, per call of `UEDTrainer.step`.
        seeds: independent runs trained at once by vmap.
        devices: devices over which the environments are split.
    """

    env: MazeConfig = field(default_factory=MazeConfig)
    student: StudentConfig = field(default_factory=StudentConfig)
    ppo: PPOConfig = field(default_factory=PPOConfig)
    buffer: BufferConfig = field(default_factory=BufferConfig)
    method: str = "dr"
    score: str = "max_mc"
    n_envs: int = 32
    rollout_steps: int = 256
    levels_ahead: int = 8
    total_env_steps: int = 245_760_000
    cycles_per_step: int = 16
    seeds: int = 1
    devices: int = 1

    def __post_init__(self) -> None:
        _check_int(self, "n_envs", "rollout_steps", "levels_ahead", "cycles_per_step", "seeds", "devices", low=1)
        _check_int(self, "total_env_steps", low=1, high=2**62)
        method = get_method(self.method)
        for part, name in ((self.ppo.minibatches, "ppo.minibatches"), (self.devices, "devices")):
            if self.n_envs % part:
                raise UserError(
                    f"TrainConfig.n_envs is {self.n_envs}, which {name} = {part} does not divide: whole environments "
                    f"are shared out, so set n_envs to {math.ceil(self.n_envs / part) * part} or change {name}."
                )
        if self.rollout_steps < self.env.max_steps:
            raise UserError(
                f"TrainConfig.rollout_steps is {self.rollout_steps}, shorter than an episode of up to env.max_steps = "
                f"{self.env.max_steps}, and every rollout starts with new episodes, so that a long one would never be "
                f"finished or scored: set rollout_steps to at least {self.env.max_steps} or lower env.max_steps."
            )
        if method.curated:
            if self.buffer.capacity < self.n_envs:
                raise UserError(
                    f"TrainConfig.buffer.capacity is {self.buffer.capacity}, but a cycle draws n_envs = {self.n_envs} "
                    f"levels: set buffer.capacity to at least {self.n_envs}."
                )
            if "fresh" not in method.gradient and self.buffer.replay_prob == 0:
                raise UserError(
                    f"TrainConfig.method is {self.method!r}, which learns from replayed levels only, but "
                    "buffer.replay_prob is 0: set it above 0 or choose another method."
                )

    @property
    def method_spec(self) -> Method:
        """The declaration that `method` names."""
        return get_method(self.method)

    @property
    def steps_per_rollout(self) -> int:
        """Environment steps of one rollout of all environments: B x S."""
        return self.n_envs * self.rollout_steps

    @property
    def total_cycles(self) -> int:
        """Cycles that `total_env_steps` takes, rounded up to whole dispatches."""
        return self.num_steps * self.cycles_per_step

    @property
    def num_steps(self) -> int:
        """Dispatches (calls of `UEDTrainer.step`) that `total_env_steps` takes, rounded up."""
        return math.ceil(self.total_env_steps / (self.steps_per_rollout * self.cycles_per_step))


_SMALL = TrainConfig(
    env=MazeConfig(height=7, width=7, n_walls=14, max_steps=64),
    student=StudentConfig(features=64),
    ppo=PPOConfig(lr=1e-3, epochs=4, minibatches=4, bootstrap_timeouts=False),
    buffer=BufferConfig(capacity=1024),
    n_envs=128,
    rollout_steps=64,
    total_env_steps=600_000,
    cycles_per_step=15,
)
_MAZE13_DR = TrainConfig(ppo=PPOConfig(bootstrap_timeouts=False))
_MAZE13_PLR = TrainConfig(
    ppo=PPOConfig(lr=3e-4, gamma=0.999, entropy_coef=0.0, bootstrap_timeouts=False),
    method="plr",
    score="max_mc",
)

#: Named configurations. `maze13_*` are those shipped with the reference implementation (Jiang et al. 2023, minimax
#: 0.2.0): 30,000 gradient updates of 32 x 256 steps. Robust PLR makes an update in half of its cycles only, so that as
#: many updates take twice the environment steps. `small*` learn in about a minute of two CPU cores, `cpu13_dr` learns
#: the full-sized mazes in minutes.
PRESETS: dict[str, TrainConfig] = {
    "small": _SMALL,
    "small_plr": dataclasses.replace(_SMALL, method="plr"),
    "small_robust_plr": dataclasses.replace(_SMALL, method="robust_plr", total_env_steps=1_200_000),
    "maze13_dr": _MAZE13_DR,
    "maze13_plr": _MAZE13_PLR,
    "maze13_robust_plr": dataclasses.replace(_MAZE13_PLR, method="robust_plr", total_env_steps=2 * 245_760_000),
    "cpu13_dr": dataclasses.replace(
        _SMALL,
        env=MazeConfig(),
        buffer=BufferConfig(),
        rollout_steps=256,
        total_env_steps=5_000_000,
        cycles_per_step=8,
    ),
}
