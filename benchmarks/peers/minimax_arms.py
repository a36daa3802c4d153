"""The training cycles that the contestants are timed on: one table for both sides. Standard library only.

Settings are those that minimax-lib 0.2.0 ships for each method and architecture (its `configs/maze/*.json`): 32
environments x 256 steps, 5 epochs x 1 minibatch, 13x13 mazes, units of the recurrent core 256, heads 32.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable
from typing import Any

__all__ = ["ARMS", "FILL_CYCLES", "MIN_FILL", "Arm", "kinds", "measured"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arm:
    """One method with one architecture. Field names are those of the papers; see `minimax_ued.config`."""

    method: str
    arch: str
    lr: float
    gamma: float = 0.995
    entropy: float = 1e-3
    replay_prob: float = 0.0
    staleness: float = 0.0
    temperature: float = 0.0
    n_walls: int = 60
    n_edits: int = 0
    norm: str = "post"
    teacher_filters: int = 0
    teacher_entropy: float = 0.0
    #: Parameters of one student and of the teacher, for the check that all train the same network.
    parameters: int = 0
    teacher_parameters: int = 0

    @property
    def name(self) -> str:
        return f"{self.method.removeprefix('robust_')}-{self.arch}"

    @property
    def replays(self) -> bool:
        """Whether a cycle either looks at fresh levels or learns from replayed ones, by lot."""
        return self.replay_prob > 0


_LSTM, _S5 = 432_924, 451_612
_ARMS = (
    Arm(method="dr", arch="lstm", lr=1e-4, parameters=_LSTM),
    Arm(method="dr", arch="s5", lr=3e-5, parameters=_S5),
    Arm(
        method="robust_plr",
        arch="lstm",
        lr=3e-4,
        gamma=0.999,
        entropy=0.0,
        replay_prob=0.5,
        staleness=0.3,
        temperature=0.3,
        parameters=_LSTM,
    ),
    Arm(
        method="robust_plr",
        arch="s5",
        lr=1e-4,
        gamma=0.999,
        replay_prob=0.5,
        staleness=0.5,
        temperature=0.5,
        norm="pre",
        parameters=_S5,
    ),
    Arm(
        method="accel",
        arch="lstm",
        lr=3e-4,
        gamma=0.999,
        entropy=0.0,
        replay_prob=0.8,
        staleness=0.5,
        temperature=0.3,
        n_walls=0,
        n_edits=20,
        parameters=_LSTM,
    ),
    Arm(
        method="accel",
        arch="s5",
        lr=1e-4,
        replay_prob=0.5,
        staleness=0.3,
        temperature=0.1,
        n_walls=0,
        n_edits=10,
        parameters=_S5,
    ),
    Arm(
        method="paired",
        arch="lstm",
        lr=1e-4,
        teacher_filters=128,
        teacher_entropy=0.05,
        parameters=_LSTM,
        teacher_parameters=22_502_038,
    ),
    Arm(
        method="paired",
        arch="s5",
        lr=1e-4,
        teacher_filters=32,
        teacher_entropy=1e-3,
        parameters=_S5,
        teacher_parameters=1_819_670,
    ),
)
ARMS = {arm.name: arm for arm in _ARMS}

#: A buffer filled to this part replays. The shipped 0.5 takes 63 cycles of nothing but looking before the first update;
#: the work of a cycle does not depend on it.
MIN_FILL = 0.1
FILL_CYCLES = 16


def kinds(arm: Arm) -> dict[str, float]:
    """Kind of cycle -> its share in the method's own schedule once the buffer replays."""
    return {"learn": arm.replay_prob, "look": 1 - arm.replay_prob} if arm.replays else {"learn": 1.0}


def measured(arm: Arm, prepare: Callable[[str], Callable[[], Any]], repeats: dict[str, int]) -> dict[str, Any]:
    """Time single cycles of each kind and put them together by their shares.

    Args:
        arm: the arm.
        prepare: kind -> function that does one cycle of this kind and waits for the device; preparing is not timed.
        repeats: kind -> how many of them.

    Returns:
        work (1 cycle), wall_s and cpu_s (of an average cycle), and the times of each kind.
    """
    each: dict[str, Any] = {}
    for kind in kinds(arm):
        times = []
        for _ in range(repeats[kind]):
            cycle = prepare(kind)
            wall, cpu = time.perf_counter(), time.process_time()
            cycle()
            times.append((time.perf_counter() - wall, time.process_time() - cpu))
        each[kind] = dict(zip(("wall_s", "cpu_s"), map(statistics.fmean, zip(*times, strict=True)), strict=True))
    share = kinds(arm)
    total = {clock: sum(share[kind] * each[kind][clock] for kind in share) for clock in ("wall_s", "cpu_s")}
    return {"work": 1, **total, "kinds": each}
