"""Sampling for learnability (SFL): the levels that the student sometimes solves and sometimes does not.

Rutherford et al. 2024, arXiv 2408.15099, algorithm 1. From time to time many random levels are played; the most
learnable are kept, and part of each cycle's levels is drawn from them uniformly.

As in the paper's code, p is pooled over the episodes that fit into a fixed number of steps (there the first ten of
them, here all), which flatters levels that are solved fast; see `minimax_ued.curricula.trials`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from minimax_ued.config import SFLConfig
from minimax_ued.curricula.trials import play_trials
from minimax_ued.envs.base import Environment
from minimax_ued.learning.layout import Constraint, unconstrained
from minimax_ued.nets.students import Student

__all__ = ["LearnableSet", "LearnableState", "most_learnable"]


class LearnableState(struct.PyTreeNode):
    """The levels kept, N of them, the most learnable first.

    Attributes:
        levels: leading axis N.
        scores: f32[N], p (1 - p) of each at the last refresh, in [0, 1/4]; 0 before the first.
        filled: bool[N], false before the first refresh.
    """

    levels: Any
    scores: Array
    filled: Array


def most_learnable(key: Array, scores: Array, n: int) -> Array:
    """Return i32[n], where the `n` highest of `scores` (f32[N]) are, best first; `key` decides between equal ones."""
    lot = jax.random.bits(key, scores.shape)
    return jnp.lexsort((lot, -scores))[:n]


@dataclass(frozen=True)
class LearnableSet:
    """A curator (`minimax_ued.curricula.curators.Curator`) that keeps the most learnable of many random levels.

    With p the part of finished episodes that succeed, learnability is p (1 - p), the variance of success. It is the
    same for many levels, 0 above all. Which of equally learnable levels are kept is left to chance.

    Attributes:
        config: the sizes.
        env: the environment.
        student: the network.
        constrain: `constrain(tree, axis)` says how the environment axis is laid out over devices.
    """

    config: SFLConfig
    env: Environment
    student: Student
    constrain: Constraint = unconstrained

    def init(self, key: Array, example_level: Any) -> LearnableState:
        """Return the state before the first refresh. It holds no levels: `sample` would give `example_level`."""
        del key
        n = self.config.capacity
        levels = jax.tree.map(lambda x: jnp.broadcast_to(x, (n, *jnp.shape(x))), example_level)
        return LearnableState(levels=levels, scores=jnp.zeros(n), filled=jnp.zeros(n, bool))

    def refresh(self, state: LearnableState, key: Array, params: Any) -> LearnableState:
        """Draw `candidates` random levels, play each `steps` steps, and keep the `capacity` most learnable.

        Nothing is taken over from `state`. All candidates are held at once, but played batch by batch.
        """
        del state
        config = self.config
        level_key, play_key, tie_key = jax.random.split(key, 3)
        levels = jax.vmap(self.env.sample_level)(jax.random.split(level_key, config.candidates))
        played = play_trials(
            self.env,
            self.student,
            params,
            play_key,
            levels,
            steps=config.steps,
            batch=config.batch,
            constrain=self.constrain,
        )
        scores = played.learnability
        best = most_learnable(tie_key, scores, config.capacity)
        return LearnableState(
            levels=jax.tree.map(lambda x: x[best], levels),
            scores=scores[best],
            filled=jnp.ones(config.capacity, bool),
        )

    def sample(self, key: Array, state: LearnableState, n: int) -> tuple[Array, Any]:
        """Draw `n` slots (i32[n]) uniformly, with replacement, and return them with their levels."""
        slots = jax.random.randint(key, (n,), 0, self.config.capacity)
        return slots, jax.tree.map(lambda x: x[slots], state.levels)

    def metrics(self, state: LearnableState) -> dict[str, Array]:
        """Return the mean learnability of the levels kept, its extremes, and the part of them above 0."""
        return {
            "score_mean": state.scores.mean(),
            "score_max": state.scores.max(),
            "score_min": state.scores.min(),
            "positive": (state.scores > 0).mean(dtype=jnp.float32),
        }
