"""How a student does on the levels that it does worst on: the conditional value at risk of its win rate.

The protocol of Rutherford et al. 2024 (arXiv 2408.15099): many solvable random levels, several attempts at each. The
worst alpha per cent are chosen by the win rates of one round of attempts, and their mean win rate is taken from
another, independent round. Chosen and measured by the same round, the tail would look worse than it is: the levels in
it are there in part by bad luck.

Levels with equal win rates in the first round share the weight of their ranks (`paperloop_lab.stats.cvar`), so that the
result does not depend on the order of the levels. The original sorts, which gives the same in expectation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from minimax_ued.cycle.state import TrainState
from minimax_ued.envs.maze import Maze
from minimax_ued.evaluation.attempts import Policy, check_policy, play_attempts
from minimax_ued.evaluation.evaluate import offered_levels, stored_sets
from minimax_ued.levels.held_out import HELD_OUT, held_out_levels
from minimax_ued.trainer import UEDTrainer
from paperloop.errors import UserError, setting
from paperloop.seeds import fold_seed
from paperloop_lab import stats

__all__ = ["ALPHAS", "CVaR", "tails"]

#: Fractions of worst levels that the literature reports.
ALPHAS = (0.001, 0.01, 0.02, 0.05, 0.1, 0.2, 1.0)

#: Levels that are played in one call, so that Ctrl-C does not wait long.
_CHUNK = 2500


class CVaR:
    """Win rates on the worst levels.

    Calling it with `(state, seed)` gives `cvar_<percent>` for every alpha, such as `cvar_10`, f64 `[seeds]` each;
    `cvar_100` is the plain mean win rate.

    Attributes:
        name: of the set of levels: the largest stored one of the size of the trainer's mazes, or what its environment
            offers.
        levels: the levels, leading axis L.
        n_levels: L.
        attempts: K, attempts at each level in each of the two rounds.
    """

    def __init__(
        self,
        trainer: UEDTrainer,
        *,
        n_levels: int | None = None,
        attempts: int = 10,
        alphas: Sequence[float] = ALPHAS,
        policy: Policy = "sampled",
        student: int = 0,
    ) -> None:
        """Bind a trainer, whose environment and student are used, and a number of levels.

        Args:
            trainer: whose states are measured.
            n_levels: how many of the stored levels, from the first on; None for all.
            attempts: at each level in each round; Rutherford et al. make ten or more.
            alphas: fractions of worst levels, each in (0, 1].
            policy: how actions are chosen.
            student: which of the students that a method trains side by side.

        Raises:
            UserError: there are no levels of this size, or not so many, or an argument is out of range.
        """
        if isinstance(trainer.env, Maze):
            self.name = max(stored_sets(trainer), key=lambda name: HELD_OUT[name].n)
            levels: Any = held_out_levels(self.name)
        else:
            self.name, levels = offered_levels(trainer.env)
        stored = jax.tree.leaves(levels)[0].shape[0]
        self.n_levels = stored if n_levels is None else n_levels
        if not 1 <= self.n_levels <= stored:
            raise UserError(
                f"{setting('cvar_levels')} is {n_levels}; it must be from 1 to {stored}, the levels of {self.name}."
            )
        if attempts < 1:
            raise UserError(f"{setting('cvar_attempts')} is {attempts}; it must be at least 1.")
        if not alphas or any(not 0 < alpha <= 1 for alpha in alphas):
            raise UserError(f"CVaR.alphas is {list(alphas)}, but must be fractions above 0 and at most 1.")
        check_policy(policy)
        self.attempts, self.alphas = attempts, tuple(alphas)
        self.levels = jax.tree.map(lambda x: jnp.asarray(x[: self.n_levels]), levels)
        self._trainer, self._policy, self._student = trainer, policy, student

    def win_rates(self, state: TrainState, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Play both rounds; return f64 `[seeds, L]` of the one that chooses, and of the one that measures."""
        params = self._trainer.student_params(state, self._student)
        seeds = jax.tree.leaves(params)[0].shape[0]

        def round_of(name: str) -> np.ndarray:
            parts = []
            for start in range(0, self.n_levels, _CHUNK):
                # The last chunk is filled up with levels that were played already, so that one program serves all.
                end = min(start + _CHUNK, self.n_levels)
                first = max(0, end - _CHUNK)
                played = play_attempts(
                    self._trainer.env,
                    self._trainer.student,
                    params,
                    jax.random.split(jax.random.key(fold_seed(seed, "cvar", name, start)), seeds),
                    jax.tree.map(lambda x: x[first:end], self.levels),  # noqa: B023
                    attempts=self.attempts,
                    policy=self._policy,
                )
                parts.append(np.asarray(played.solved, float).mean(-1)[:, start - first :])
            return np.concatenate(parts, axis=1)

        return round_of("ranking"), round_of("measured")

    def __call__(self, state: TrainState, seed: int) -> Mapping[str, np.ndarray]:
        """Return the metrics that the class names."""
        found = tails(*self.win_rates(state, seed), self.alphas)
        return {f"cvar_{100 * alpha:g}": found[:, i] for i, alpha in enumerate(self.alphas)}


def tails(ranking: np.ndarray, measured: np.ndarray, alphas: Sequence[float] = ALPHAS) -> np.ndarray:
    """Return f64 `[seeds, len(alphas)]`: the mean win rate of the worst fraction alpha, chosen for each seed.

    Args:
        ranking: f64 `[seeds, L]`, win rates of the round that chooses.
        measured: f64 `[seeds, L]`, win rates of the independent round.
        alphas: the fractions.
    """
    columns = [stats.cvar(measured, alpha, rank_by=ranking) for alpha in alphas]
    return np.stack([np.atleast_1d(column) for column in columns], axis=1)
