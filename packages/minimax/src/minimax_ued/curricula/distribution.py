"""A learned distribution over kept levels (NCC), which climbs against the student.

Monette et al. 2025, arXiv 2505.20659: a game that is nonconvex in the student and concave in the adversary, whose move
is y, a distribution over N levels. With s the levels' scores, y moves by projected gradient ascent,

    y <- project(y + eta * precondition(gradient))        gradient = s - lambda (log y + 1)

on J(y) = y.s - lambda y.log y over {y : sum y = 1, y >= truncation}. The gradient is scaled slot by slot by
(0.1 + sum of all squared gradients of the slot) ** -0.4, the adversary's half of TiAda (Li et al. 2023, arXiv
2210.17478).

The released code was read for what the paper leaves open, and followed except where noted:

- Scores are learnability, p (1 - p), of all kept levels, replayed at each refresh. There a trial of
  `rollout_steps` steps that reaches the goal at all is one success; here p is the part of finished episodes.
- B fresh levels compete at each refresh: the best of them with the lowest-scored slot, the second with the second
  lowest, and so on. A fresh level must score strictly higher. This equals inserting them one by one, best first. Which
  of several equally low slots go first is left to chance; there it is the lower slot number.
- A slot that gets a new level keeps its probability and its sum of squared gradients.
- Levels to learn from are drawn from y, and from the levels, as they were before the last refresh: the two players
  move at once, as the theory wants.
- The game starts with N random levels and uniform y. Copies are not looked for.
- There the shared optimiser multiplies the step by -eta for the adversary too, and the mazes' script adds the result to
  y, which descends; here y ascends, as in the paper, and as in the script of its theory experiments.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from minimax_ued.config import NCCConfig
from minimax_ued.curricula.simplex import project_simplex
from minimax_ued.curricula.trials import play_trials
from minimax_ued.envs.base import Environment
from minimax_ued.learning.layout import Constraint, unconstrained
from minimax_ued.nets.students import Student
from minimax_ued.replay.select import draw

__all__ = ["DistributionState", "LevelDistribution", "ascend", "compete"]

_INITIAL_SQUARES = 0.1
_EXPONENT = 0.4


class DistributionState(struct.PyTreeNode):
    """N levels and the distribution over them.

    Attributes:
        levels: leading axis N.
        scores: f32[N], learnability of each at the last refresh; 0 before the first.
        filled: bool[N], all true.
        probabilities: y, f32[N].
        squares: f32[N], 0.1 and the sum of squared gradients of each slot.
        drawn_levels: the levels as they were before the last refresh, from which `sample` draws.
        drawn_probabilities: y as it was before the last refresh, f32[N].
        replaced: i32[], levels that the last refresh replaced.
    """

    levels: Any
    scores: Array
    filled: Array
    probabilities: Array
    squares: Array
    drawn_levels: Any
    drawn_probabilities: Array
    replaced: Array


def ascend(
    scores: Array, probabilities: Array, squares: Array, *, lr: float, entropy: float, truncation: float
) -> tuple[Array, Array]:
    """Make one step of projected gradient ascent.

    Args:
        scores: s, f32[N].
        probabilities: y, f32[N], above 0.
        squares: f32[N], the sums of squared gradients so far.
        lr: eta.
        entropy: lambda.
        truncation: smallest entry of y.

    Returns:
        The new y and the new sums.
    """
    gradient = scores - entropy * (jnp.log(probabilities) + 1.0)
    squares = squares + gradient**2
    gradient = gradient * squares**-_EXPONENT
    return project_simplex(probabilities + lr * gradient, truncation), squares


def compete(key: Array, scores: Array, fresh_scores: Array) -> tuple[Array, Array]:
    """Pair fresh levels with the slots they may take: the i-th best with the i-th lowest.

    Args:
        key: decides which of equal ones go first.
        scores: f32[N] of the slots.
        fresh_scores: f32[B] of the fresh levels.

    Returns:
        i32[M] slots and i32[M] fresh levels, M = min(N, B): each slot takes its level. The slot is N, outside the
        buffer, where the fresh level does not score strictly higher.
    """
    slot_key, fresh_key = jax.random.split(key)
    m = min(scores.shape[0], fresh_scores.shape[0])
    slots = jnp.lexsort((jax.random.bits(slot_key, scores.shape), scores))[:m]
    fresh = jnp.lexsort((jax.random.bits(fresh_key, fresh_scores.shape), -fresh_scores))[:m]
    wins = fresh_scores[fresh] > scores[slots]
    return jnp.where(wins, slots, scores.shape[0]), fresh


@dataclass(frozen=True)
class LevelDistribution:
    """A curator (`minimax_ued.curricula.curators.Curator`) that learns how often to draw each of its levels.

    See the module for the rules.

    Attributes:
        config: the sizes and the step.
        n_fresh: B, fresh levels that compete at each refresh.
        steps: length of a trial.
        env: the environment.
        student: the network.
        constrain: `constrain(tree, axis)` says how the environment axis is laid out over devices.
        first_only: count the first episode of each trial only; see `minimax_ued.curricula.trials`.
    """

    config: NCCConfig
    n_fresh: int
    steps: int
    env: Environment
    student: Student
    constrain: Constraint = unconstrained
    first_only: bool = True

    def init(self, key: Array, example_level: Any) -> DistributionState:
        """Return `capacity` random levels, all equally likely."""
        del example_level
        n = self.config.capacity
        levels = jax.vmap(self.env.sample_level)(jax.random.split(key, n))
        uniform = jnp.full(n, 1 / n)
        return DistributionState(
            levels=levels,
            scores=jnp.zeros(n),
            filled=jnp.ones(n, bool),
            probabilities=uniform,
            squares=jnp.full(n, _INITIAL_SQUARES),
            drawn_levels=levels,
            drawn_probabilities=uniform,
            replaced=jnp.zeros((), jnp.int32),
        )

    def refresh(self, state: DistributionState, key: Array, params: Any) -> DistributionState:
        """Score all levels, let `n_fresh` new ones compete, and move y."""
        config, n_fresh = self.config, self.n_fresh
        kept_key, level_key, fresh_key, tie_key = jax.random.split(key, 4)
        fresh_levels = jax.vmap(self.env.sample_level)(jax.random.split(level_key, n_fresh))
        scores = self._learnability(kept_key, params, state.levels, config.batch)
        fresh_scores = self._learnability(fresh_key, params, fresh_levels, n_fresh)

        slots, fresh = compete(tie_key, scores, fresh_scores)
        scores = scores.at[slots].set(fresh_scores[fresh], mode="drop")
        levels = jax.tree.map(lambda old, new: old.at[slots].set(new[fresh], mode="drop"), state.levels, fresh_levels)
        probabilities, squares = ascend(
            scores,
            state.probabilities,
            state.squares,
            lr=config.lr,
            entropy=config.entropy,
            truncation=config.truncation,
        )
        return DistributionState(
            levels=levels,
            scores=scores,
            filled=state.filled,
            probabilities=probabilities,
            squares=squares,
            drawn_levels=state.levels,
            drawn_probabilities=state.probabilities,
            replaced=(slots < config.capacity).sum(dtype=jnp.int32),
        )

    def sample(self, key: Array, state: DistributionState, n: int) -> tuple[Array, Any]:
        """Draw `n` slots (i32[n]) by y before the last refresh, with replacement, and the levels they held then."""
        slots = draw(key, state.drawn_probabilities, (n,))
        return slots, jax.tree.map(lambda x: x[slots], state.drawn_levels)

    def metrics(self, state: DistributionState) -> dict[str, Array]:
        """Return the mean score of the levels, the expected one under y, and how far y is from uniform.

        `entropy` is that of y divided by log N (1 for N = 1), 1 where y is uniform; `probability_max` is y's largest
        entry; `replaced` is the number of levels that the last refresh replaced.
        """
        y = state.probabilities
        n = y.shape[0]
        entropy = -(y * jnp.log(y)).sum() / jnp.log(n) if n > 1 else jnp.ones(())
        return {
            "score_mean": state.scores.mean(),
            "weighted_score": (y * state.scores).sum(),
            "entropy": entropy,
            "probability_max": y.max(),
            "replaced": state.replaced.astype(jnp.float32),
        }

    def _learnability(self, key: Array, params: Any, levels: Any, batch: int) -> Array:
        played = play_trials(
            self.env,
            self.student,
            params,
            key,
            levels,
            steps=self.steps,
            batch=batch,
            trials=self.config.trials,
            first_only=self.first_only,
            constrain=self.constrain,
        )
        return played.learnability
