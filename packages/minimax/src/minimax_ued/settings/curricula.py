"""Settings of the scored level buffer, and of how levels are edited."""

from __future__ import annotations

import math
from typing import Literal

from minimax_ued.settings.counts import Count
from paperloop.settings import Positive, Share, fault, settings

__all__ = ["BufferConfig", "MutationConfig"]


@settings
class BufferConfig:
    """The level buffer (Jiang et al. 2021, arXiv 2010.03934 and 2110.02439).

    Attributes:
        score: what a level is worth, a name of `minimax_ued.replay.scores.SCORES`.
        capacity: N, levels kept.
        replay_prob: p, probability that a cycle replays once the buffer is filled enough; "parallel" to roll out fresh
            and replayed levels in every cycle, side by side (Jiang et al. 2023, arXiv 2311.12716).
        staleness_coef: rho, weight of the staleness distribution.
        temperature: beta of the score distribution, by rank; small is greedy.
        ties: what ranks do with equal scores. "slot", the reference's way, gives the lower slot the better rank.
            "share" gives each the mean weight of the ranks they hold together; choose it for scores with few values,
            such as learnability, where otherwise the slot number decides.
        min_fill: part of the capacity that must be filled before the first replay.
    """

    score: str = "max_mc"
    capacity: Count = 4000
    replay_prob: Share | Literal["parallel"] = 0.5
    staleness_coef: Share = 0.3
    temperature: Positive = 0.3
    ties: Literal["slot", "share"] = "slot"
    min_fill: Share = 0.5

    def __post_init__(self) -> None:
        # exp(-87) is the last whole power of e above the smallest normal float32; XLA flushes what is below to zero.
        # The weight of the last of N ranks, N ** (-1 / temperature), must stay above it.
        lowest = math.log(self.capacity) / 87.0
        if self.temperature < lowest:
            raise fault(
                self,
                "temperature",
                text=f"{{temperature}} is {self.temperature:g}, so small that the weight of rank {self.capacity} of a "
                f"full buffer underflows in float32: set it to at least {math.ceil(lowest * 1e4) / 1e4:g} or lower "
                f"{{capacity}} (now {self.capacity}).",
            )

    @property
    def lot(self) -> float:
        """The probability that a cycle replays, of methods that draw lots between fresh and replayed levels."""
        return 1.0 if isinstance(self.replay_prob, str) else self.replay_prob

    @property
    def first_replay(self) -> int:
        """Levels that the buffer holds at the first replay: `min_fill` of the capacity, and at least one."""
        # Whole slots, so that rounding of the ratio cannot delay the start: .7 of 10 is 7 slots, not 8.
        return max(1, math.ceil(self.min_fill * self.capacity - 1e-6))


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
