"""Settings of what keeps levels: the buffer, the choice of learnable levels, the learned distribution."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from minimax_ued.settings.counts import Count
from paperloop.settings import Ge, Le, Note, NotNegative, Positive, PositiveShare, Share, fault, settings

__all__ = ["BufferConfig", "DistributionConfig", "LearnableConfig"]


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
