"""Measuring a student on levels it did not train on.

The protocol of the UED literature: actions are sampled from the policy, only the first episode counts, and a level is
solved when the return is above zero. Regret is held against the best possible return, which breadth-first search over
poses gives exactly.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from minimax_ued.config import MazeConfig
from minimax_ued.cycle.state import TrainState
from minimax_ued.envs.base import Environment
from minimax_ued.envs.maze import Maze
from minimax_ued.evaluation.attempts import Episodes, Policy, check_policy, play_attempts
from minimax_ued.levels.held_out import HELD_OUT, held_out_levels, is_hard_level
from minimax_ued.trainer import UEDTrainer
from paperloop.errors import UserError
from paperloop.seeds import fold_seed

__all__ = ["HeldOut", "Player", "offered_levels", "optimal_returns", "stored_sets"]


class HeldOut:
    """Solve rate, return and regret on levels kept for testing, and on the hardest of them.

    Calling it with `(state, seed)` gives `solve_rate`, `return`, `regret`, and the same with `_hard`, f32 `[seeds]`
    each. Regret is the best possible return minus the student's, mean over episodes. For an environment that is not a
    maze the levels are those of `offered_levels`; then there is no hard subset, and regret only where the environment
    knows its `optimal_return`.

    Attributes:
        name: of the set of levels.
        levels: the levels, leading axis L.
        hard: bool `[L]`, which of them are among the hardest; all false where that is not known.
        optimal_returns: f32 `[L]`, or None.
    """

    def __init__(
        self,
        trainer: UEDTrainer,
        levels: Any = None,
        *,
        n_episodes: int = 1,
        policy: Policy = "sampled",
        max_levels: int | None = None,
        student: int = 0,
    ) -> None:
        """Bind a trainer, whose environment and student are used, and levels.

        Args:
            trainer: whose states are measured.
            levels: mazes of your own, leading axis L, all of one size, any size; the view and the step limit of the
                training stay. None takes the stored set of the size of the trainer's mazes.
            n_episodes: episodes on each level.
            policy: how actions are chosen.
            max_levels: use only so many levels: the hard ones first, then the others in their order.
            student: which of the students that a method trains side by side.

        Raises:
            UserError: no set of this size is stored, the levels are not for this environment, or an argument is out of
                range.
        """
        env, self._stream = trainer.env, "held-out"
        is_hard: np.ndarray | None = None
        if levels is not None:
            self.name, self._stream = "own levels", "own levels"
            env = _of_their_size(trainer, levels)
        elif isinstance(env, Maze):
            self.name = min(stored_sets(trainer), key=lambda name: HELD_OUT[name].n)
            levels = held_out_levels(self.name)
            is_hard = is_hard_level(self.name)
        else:
            self.name, levels = offered_levels(env)
        if is_hard is None:
            is_hard = np.zeros(jax.tree.leaves(levels)[0].shape[0], bool)
        if max_levels is not None:
            if max_levels <= is_hard.sum():
                raise UserError(f"HeldOut.max_levels is {max_levels}, but must exceed the {is_hard.sum()} hard levels.")
            chosen = np.sort(np.argsort(~is_hard, kind="stable")[:max_levels])
            levels, is_hard = jax.tree.map(lambda x: x[chosen], levels), is_hard[chosen]
        self.levels = jax.tree.map(jnp.asarray, levels)
        self.hard = is_hard
        self.optimal_returns = optimal_returns(env, self.levels)
        self._play = Player(trainer, env, n_episodes, policy, student)

    def episodes(self, state: TrainState, seed: int) -> Episodes:
        """Play; the result has shape `[seeds, L, n_episodes]`."""
        return self._play(state, fold_seed(seed, self._stream), self.levels)

    def __call__(self, state: TrainState, seed: int) -> Mapping[str, Array]:
        """Return the metrics that the class names."""
        episodes = self.episodes(state, seed)
        metrics = {}
        for suffix, chosen in (("", slice(None)), ("_hard", self.hard)):
            if suffix and not self.hard.any():
                continue
            returns = episodes.returns[:, chosen]
            metrics[f"solve_rate{suffix}"] = episodes.solved[:, chosen].mean((1, 2), dtype=jnp.float32)
            metrics[f"return{suffix}"] = returns.mean((1, 2))
            if self.optimal_returns is not None:
                metrics[f"regret{suffix}"] = (self.optimal_returns[chosen][:, None] - returns).mean((1, 2))
        return metrics


class Player:
    """`play_attempts` of one student of every seed: -> Episodes `[seeds, L, n_episodes]`.

    Raises:
        UserError: the policy is unknown, or `episodes` is 0.
    """

    def __init__(self, trainer: UEDTrainer, env: Environment, n_episodes: int, policy: Policy, student: int) -> None:
        check_policy(policy)
        if n_episodes < 1:
            raise UserError(f"n_episodes is {n_episodes}, but must be at least 1.")
        self._trainer, self._env = trainer, env
        self._n_episodes, self._policy, self._student = n_episodes, policy, student

    def __call__(self, state: TrainState, seed: int, levels: Any, limits: Array | None = None) -> Episodes:
        """Play on levels with the leading axis L; `limits` as in `play_attempts`."""
        params = self._trainer.student_params(state, self._student)
        seeds = jax.tree.leaves(params)[0].shape[0]
        return play_attempts(
            self._env,
            self._trainer.student,
            params,
            jax.random.split(jax.random.key(fold_seed(seed, "actions")), seeds),
            levels,
            attempts=self._n_episodes,
            policy=self._policy,
            limits=limits,
        )


def optimal_returns(env: Environment, levels: Any) -> np.ndarray | None:
    """Return f32 `[L]`, the largest return of each level within the environment's step limit.

    By the environment's `optimal_return`; None where it has none. That of mazes is a breadth-first search over poses.
    """
    known: Any = getattr(env, "optimal_return", None)
    return None if known is None else np.asarray(jax.jit(jax.vmap(known))(levels), np.float32)


def offered_levels(env: Environment) -> tuple[str, Any]:
    """Return levels to test students on in an environment that is not a maze, and a name for them.

    They are the environment's `held_out_levels()` (leading axis L), if it has that method; otherwise 1,000 that its
    generator draws from a fixed key, which are other levels under another version of JAX.
    """
    name, offers = type(env).__name__, getattr(env, "held_out_levels", None)
    if callable(offers):
        return f"levels of {name}", offers()
    keys = jax.random.split(jax.random.key(fold_seed(0, "held-out levels")), 1000)
    return f"random levels of {name}", jax.jit(jax.vmap(env.sample_level))(keys)


def _of_their_size(trainer: UEDTrainer, levels: Any) -> Maze:
    """The trainer's maze with the size of other levels."""
    if not isinstance(trainer.env, Maze):
        raise UserError(f"Mazes of your own are for maze students; this one acts in {type(trainer.env).__name__}.")
    height, width = levels.wall_map.shape[-2:]
    return Maze(dataclasses.replace(trainer.env.config, height=height, width=width, n_walls=0, sample_n_walls=False))


def stored_sets(trainer: UEDTrainer) -> list[str]:
    """Return the names of the stored sets of the size of the trainer's mazes.

    Raises:
        UserError: there is none of this size.
    """
    env: Any = trainer.env  # a maze
    config: MazeConfig = env.config
    fitting = [key for key, entry in HELD_OUT.items() if (entry.size, entry.size) == (config.height, config.width)]
    if not fitting:
        sizes = ", ".join(dict.fromkeys(f"{entry.size} x {entry.size}" for entry in HELD_OUT.values()))
        raise UserError(f"There are held-out levels of {sizes}, but none of {config.height} x {config.width}.")
    return fitting
