"""Planning within a latency budget: fewer samples, and greedy decoding when time is short."""

from __future__ import annotations

import time
from typing import Any

import jax

from hgap.config import PlanConfig, Sampling
from hgap.envs.objectives import Objective
from hgap.loading import Model
from hgap.planner.plan import Memory, Plan, Planner
from paperloop.settings import replace_in

__all__ = ["Budgeted"]


class Budgeted:
    """A planner that keeps to a budget as well as it can, and is called like `Planner`.

        planner = Budgeted(load("runs/cheetah"), OBJECTIVES["forward"], seconds=0.03)
        memory, plan = planner(planner.start(1), observations)
        planner.samples        # 64, or 16, or 1: greedy decoding, the likeliest codes

    A compiled program cannot be stopped half-way. So there is one for `config.samples`, one for a quarter of them, and
    one for greedy decoding; all are compiled before the first plan. Two plans in a row above the budget are followed by
    the next smaller program. After `patience` plans in a row that took less than a sixth of the budget, the next larger
    one, which takes about four times as long, is tried again.

    Args:
        model: what to plan with.
        objective: as for `Planner`.
        config: of the largest program.
        seconds: the budget of a plan, from observations in host memory to the action in host memory.
        patience: plans.
        clock: tells the time, in seconds.
    """

    def __init__(
        self, model: Model, objective: Objective, config: PlanConfig | None = None, *, seconds: float,
        patience: int = 50, clock: Any = time.perf_counter,
    ) -> None:  # fmt: skip
        config = config or PlanConfig()
        small = {"search": Sampling(top_p=config.search.top_p, temperature=config.search.temperature)}
        greedy = {"search": Sampling(temperature=0.0), "samples": 1, "warm_start": False}
        quarter = small | {"samples": max(1, config.samples // 4)}
        settings = (config, *(replace_in(config, changes) for changes in (quarter, greedy)))
        self._planners = [Planner(model, objective, each) for each in settings]
        self._seconds, self._patience, self._clock = seconds, patience, clock
        self._level = self._late = self._early = 0
        self._ready = False
        self.late = 0  #: plans that took longer than the budget

    @property
    def samples(self) -> int:
        """Samples of the present program; 1 is greedy decoding."""
        return self._planners[self._level].config.samples

    def start(self, environments: int, seed: int | None = None) -> Memory:
        """Return the memory before the first plan."""
        return self._planners[0].start(environments, seed)

    def __call__(self, memory: Memory, observations: Any) -> tuple[Memory, Plan]:
        """Plan once; see `Planner`."""
        if not self._ready:
            for planner in self._planners:
                jax.block_until_ready(planner(memory, observations))
            self._ready = True
        begin = self._clock()
        memory, plan = self._planners[self._level](memory, observations)
        jax.block_until_ready(plan.action)
        self._note(self._clock() - begin)
        return memory, plan

    def _note(self, took: float) -> None:
        over = took > self._seconds
        self.late += over
        self._late = self._late + 1 if over else 0
        self._early = self._early + 1 if took < self._seconds / 6 else 0
        if self._late >= 2 and self._level < len(self._planners) - 1:
            self._level, self._late, self._early = self._level + 1, 0, 0
        elif self._early >= self._patience and self._level > 0:
            self._level, self._late, self._early = self._level - 1, 0, 0
