"""Configuration of environments, students, PPO, the level buffer and a training run; and named presets.

Nothing here imports jax.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

from minimax_ued.methods import METHODS, Method, get_method
from minimax_ued.support.readiness import check_readiness
from paperloop.settings import (
    Ge,
    Gt,
    Le,
    Lt,
    Note,
    NotNegative,
    Positive,
    PositiveShare,
    Share,
    did_you_mean,
    fault,
    settings,
)

__all__ = [
    "BufferConfig",
    "CartPoleConfig",
    "DistributionConfig",
    "EditorConfig",
    "LearnableConfig",
    "MazeConfig",
    "MutationConfig",
    "PPOConfig",
    "S5Config",
    "StudentConfig",
    "TeacherConfig",
    "TrainConfig",
]

#: Counts, which must fit the device's 32-bit integers.
Count = Annotated[int, Ge(1), Le(2**31 - 1)]
CountOrZero = Annotated[int, Ge(0), Le(2**31 - 1)]
Several = Annotated[int, Ge(2), Le(2**31 - 1)]


@settings
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

    height: Annotated[int, Ge(1), Le(255)] = 13
    width: Annotated[int, Ge(1), Le(255)] = 13
    n_walls: CountOrZero = 60
    replace_walls: bool = True
    sample_n_walls: bool = False
    view_size: Annotated[int, Ge(3), Le(15)] = 5
    see_through_walls: bool = True
    see_agent: bool = False
    normalize: bool = True
    max_steps: Count = 250

    def __post_init__(self) -> None:
        if self.view_size % 2 == 0:
            raise fault(self, "view_size", "odd, because the agent stands in the middle column of its view")
        cells = self.height * self.width
        if cells < 2:
            raise fault(
                self,
                "height",
                text=f"{{height}} x {{width}} is {self.height} x {self.width}, but a maze needs at least two cells: "
                "one for the agent and one for the goal.",
            )
        if self.n_walls > cells - 2:
            room = f"at most {cells - 2}, so that {self.height} x {self.width} cells keep room for agent and goal"
            raise fault(self, "n_walls", room)


@settings
class CartPoleConfig:
    """CartPole of gymnax with its physics as the level (extra `gymnax`).

    A level is a point in the unit cube; each coordinate is one physical constant on a logarithmic scale between its
    nominal value divided by `spread` and times `spread`.

    Attributes:
        spread: the largest factor between a constant and its nominal value; above 1.
        max_steps: T, steps after which an episode is cut off.
        success: part of T that a successful episode lasts longer than; below 1.
    """

    spread: Annotated[float, Gt(1), Le(100)] = 4.0
    max_steps: Count = 200
    success: Annotated[float, Ge(0), Lt(1), Note("no episode lasts longer than T")] = 0.95


@settings
class S5Config:
    """Simplified state-space layers (Smith, Warrington and Linderman 2023, arXiv 2208.04933).

    Attributes:
        layers: layers on top of one another.
        state: state size of a layer, before conjugate symmetry halves it.
        blocks: blocks of the HiPPO initialisation; divides `state` into even parts.
        norm: layer normalisation after the residual sum, or before the layer.
        dt_min: smallest initial step size.
        dt_max: largest initial step size.
    """

    layers: Count = 2
    state: Count = 256
    blocks: Count = 2
    norm: Literal["post", "pre"] = "post"
    dt_min: Positive = 1e-3
    dt_max: Positive = 1e-1

    def __post_init__(self) -> None:
        if self.dt_min > self.dt_max:
            raise fault(self, "dt_min", f"at most {{dt_max}} = {self.dt_max:g}")
        if self.state % (2 * self.blocks):
            raise fault(self, "state", f"a multiple of 2 x {{blocks}} = {2 * self.blocks}")


@settings
class StudentConfig:
    """The student network.

    Attributes:
        arch: the recurrent core.
        features: units of the recurrent core.
        conv_filters: filters of the 3x3 convolution over the view.
        head_width: hidden units of the policy head and of the value head.
        direction_embedding: width of the embedding of the direction the agent faces.
        dense_width: units of the layer that takes observations that are plain vectors.
        value_heads: value heads, trained side by side; their disagreement can be a score.
        dtype: precision of the matrix products; parameters and everything else stay float32.
        s5: the layers of the "s5" core; its width is `features`.
    """

    arch: Literal["lstm", "gru", "s5"] = "lstm"
    features: Count = 256
    conv_filters: Count = 16
    head_width: Count = 32
    direction_embedding: Count = 5
    dense_width: Count = 64
    value_heads: Count = 1
    dtype: Literal["float32", "bfloat16"] = "float32"
    s5: S5Config = S5Config()


@settings
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
        minibatches: parts of a rollout, by whole environments (by whole chunks, where there are several).
        chunks: parts into which the sequence of each environment is cut for learning, each started from the memory
            that the student had there when it acted. More chunks make shorter chains of dependent steps, faster where
            latency counts, at the price of memories that are stale after the first gradient step.
        max_grad_norm: limit of the global gradient norm.
        adam_eps: Adam's epsilon.
        bootstrap_timeouts: at an episode cut off by the step limit, continue with the value of its last observation
            instead of treating it as an end worth zero. The cost is one network evaluation per cut-off, not per step.
            The reference implementation treats time-outs as ends, and the presets that reproduce it do as well.
    """

    lr: Positive = 1e-4
    anneal_lr: bool = False
    gamma: Share = 0.995
    gae_lambda: Share = 0.98
    clip: Positive = 0.2
    clip_value: bool = True
    value_coef: NotNegative = 0.5
    entropy_coef: NotNegative = 1e-3
    epochs: Count = 5
    minibatches: Count = 1
    chunks: Count = 1
    max_grad_norm: Positive = 0.5
    adam_eps: Positive = 1e-5
    bootstrap_timeouts: bool = True


@settings
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
        sequential: draw and insert one level after the other, in the reference's order, instead of a batch at once.
            Ages are ours in either case: a new level has age 0, and does not inherit that of the level it replaces.
    """

    capacity: Count = 4000
    replay_prob: Share = 0.5
    staleness_coef: Share = 0.3
    temperature: Positive = 0.3
    prioritization: Literal["rank", "proportional"] = "rank"
    ties: Literal["slot", "share"] = "slot"
    min_fill: Share = 0.5
    deduplicate: bool = True
    sequential: bool = False

    def __post_init__(self) -> None:
        self._check_underflow()

    @property
    def first_replay(self) -> int:
        """Levels that the buffer holds at the first replay: `min_fill` of the capacity, and at least one."""
        # Whole slots, so that rounding of the ratio cannot delay the start: .7 of 10 is 7 slots, not 8.
        return max(1, math.ceil(self.min_fill * self.capacity - 1e-6))

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
            what, cure = (
                (f"rank {self.capacity} of a full buffer", f" or lower {{capacity}} (now {self.capacity})")
                if by_rank
                else ("a level with half the best score", "")
            )
            raise fault(
                self,
                "temperature",
                text=f"{{temperature}} is {self.temperature:g}, so small that the weight of {what} underflows in "
                f"float32: set it to at least {math.ceil(lowest * 1e4) / 1e4:g}{cure}.",
            )


@settings
class MutationConfig:
    """How ACCEL edits levels (Parker-Holder et al. 2022, arXiv 2203.01302).

    Attributes:
        operator: a name in the `mutations` of the environment.
        n_edits: edits of one mutation.
        parents: which replayed levels are edited: each of them, or the `n_parents` that the student finds easiest or
            hardest, each as often as the others. Easy means a high return and a low score.
        n_parents: how many levels "easy" and "hard" keep.
    """

    operator: str = "move_goal_flip_walls"
    n_edits: Count = 20
    parents: Literal["batch", "easy", "hard"] = "batch"
    n_parents: Count = 4


@settings
class EditorConfig:
    """The environment in which a teacher builds a maze, cell after cell.

    Attributes:
        n_walls: walls it may place.
        noise_dim: length of the random vector that the teacher sees, redrawn at each step.
        replace_walls: a wall on a wall has no effect; otherwise whatever is placed on a cell that is not free goes to
            a random free cell.
        budget: how many walls are placed: "all", or a part of `n_walls` that the position of the first wall or an
            action of its own before the first wall says.
        set_direction: the teacher chooses where the agent faces, in one more step; otherwise it is random.
    """

    n_walls: Count = 60
    noise_dim: CountOrZero = 50
    replace_walls: bool = True
    budget: Literal["all", "first_wall", "first_action"] = "all"
    set_direction: bool = False


@settings
class TeacherConfig:
    """The teacher of PAIRED and its kin: network, learner, and the environment in which it builds levels.

    Attributes:
        arch: the recurrent core.
        features: units of the recurrent core.
        conv_filters: filters of the 3x3 convolution over the whole map.
        head_width: hidden units of the policy head and of the value head.
        time_embedding: width of the embedding of the step.
        s5: the layers of the "s5" core.
        ppo: the learner.
        editor: how levels are built.
        objective: what the teacher is rewarded by, a name of `minimax_ued.teachers.regret.OBJECTIVES`; empty for
            the method's.
    """

    arch: Literal["lstm", "gru", "s5"] = "lstm"
    features: Count = 256
    conv_filters: Count = 128
    head_width: Count = 32
    time_embedding: Count = 10
    s5: S5Config = S5Config()
    ppo: PPOConfig = PPOConfig(entropy_coef=0.05)
    editor: EditorConfig = EditorConfig()
    objective: str = ""

    def __post_init__(self) -> None:
        if self.ppo.chunks != 1:
            raise fault(self, "ppo.chunks", "1, because a teacher learns from whole levels")


@settings
class LearnableConfig:
    """Sampling for learnability (Rutherford et al. 2024, arXiv 2408.15099).

    Attributes:
        capacity: levels kept: the most learnable ones.
        candidates: random levels looked at for each choice.
        batch: of them, how many are played side by side; divides `candidates`.
        steps: steps that each is played; at least twice as long as an episode, better several times: failures take
            the longest, and a level is only learnable if it shows both.
        refresh_every: cycles from one choice to the next.
        kept_part: part of a cycle's levels drawn from those kept; the others are random.
    """

    capacity: Count = 1000
    candidates: Count = 25_000
    batch: Count = 5000
    steps: Count = 2000
    refresh_every: Count = 100
    kept_part: Share = 0.5

    def __post_init__(self) -> None:
        if self.candidates < self.capacity:
            raise fault(self, "candidates", f"at least {{capacity}} = {self.capacity}")
        if self.candidates % self.batch:
            raise fault(self, "batch", f"a divisor of {{candidates}} = {self.candidates}")


@settings
class DistributionConfig:
    """A learned distribution over kept levels (Monette et al. 2025, arXiv 2505.20659).

    Attributes:
        capacity: levels kept.
        batch: of them, how many are played side by side when all are scored again; divides `capacity`.
        trials: times each is played for its score, `rollout_steps` steps each, of which the first episode counts.
        refresh_every: cycles from one update of the distribution to the next. The source makes one in each cycle,
            which costs `trials` x `capacity` / B times the environment steps of learning.
        lr: step size of the ascent.
        entropy: weight of the distribution's entropy.
        truncation: smallest probability of a level.
        adaptive: scale the ascent by the accumulated squared gradients (TiAda); otherwise plain ascent.
    """

    capacity: Count = 4000
    batch: Count = 1000
    trials: Annotated[int, Ge(2), Le(2**31 - 1), Note("one says nothing: p (1 - p) of one episode is 0")] = 5
    refresh_every: Count = 1
    lr: Positive = 0.1
    entropy: NotNegative = 0.05
    truncation: PositiveShare = 1e-5
    adaptive: bool = True

    def __post_init__(self) -> None:
        if self.truncation * self.capacity > 1:
            raise fault(self, "truncation", f"at most 1 / {{capacity}} = {1 / self.capacity:g}")
        if self.capacity % self.batch:
            raise fault(self, "batch", f"a divisor of {{capacity}} = {self.capacity}")


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
