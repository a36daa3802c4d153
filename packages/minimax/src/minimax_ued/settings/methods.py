"""Methods of unsupervised environment design as settings: where levels come from, what is kept, what is learned from.

All methods share one training cycle (`minimax_ued.cycle`), which reads nothing of a method but these settings. What a
source gives is rolled out; "fresh" levels come from the generator or the teacher, "replay" from what is kept, and
"mutation" from replayed levels by small edits.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from minimax_ued.settings.counts import Count
from minimax_ued.settings.curricula import BufferConfig, MutationConfig
from minimax_ued.settings.learners import TeacherConfig
from paperloop.settings import Ge, Le, Note, NotNegative, Positive, PositiveShare, Share, fault, settings

__all__ = ["Curator", "DRConfig", "NCCConfig", "ReplayConfig", "SFLConfig", "Source", "TaughtConfig"]

Source = Literal["fresh", "replay", "mutation"]

#: What keeps levels. `none`: nothing does. `buffer`: the scored level buffer of prioritised level replay. `learnable`:
#: the most learnable of many random levels, chosen again from time to time. `distribution`: a buffer with a learned
#: distribution over it. Where something does, and where a teacher made it, a rollout restarts the same level after each
#: episode, so that its score is about that level; otherwise each episode has a level of its own.
Curator = Literal["none", "buffer", "learnable", "distribution"]


class _Rules:
    """What the cycle derives from a method's settings.

    All have

    - `curator`, what keeps levels, and `refresh_every`, cycles from one refresh of it to the next, 0 for none;
    - `gradient`, the sources whose rollouts train the students; the others are played, scored and offered only;
    - `buffer`, `mutation` and `teacher`, each None where the method has none;
    - `students`, how many learn side by side, and `parallel`, whether all sources are rolled out in each cycle.
    """

    @property
    def alternates(self: Any) -> bool:
        """Whether a cycle draws lots between fresh and replayed levels."""
        return self.curator == "buffer" and not self.parallel

    @property
    def replays(self: Any) -> bool:
        """Whether levels are replayed from a scored buffer, once it is filled enough."""
        return self.buffer is not None and self.buffer.replay_prob != 0

    @property
    def explores(self: Any) -> bool:
        """Whether edits of replayed levels are played in a rollout of their own."""
        return self.mutation is not None and not self.parallel

    @property
    def parts(self: Any) -> int:
        """Batches of B environments that are rolled out side by side in one cycle."""
        return 2 + (self.mutation is not None) if self.parallel else 1

    @property
    def learned_parts(self: Any) -> tuple[int, ...]:
        """Which of these batches the students learn from."""
        sources: tuple[Source, ...] = ("fresh", "replay", "mutation")
        learned = tuple(i for i, source in enumerate(sources[: self.parts]) if source in self.gradient)
        return learned if self.parallel else (0,)

    @property
    def always_learns(self: Any) -> bool:
        """Whether every cycle updates the students, whatever the lot and however full the buffer."""
        if self.buffer is None:
            return True
        return "fresh" in self.gradient and (self.parallel or "replay" in self.gradient)


@settings
class DRConfig(_Rules):
    """Domain randomisation: a fresh random level for every episode."""

    type: Literal["dr"] = "dr"

    curator: ClassVar[Curator] = "none"
    gradient: ClassVar[frozenset[Source]] = frozenset({"fresh"})
    buffer: ClassVar[None] = None
    mutation: ClassVar[None] = None
    teacher: ClassVar[None] = None
    students: ClassVar[int] = 1
    parallel: ClassVar[bool] = False
    refresh_every: ClassVar[int] = 0

    @property
    def name(self) -> str:
        """In tables."""
        return "dr"


@settings
class ReplayConfig(_Rules):
    """Prioritised level replay, and with mutations ACCEL (Jiang et al. 2021 and 2023, Parker-Holder et al. 2022).

    Attributes:
        learns_from: the replayed levels alone, so that fresh ones are only scored (robust replay), or all.
        buffer: what keeps levels, and how often they are replayed.
        mutation: how replayed levels are edited and offered to the buffer (None: they are not).
    """

    type: Literal["plr"] = "plr"
    learns_from: Literal["replayed", "all"] = "replayed"
    buffer: BufferConfig = BufferConfig()
    mutation: MutationConfig | None = None

    curator: ClassVar[Curator] = "buffer"
    teacher: ClassVar[None] = None
    students: ClassVar[int] = 1
    refresh_every: ClassVar[int] = 0

    def __post_init__(self) -> None:
        if self.learns_from == "replayed" and self.buffer.replay_prob == 0:
            raise fault(self, "buffer.replay_prob", "above 0 where {learns_from} is 'replayed'")
        if self.parallel and self.mutation is not None and self.mutation.parents != "batch":
            rule = "'batch' where {buffer.replay_prob} is 'parallel': no level is known to be easy or hard before it is"
            raise fault(self, "mutation.parents", f"{rule} played")

    @property
    def parallel(self) -> bool:
        """Whether levels of all sources are rolled out in each cycle, side by side."""
        return self.buffer.replay_prob == "parallel"

    @property
    def gradient(self) -> frozenset[Source]:
        """The sources whose rollouts train the students."""
        return frozenset({"replay"}) if self.learns_from == "replayed" else frozenset({"fresh", "replay"})

    @property
    def name(self) -> str:
        """In tables."""
        if self.parallel or self.mutation is not None:
            return "parallel_" * self.parallel + ("plr" if self.mutation is None else "accel")
        return "robust_plr" if self.learns_from == "replayed" else "plr"


@settings
class TaughtConfig(_Rules):
    """A learning teacher builds the levels: PAIRED and its kin (Dennis et al. 2020, arXiv 2012.02096).

    Attributes:
        objective: what the teacher is rewarded by: regret between the antagonist (student 1) and the protagonist
            (student 0), between the best of several and their mean, or what the students reach or fail to.
        students: how many learn side by side.
        teacher: its network, its learner, and the environment in which it builds.
        buffer: where it is given, its levels are only scored and kept, and the students learn from replayed ones
            (REPAIRED; None: they learn from its levels).
    """

    type: Literal["paired"] = "paired"
    objective: Literal["relative_regret", "mean_relative_regret", "population_regret", "return", "neg_return"] = (
        "relative_regret"
    )
    students: Count = 2
    teacher: TeacherConfig = TeacherConfig()
    buffer: BufferConfig | None = None

    mutation: ClassVar[None] = None
    parallel: ClassVar[bool] = False
    refresh_every: ClassVar[int] = 0

    def __post_init__(self) -> None:
        wanted = {"relative_regret": "2", "mean_relative_regret": "2", "population_regret": "at least 2"}
        rule = wanted.get(self.objective, "at least 1")
        if self.students != 2 and (rule == "2" or (rule == "at least 2" and self.students < 2)):
            raise fault(self, "students", f"{rule} where {{objective}} is {self.objective}")
        if self.buffer is not None and self.buffer.replay_prob in (0, "parallel"):
            raise fault(self, "buffer.replay_prob", "a number above 0 where a teacher makes the levels")

    @property
    def curator(self) -> Curator:
        """What keeps levels."""
        return "none" if self.buffer is None else "buffer"

    @property
    def gradient(self) -> frozenset[Source]:
        """The sources whose rollouts train the students."""
        return frozenset({"fresh"}) if self.buffer is None else frozenset({"replay"})

    @property
    def name(self) -> str:
        """In tables."""
        if self.buffer is not None:
            return "repaired"
        return {"neg_return": "minimax", "population_regret": "population_paired"}.get(self.objective, "paired")


@settings
class SFLConfig(_Rules):
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

    type: Literal["sfl"] = "sfl"
    capacity: Count = 1000
    candidates: Count = 25_000
    batch: Count = 5000
    steps: Count = 2000
    refresh_every: Count = 100
    kept_part: Share = 0.5

    curator: ClassVar[Curator] = "learnable"
    buffer: ClassVar[None] = None
    mutation: ClassVar[None] = None
    teacher: ClassVar[None] = None
    students: ClassVar[int] = 1
    parallel: ClassVar[bool] = False
    gradient: ClassVar[frozenset[Source]] = frozenset({"fresh", "replay"})

    def __post_init__(self) -> None:
        if self.candidates < self.capacity:
            raise fault(self, "candidates", f"at least {{capacity}} = {self.capacity}")
        if self.candidates % self.batch:
            raise fault(self, "batch", f"a divisor of {{candidates}} = {self.candidates}")

    @property
    def name(self) -> str:
        """In tables."""
        return "sfl"


@settings
class NCCConfig(_Rules):
    """A learned distribution over kept levels (Monette et al. 2025, arXiv 2505.20659).

    Attributes:
        capacity: levels kept.
        batch: of them, how many are played side by side when all are scored again; divides `capacity`.
        trials: times each is played for its score, `rollout_steps` steps each, of which the first episode counts.
        refresh_every: cycles from one update of the distribution to the next. The source makes one in each cycle,
            which costs `trials` x `capacity` / B times the environment steps of learning.
        lr: step size of the ascent, before it is scaled by the accumulated squared gradients (TiAda).
        entropy: weight of the distribution's entropy.
        truncation: smallest probability of a level.
    """

    type: Literal["ncc"] = "ncc"
    capacity: Count = 4000
    batch: Count = 1000
    trials: Annotated[int, Ge(2), Le(2**31 - 1), Note("one says nothing: p (1 - p) of one episode is 0")] = 5
    refresh_every: Count = 1
    lr: Positive = 0.1
    entropy: NotNegative = 0.05
    truncation: PositiveShare = 1e-5

    curator: ClassVar[Curator] = "distribution"
    buffer: ClassVar[None] = None
    mutation: ClassVar[None] = None
    teacher: ClassVar[None] = None
    students: ClassVar[int] = 1
    parallel: ClassVar[bool] = False
    gradient: ClassVar[frozenset[Source]] = frozenset({"replay"})

    def __post_init__(self) -> None:
        if self.truncation * self.capacity > 1:
            raise fault(self, "truncation", f"at most 1 / {{capacity}} = {1 / self.capacity:g}")
        if self.capacity % self.batch:
            raise fault(self, "batch", f"a divisor of {{capacity}} = {self.capacity}")

    @property
    def name(self) -> str:
        """In tables."""
        return "ncc"
