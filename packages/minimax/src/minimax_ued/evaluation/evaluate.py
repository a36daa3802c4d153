"""Measuring a student on levels it did not train on.

The protocol of the UED literature: actions are sampled from the policy, only the first episode counts, and a level is
solved when the return is above zero. Regret is held against the best possible return, which breadth-first search over
poses gives exactly.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from minimax_ued.cycle.state import TrainState
from minimax_ued.envs.base import Environment
from minimax_ued.envs.maze import Maze, paths
from minimax_ued.envs.maze.level import pad_level
from minimax_ued.evaluation.attempts import Episodes, Policy, check_policy, play, play_attempts
from minimax_ued.evaluation.optimal import optimal_returns
from minimax_ued.levels.held_out import HELD_OUT, held_out_levels
from minimax_ued.levels.suite import TestMaze, get_test_maze
from minimax_ued.trainer import UEDTrainer
from paperloop.errors import UserError
from paperloop.seeds import fold_seed

__all__ = [
    "MAZE_SUITES", "OOD_MAZES", "OOD_MAZES_DCD", "Episodes", "HeldOut", "OODMazes", "OwnLevels", "Policy",
    "expand_mazes", "offered_levels", "play",
]  # fmt: skip

#: The twelve test mazes of Parker-Holder et al. 2022 (arXiv 2203.01302), hand-made and procedural.
OOD_MAZES = (
    "SixteenRooms",
    "SixteenRooms2",
    "Labyrinth",
    "Labyrinth2",
    "StandardMaze",
    "StandardMaze2",
    "StandardMaze3",
    "Crossing",
    "FourRooms",
    "SmallCorridor",
    "LargeCorridor",
    "PerfectMazeMedium",
)

#: The same as the code behind that paper's tables has them, where minimax made others of the same names.
OOD_MAZES_DCD = tuple(
    f"{name}DCD" if name in ("Crossing", "FourRooms", "PerfectMazeMedium") else name for name in OOD_MAZES
)

#: Name on command lines -> mazes.
MAZE_SUITES: dict[str, tuple[str, ...]] = {"ood": OOD_MAZES, "dcd": OOD_MAZES_DCD}

#: Up to this edge, mazes are padded and played together.
_SHARED_SIZE = 19


def expand_mazes(names: Sequence[str]) -> tuple[str, ...]:
    """Return names of test mazes, with those of `MAZE_SUITES` in the place of a suite's name.

    Raises:
        UserError: there is no such maze, or one is named twice.
    """
    mazes = tuple(maze for name in names for maze in MAZE_SUITES.get(name, (name,)))
    for maze in mazes:
        get_test_maze(maze)
    twice = sorted({maze for maze in mazes if mazes.count(maze) > 1})
    if twice:
        raise UserError(f"The test maze {twice[0]!r} is named twice: name each once.")
    return mazes


class HeldOut:
    """Solve rate, return and regret on levels kept for testing, and on the hardest of them.

    Calling it with `(state, seed)` gives `solve_rate`, `return`, `regret`, and the same with `_hard`, f32 `[seeds]`
    each. Regret is the best possible return minus the student's, mean over episodes. For an environment that is not a
    maze the levels are those of `offered_levels`; then there is no hard subset, and regret only where the environment
    knows its `optimal_return`.

    Attributes:
        name: the set of levels, a key of `minimax_ued.levels.held_out.HELD_OUT` for mazes.
        levels: the levels, leading axis L.
        hard: bool `[L]`, which of them are among the hardest; all false where that is not known.
        optimal_returns: f32 `[L]`, or None.
    """

    def __init__(
        self,
        trainer: UEDTrainer,
        name: str | None = None,
        *,
        n_episodes: int = 1,
        policy: Policy = "sampled",
        max_levels: int | None = None,
        student: int = 0,
    ) -> None:
        """Bind a trainer, whose environment and student are used, and a set of levels.

        Args:
            trainer: whose states are measured.
            name: the set; None takes the one of the size of the trainer's mazes.
            n_episodes: episodes on each level.
            policy: how actions are chosen.
            max_levels: use only so many levels: the hard ones first, then the others in their order.
            student: which of the students that a method trains side by side.

        Raises:
            UserError: there is no such set, none of this size, or an argument is out of range.
        """
        env = trainer.env
        if isinstance(env, Maze):
            self.name = _of_size(trainer.config.env.height, trainer.config.env.width) if name is None else name
            levels = held_out_levels(self.name)
            is_hard = _contained(levels, held_out_levels(f"{self.name}-hard"))
        elif name is None:
            self.name, levels = offered_levels(env)
            is_hard = np.zeros(jax.tree.leaves(levels)[0].shape[0], bool)
        else:
            raise UserError(f"The held-out set {name!r} holds mazes, but this student acts in {type(env).__name__}.")
        if max_levels is not None:
            if max_levels <= is_hard.sum():
                raise UserError(f"HeldOut.max_levels is {max_levels}, but must exceed the {is_hard.sum()} hard levels.")
            chosen = np.sort(np.argsort(~is_hard, kind="stable")[:max_levels])
            levels, is_hard = jax.tree.map(lambda x: x[chosen], levels), is_hard[chosen]
        self.levels = jax.tree.map(jnp.asarray, levels)
        self.hard = is_hard
        self.optimal_returns = optimal_returns(env, self.levels)
        self._play = _Player(trainer, env, n_episodes, policy, student)

    def episodes(self, state: TrainState, seed: int) -> Episodes:
        """Play; the result has shape `[seeds, L, n_episodes]`."""
        return self._play(state, fold_seed(seed, "held-out"), self.levels)

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


class OwnLevels:
    """Solve rate, return and regret on mazes of the user's.

    Calling it with `(state, seed)` gives `solve_rate`, `return` and `regret`, means over levels, f32 `[seeds]` each.

    Attributes:
        levels: the levels, leading axis L.
        optimal_returns: f32 `[L]`; 0 where no way leads to the goal within the step limit.
    """

    def __init__(
        self,
        trainer: UEDTrainer,
        levels: Any,
        *,
        n_episodes: int = 10,
        policy: Policy = "sampled",
        student: int = 0,
    ) -> None:
        """Bind a trainer, whose student, view and step limit are used, and levels.

        Args:
            trainer: whose states are measured.
            levels: mazes of one size, any size (`minimax_ued.levels.files.load_levels`).
            n_episodes: episodes on each level.
            policy: how actions are chosen.
            student: which of the students that a method trains side by side.

        Raises:
            UserError: the trainer's environment is not a maze, or an argument is out of range.
        """
        if not isinstance(trainer.env, Maze):
            raise UserError(f"Mazes of your own are for maze students; this one acts in {type(trainer.env).__name__}.")
        self.levels = jax.tree.map(jnp.asarray, levels)
        height, width = self.levels.wall_map.shape[-2:]
        config = dataclasses.replace(
            trainer.config.env, height=height, width=width, n_walls=0, sample_n_walls=False
        )  # its view and step limit stay
        env = Maze(config)
        self.optimal_returns = optimal_returns(env, self.levels)
        self._play = _Player(trainer, env, n_episodes, policy, student)

    def episodes(self, state: TrainState, seed: int) -> Episodes:
        """Play; the result has shape `[seeds, L, n_episodes]`."""
        return self._play(state, fold_seed(seed, "own levels"), self.levels)

    def __call__(self, state: TrainState, seed: int) -> Mapping[str, Array]:
        """Return the metrics that the class names."""
        return self.summary(self.episodes(state, seed))

    def summary(self, episodes: Episodes) -> Mapping[str, Array]:
        """Return the metrics that the class names, from episodes that were played."""
        assert self.optimal_returns is not None  # mazes know them
        return {
            "solve_rate": episodes.solved.mean((1, 2), dtype=jnp.float32),
            "return": episodes.returns.mean((1, 2)),
            "regret": (self.optimal_returns[:, None] - episodes.returns).mean((1, 2)),
        }


class _Group:
    """Test mazes that are played together, padded to the largest of them."""

    def __init__(
        self, trainer: UEDTrainer, mazes: Sequence[TestMaze], n_episodes: int, policy: Policy, student: int
    ) -> None:
        self.names = [maze.name for maze in mazes]
        height, width = max(maze.height for maze in mazes), max(maze.width for maze in mazes)
        steps = max(maze.max_steps for maze in mazes)
        config = dataclasses.replace(
            mazes[0].environment(trainer.config.env), height=height, width=width, max_steps=steps
        )
        self.env = Maze(config)
        self._play = _Player(trainer, self.env, 1, policy, student)
        if n_episodes < 1:
            raise UserError(f"n_episodes is {n_episodes}, but must be at least 1.")
        self._limits = jnp.repeat(jnp.array([maze.max_steps for maze in mazes]), n_episodes)
        self._n_episodes = n_episodes
        self._sample = _sampler(tuple(self.names), n_episodes, height, width)

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
def _sampler(names: tuple[str, ...], n_episodes: int, height: int, width: int) -> Any:
    """Return key -> padded levels, `n_episodes` of each maze one after the other, and their `min_actions`.

    Compiled once per process.
    """
    mazes = [get_test_maze(name) for name in names]

    def sample(key: Array) -> Any:
        keys = jax.random.split(key, (len(mazes), n_episodes))
        drawn = [pad_level(jax.vmap(maze.sample_level)(keys[i]), height, width) for i, maze in enumerate(mazes)]
        levels = jax.tree.map(lambda *x: jnp.concatenate(x), *drawn)
        return levels, jax.vmap(paths.min_actions)(levels)

    return jax.jit(sample)


class _Player:
    """`play_attempts` of one student of every seed: -> Episodes `[seeds, L, n_episodes]`."""

    def __init__(self, trainer: UEDTrainer, env: Environment, n_episodes: int, policy: Policy, student: int) -> None:
        check_policy(policy)
        if n_episodes < 1:
            raise UserError(f"n_episodes is {n_episodes}, but must be at least 1.")
        self._trainer, self._env = trainer, env
        self._n_episodes, self._policy, self._student = n_episodes, policy, student

    def __call__(self, state: TrainState, seed: int, levels: Any, limits: Array | None = None) -> Episodes:
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


def _of_size(height: int, width: int) -> str:
    """The first held-out set of mazes of this size."""
    fitting = [key for key, entry in HELD_OUT.items() if (entry.size, entry.size) == (height, width)]
    if not fitting:
        sizes = ", ".join(dict.fromkeys(f"{entry.size} x {entry.size}" for entry in HELD_OUT.values()))
        raise UserError(f"There are held-out levels of {sizes}, but none of {height} x {width}.")
    return fitting[0]


def _contained(levels: Any, subset: Any) -> np.ndarray:
    """Return bool `[L]`: which of `levels` occur in `subset`."""

    def rows(tree: Any) -> list[bytes]:
        leaves = [np.asarray(x) for x in jax.tree.leaves(tree)]
        return [b"".join(leaf[i].tobytes() for leaf in leaves) for i in range(len(leaves[0]))]

    wanted = set(rows(subset))
    return np.array([row in wanted for row in rows(levels)])
