"""Measuring a student on the out-of-distribution test mazes of the literature."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from minimax_ued.cycle.state import TrainState
from minimax_ued.envs.maze import Maze, paths
from minimax_ued.envs.maze.level import pad_level
from minimax_ued.evaluation.attempts import Episodes, Policy
from minimax_ued.evaluation.evaluate import Player
from minimax_ued.levels.suite import OOD_MAZES, TestMaze, get_test_maze
from minimax_ued.trainer import UEDTrainer
from paperloop.errors import UserError
from paperloop.seeds import fold_seed

__all__ = ["OODMazes"]

#: Up to this edge, mazes are padded and played together.
_SHARED_SIZE = 19


class OODMazes:
    """Solve rate, return and regret on test mazes that are unlike the training levels.

    Calling it with `(state, seed)` gives `solve_rate/<maze>`, `return/<maze>` and `regret/<maze>` for each maze and
    their plain means `solve_rate`, `return` and `regret` over mazes, f32 `[seeds]` each. Every episode draws a new
    level where the maze has several; all seeds meet the same levels. Mazes of up to 19 x 19 are padded with walls to
    one size, which changes nothing for the agent, and run as one program (one more for mazes whose walls hide what is
    behind them); each keeps its own step limit.

    Attributes:
        names: the mazes.
        n_episodes: episodes on each maze.
    """

    def __init__(
        self,
        trainer: UEDTrainer,
        names: Sequence[str] = OOD_MAZES,
        *,
        n_episodes: int = 10,
        policy: Policy = "sampled",
        student: int = 0,
    ) -> None:
        """Bind a trainer, whose student and view are used, and mazes.

        Args:
            trainer: whose states are measured.
            names: keys of `minimax_ued.levels.suite.TEST_MAZES`.
            n_episodes: episodes on each maze.
            policy: how actions are chosen.
            student: which of the students that a method trains side by side.

        Raises:
            UserError: a maze is unknown or named twice, none is named, the trainer's environment is not a maze, or an
                argument is out of range.
        """
        if not isinstance(trainer.env, Maze):
            raise UserError(f"The test mazes are for maze students; this one acts in {type(trainer.env).__name__}.")
        self.names = tuple(names)
        self.n_episodes = n_episodes
        if not self.names or len(set(self.names)) != len(self.names):
            raise UserError(f"OODMazes.names is {list(self.names)}, but must name at least one maze, and each once.")
        groups: dict[tuple[int, bool | None], list[TestMaze]] = defaultdict(list)
        for maze in map(get_test_maze, self.names):
            size = max(maze.height, maze.width)
            groups[0 if size <= _SHARED_SIZE else size, maze.see_through_walls].append(maze)
        self._groups = [_Group(trainer, mazes, n_episodes, policy, student) for mazes in groups.values()]

    def episodes(self, state: TrainState, seed: int) -> dict[str, Episodes]:
        """Play; name -> episodes of shape `[seeds, n_episodes]`."""
        return {name: played for name, (played, _) in self._played(state, seed).items()}

    def __call__(self, state: TrainState, seed: int) -> Mapping[str, Array]:
        """Return the metrics that the class names."""
        metrics = {}
        for name, (episodes, optimal) in self._played(state, seed).items():
            metrics[f"solve_rate/{name}"] = episodes.solved.mean(1, dtype=jnp.float32)
            metrics[f"return/{name}"] = episodes.returns.mean(1)
            metrics[f"regret/{name}"] = (optimal - episodes.returns).mean(1)
        for kind in ("solve_rate", "return", "regret"):
            metrics[kind] = jnp.stack([metrics[f"{kind}/{name}"] for name in self.names]).mean(0)
        return metrics

    def _played(self, state: TrainState, seed: int) -> dict[str, tuple[Episodes, Array]]:
        """Name -> episodes `[seeds, n_episodes]`, and the best possible return of each, f32 `[n_episodes]`."""
        played = {}
        for group in self._groups:
            played |= group.episodes(state, fold_seed(seed, "ood", *group.names))
        return {name: played[name] for name in self.names}


class _Group:
    """Test mazes that are played together, padded to the largest of them."""

    def __init__(
        self, trainer: UEDTrainer, mazes: Sequence[TestMaze], n_episodes: int, policy: Policy, student: int
    ) -> None:
        self.names = [maze.name for maze in mazes]
        height, width = max(maze.height for maze in mazes), max(maze.width for maze in mazes)
        env: Any = trainer.env  # a maze
        steps, training = max(maze.max_steps for maze in mazes), env.config
        config = dataclasses.replace(mazes[0].environment(training), height=height, width=width, max_steps=steps)
        self._play = Player(trainer, Maze(config), 1, policy, student)
        if n_episodes < 1:
            raise UserError(f"n_episodes is {n_episodes}, but must be at least 1.")
        self._limits = jnp.repeat(jnp.array([maze.max_steps for maze in mazes]), n_episodes)
        self._n_episodes = n_episodes
        self._sample = _sampler(tuple(mazes), n_episodes, height, width)

    def episodes(self, state: TrainState, seed: int) -> dict[str, tuple[Episodes, Array]]:
        """Name -> episodes `[seeds, n_episodes]` and best possible returns `[n_episodes]`."""
        levels, actions = self._sample(jax.random.key(fold_seed(seed, "levels")))
        played = jax.tree.map(lambda x: x[..., 0], self._play(state, seed, levels, self._limits))
        # The environment's reward counts against the longest limit; each maze has its own.
        returns = jnp.where(played.solved, 1 - 0.9 * played.lengths / self._limits, 0.0)
        feasible = (actions >= 0) & (actions <= self._limits)
        optimal = jnp.where(feasible, 1 - 0.9 * actions / self._limits, 0.0)
        found = {}
        for i, name in enumerate(self.names):
            part = slice(i * self._n_episodes, (i + 1) * self._n_episodes)
            one = Episodes(returns[:, part], played.lengths[:, part], played.solved[:, part])
            found[name] = one, optimal[part]
        return found


@lru_cache
def _sampler(mazes: tuple[TestMaze, ...], n_episodes: int, height: int, width: int) -> Any:
    """Return key -> padded levels, `n_episodes` of each maze one after the other, and their `min_actions`.

    Compiled once per process.
    """

    def sample(key: Array) -> Any:
        keys = jax.random.split(key, (len(mazes), n_episodes))
        drawn = [pad_level(jax.vmap(maze.sample_level)(keys[i]), height, width) for i, maze in enumerate(mazes)]
        levels = jax.tree.map(lambda *x: jnp.concatenate(x), *drawn)
        return levels, jax.vmap(paths.min_actions)(levels)

    return jax.jit(sample)
