"""The collapse detector: watches the returns of training episodes, and orders the policy home when they collapse.

It costs no environment steps: exploration episodes are what it sees. The start is the mean return of the episodes that
the frozen policy finished during the warm-up. Where it finished none, it is that of the first `GuardConfig.episodes`
ones, which the policy learned in. Only episodes that finish after the start is known are held against it. Episodes that
began with uniform actions say nothing of the policy, and count for neither.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from policy_finetune.config import GuardConfig
from policy_finetune.envs.pool import EnvState
from policy_finetune.learners.base import LearnerState, select

__all__ = ["Guard", "GuardState", "carried_out"]

#: Finished episodes whose mean is logged, and whose mean makes a policy "best".
WINDOW = 10


@dataclasses.dataclass
class GuardState:
    """What is remembered of training episodes; arrays over A agents.

    Attributes:
        recent: (A, window) f64, returns of the last finished episodes, newest last; NaN where there were fewer.
        lengths: (A, window) f64, their lengths.
        episodes: (A,) i64, finished episodes in all.
        start_sum: (A,) f64, sum of returns of the episodes that define the start ...
        start_count: (A,) i64, ... and their number.
        fresh: (A,) i64, episodes finished since the start was known, or since the last order.
        best: (A,) f64, best mean of the window so far, the start's to begin with; -inf until the start is known.
        returned: (A,) i64, orders to go home so far.
    """

    recent: np.ndarray
    lengths: np.ndarray
    episodes: np.ndarray
    start_sum: np.ndarray
    start_count: np.ndarray
    fresh: np.ndarray
    best: np.ndarray
    returned: np.ndarray


class Guard:
    """Decides after each block; pure bookkeeping on the host.

    Args:
        config: the detector; None orders nobody home.
        best: for each agent, whether its constraint holds on to its best policy.
        random_return: what a random policy gets; the start's distance to it is the scale of a collapse.
    """

    def __init__(self, config: GuardConfig | None, best: Sequence[bool], random_return: float = 0.0) -> None:
        self.enabled, self.config = config is not None, config or GuardConfig()
        self.best = np.array(best)
        self.random_return = random_return
        self.window = max(WINDOW, self.config.episodes)

    @property
    def needs_home(self) -> bool:
        """Whether a remembered actor is needed at all."""
        return self.enabled or bool(self.best.any())

    def init(self, agents: int) -> GuardState:
        """Return the state before the first episode."""
        empty = np.full((agents, self.window), np.nan)
        zeros = [np.zeros(agents, np.int64) for _ in range(4)]
        return GuardState(
            recent=empty, lengths=empty.copy(), episodes=zeros[0], start_sum=np.zeros(agents), start_count=zeros[1],
            fresh=zeros[2], best=np.full(agents, -np.inf), returned=zeros[3],
        )  # fmt: skip

    def watch(
        self, state: GuardState, finished: Sequence[Any], learning: bool, uniform: Sequence[bool] | None = None
    ) -> tuple[GuardState, dict[str, np.ndarray] | None]:
        """Take a block's finished episodes; return the state and the orders, or None where there are none.

        Orders are booleans (A,): `remember` the actor, `go_home` to the remembered one; `best` repeats which agents'
        reference follows the remembered one.

        Args:
            state: what was remembered so far.
            finished: (agent, return, length) of each episode.
            learning: whether the block had updates.
            uniform: for each episode, whether it began with uniform actions; None: none did.
        """
        new = dataclasses.replace(state, **{f.name: getattr(state, f.name).copy() for f in dataclasses.fields(state)})
        for (agent, gained, length), foreign in zip(finished, uniform or [False] * len(finished), strict=True):
            for array, value in ((new.recent, gained), (new.lengths, length)):
                array[agent] = np.roll(array[agent], -1)
                array[agent, -1] = value
            new.episodes[agent] += 1
            if foreign:
                continue
            if learning and np.isfinite(new.best[agent]):
                new.fresh[agent] += 1
                continue
            new.start_sum[agent] += gained
            new.start_count[agent] += 1
            if not learning or new.start_count[agent] == self.config.episodes:
                new.best[agent] = new.start_sum[agent] / new.start_count[agent]
        if not self.needs_home or not learning:
            return new, None
        count = self.config.episodes
        enough = new.fresh >= count
        mean = new.recent[:, -count:].mean(1)  # NaN, and so never compared as true, before there are enough
        remember = enough & (mean > new.best) & self.best
        new.best = np.where(remember, mean, new.best)
        go_home = np.zeros(len(remember), bool)
        if self.enabled:
            start = new.start_sum / np.maximum(new.start_count, 1)
            floor = start - self.config.drop * np.abs(start - self.random_return)
            go_home = enough & (mean < floor) & (new.returned < self.config.max_returns)
        new.returned = new.returned + go_home
        new.fresh = np.where(go_home | remember, 0, new.fresh)
        if not (remember.any() or go_home.any()):
            return new, None
        return new, {"remember": remember, "go_home": go_home, "best": self.best}

    def metrics(self, state: GuardState, env: EnvState) -> dict[str, np.ndarray]:
        """Return `return`, `length`, `episodes` and `returned`, (A,) each, finite from the first block on."""
        recent, lengths = state.recent[:, -WINDOW:], state.lengths[:, -WINDOW:]
        none = np.isnan(recent).all(1)
        count = np.maximum((~np.isnan(recent)).sum(1), 1)
        out = {
            "return": np.where(none, env.episode_return, np.nansum(recent, 1) / count),
            "length": np.where(none, env.step, np.nansum(lengths, 1) / count),
            "episodes": state.episodes.astype(np.float64),
        }
        if self.enabled:
            out["returned"] = state.returned.astype(np.float64)
        return out


def carried_out(learner: LearnerState, home: Any, orders: Any, *, nu_boost: float) -> tuple[LearnerState, Any]:
    """Return one agent's learner and home after the guard's orders: remember this actor, or go home.

    Args:
        learner: the agent.
        home: the actor to return to.
        orders: what `Guard.watch` ordered, bool[] each.
        nu_boost: added to ν at each return, where there is a constraint.
    """
    actor = learner.params["actor"]
    home = select(orders["remember"], actor, home)
    back = orders["go_home"]
    params = learner.params | {"actor": select(back, home, actor)}
    moments = learner.opt["actor"]
    opt = learner.opt | {"actor": select(back, jax.tree.map(jnp.zeros_like, moments), moments)}
    target = dict(learner.target)
    if "actor" in target:
        target["actor"] = select(back, home, target["actor"])
    reference = learner.reference
    if reference is not None:
        # The reference "best" is the remembered actor; any other goes home with the policy.
        reference = select(orders["remember"] & orders["best"], actor, reference)
        reference = select(back, home, reference)
        params["nu"] = params["nu"] + jnp.where(back, nu_boost, 0.0)
    return learner.replace(params=params, opt=opt, target=target, reference=reference), home
