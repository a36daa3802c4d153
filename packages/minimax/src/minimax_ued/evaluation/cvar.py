"""How a student does on the levels that it does worst on: the conditional value at risk of its win rate.

The protocol of Rutherford et al. 2024 (arXiv 2408.15099): many solvable random levels, several
attempts at each. The worst alpha per cent are chosen by the win rates of one round of attempts, and their mean win rate
is taken from another, independent round. Chosen and measured by the same round, the tail would look worse than it is:
the levels in it are there in part by bad luck.

Levels with equal win rates in the first round share the weight of their ranks (`paperloop_lab.stats.cvar`), so that the
result does not depend on the order of the levels. The original sorts, which gives the same in expectation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from minimax_ued.cycle.state import TrainState
from minimax_ued.envs.maze import Maze, paths
from minimax_ued.evaluation.attempts import Policy, check_policy, play_attempts
from minimax_ued.evaluation.evaluate import offered_levels
from minimax_ued.evaluation.optimal import optimal_returns
from minimax_ued.levels.held_out import HELD_OUT, held_out_levels
from minimax_ued.trainer import UEDTrainer
from paperloop.errors import UserError, setting
from paperloop.seeds import fold_seed
from paperloop_lab import stats

__all__ = ["ALPHAS", "CVaR", "PathBin", "WinRates", "by_path_length", "tails"]

#: Fractions of worst levels that the literature reports.
ALPHAS = (0.001, 0.01, 0.02, 0.05, 0.1, 0.2, 1.0)

#: Levels that are played in one call, so that a progress line can be shown and Ctrl-C does not wait long.
_CHUNK = 2500


class WinRates(NamedTuple):
    """What several attempts at each of L levels gave.

    Attributes:
        ranking: f64 `[seeds, L]`, win rates of the round that chooses.
        measured: f64 `[seeds, L]`, win rates of the independent round.
        returns: f64 `[seeds, L]`, mean return over both rounds.
        lengths: f64 `[seeds, L]`, mean length of the episodes of both rounds, in steps.
    """

    ranking: np.ndarray
    measured: np.ndarray
    returns: np.ndarray
    lengths: np.ndarray

    @property
    def both(self) -> np.ndarray:
        """f64 `[seeds, L]`, win rates of all attempts: for averages over levels chosen by something else."""
        return (self.ranking + self.measured) / 2


class CVaR:
    """Win rates on the worst levels.

    Calling it with `(state, seed)` gives `cvar_<percent>` for every alpha, such as `cvar_10`, f64 `[seeds]` each;
    `cvar_100` is the plain mean win rate.

    Attributes:
        name: of the set of levels.
        levels: the levels, leading axis L.
        n_levels: L.
        attempts: K, attempts at each level in each of the two rounds.
        path_lengths: i32 `[L]`, moves from the agent to the goal; None if these are not mazes.
        min_actions: i32 `[L]`, fewest actions, turns included; None if these are not mazes.
        optimal_returns: f32 `[L]`, or None.
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
        self.name, levels = _stored_levels(trainer)
        stored = jax.tree.leaves(levels)[0].shape[0]
        self.n_levels = stored if n_levels is None else n_levels
        if not 1 <= self.n_levels <= stored:
            raise UserError(
                f"{setting('cvar_levels')} is {n_levels}; it must be from 1 to {stored}, the levels of {self.name}."
            )
        if attempts < 1:
            raise UserError(f"{setting('cvar_attempts')} is {attempts}; it must be at least 1.")
        wrong = [alpha for alpha in alphas if not 0 < alpha <= 1]
        if wrong or not alphas:
            raise UserError(f"CVaR.alphas is {list(alphas)}, but must be fractions above 0 and at most 1.")
        check_policy(policy)
        self.attempts, self.alphas = attempts, tuple(alphas)
        self.levels = jax.tree.map(lambda x: jnp.asarray(x[: self.n_levels]), levels)
        self.path_lengths = self.min_actions = None
        if isinstance(trainer.env, Maze):
            self.path_lengths, self.min_actions = jax.device_get(
                jax.jit(jax.vmap(lambda level: (paths.shortest_path(level), paths.min_actions(level))))(self.levels)
            )
        self.optimal_returns = optimal_returns(trainer.env, self.levels)
        self._trainer, self._policy, self._student = trainer, policy, student

    @property
    def described(self) -> str:
        """How many levels, and whether all of them are known to be solvable: those of mazes are."""
        return f"{self.n_levels:,} {'levels' if self.path_lengths is None else 'solvable levels'}"

    def win_rates(self, state: TrainState, seed: int, *, student: int | None = None) -> WinRates:
        """Play both rounds; `student` overrides the one that was bound."""
        params = self._trainer.student_params(state, self._student if student is None else student)
        seeds = jax.tree.leaves(params)[0].shape[0]
        rounds = []
        for name in ("ranking", "measured"):
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
                means = [np.asarray(x, float).mean(-1) for x in jax.device_get(played)]  # [seeds, chunk]
                parts.append([x[:, start - first :] for x in means])
            rounds.append([np.concatenate(part, axis=1) for part in zip(*parts, strict=True)])
        (returns_1, lengths_1, ranking), (returns_2, lengths_2, measured) = rounds
        return WinRates(ranking, measured, (returns_1 + returns_2) / 2, (lengths_1 + lengths_2) / 2)

    def __call__(self, state: TrainState, seed: int) -> Mapping[str, np.ndarray]:
        """Return the metrics that the class names."""
        found = tails(self.win_rates(state, seed), self.alphas)
        return {f"cvar_{100 * alpha:g}": found[:, i] for i, alpha in enumerate(self.alphas)}


class PathBin(NamedTuple):
    """Levels whose shortest paths are about equally long.

    Attributes:
        low: shortest path in the bin, in moves.
        high: longest path in the bin.
        n: number of levels.
        rates: f64 `[seeds]`, mean win rate.
    """

    low: int
    high: int
    n: int
    rates: np.ndarray


def tails(found: WinRates, alphas: Sequence[float] = ALPHAS) -> np.ndarray:
    """Return f64 `[seeds, len(alphas)]`: the mean win rate of the worst fraction alpha, chosen for each seed."""
    columns = [stats.cvar(found.measured, alpha, rank_by=found.ranking) for alpha in alphas]
    return np.stack([np.atleast_1d(column) for column in columns], axis=1)


def by_path_length(found: WinRates, path_lengths: np.ndarray, *, bins: int = 10, least: int = 10) -> list[PathBin]:
    """Return win rates by the length of the shortest path.

    Args:
        found: win rates of L levels.
        path_lengths: i32 `[L]`.
        bins: about how many; all are equally wide in moves, but for the last.
        least: the last bin reaches down until it holds so many levels.

    Returns:
        The bins from short to long, without empty ones.
    """
    lengths = np.asarray(path_lengths)
    width = max(1, -(-int(lengths.max()) // bins))
    number = (lengths - 1) // width
    last = int(number.max())
    while last > 0 and (number >= last).sum() < least:
        last -= 1
    number = np.minimum(number, last)
    table = []
    for i in np.unique(number):
        inside = number == i
        top = int(lengths.max()) if i == last else int((i + 1) * width)
        table.append(PathBin(int(i * width + 1), top, int(inside.sum()), found.both[:, inside].mean(1)))
    return table


def _stored_levels(trainer: UEDTrainer) -> tuple[str, Any]:
    """The largest stored set of the size of the trainer's mazes, or the levels that its environment offers."""
    if not isinstance(trainer.env, Maze):
        return offered_levels(trainer.env)
    size = trainer.config.env.height, trainer.config.env.width
    fitting = [name for name, entry in HELD_OUT.items() if (entry.size, entry.size) == size]
    if not fitting:
        raise UserError(f"There are no stored levels of {size[0]} x {size[1]} to measure the CVaR on.")
    name = max(fitting, key=lambda name: HELD_OUT[name].n)
    return name, held_out_levels(name)
