"""Measuring a student on levels it did not train on.

The protocol of the UED literature: actions are sampled from the policy, only the first episode counts, and a level is
solved when the return is above zero. Regret is held against the best possible return, which breadth-first search over
poses gives exactly.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from minimax_ued.cycle import TrainState
from minimax_ued.data import HELD_OUT, held_out_levels
from minimax_ued.envs.base import Environment
from minimax_ued.envs.maze import Maze, paths
from minimax_ued.envs.maze.level import pad_level
from minimax_ued.envs.maze.suite import TestMaze, get_test_maze
from minimax_ued.students import Student
from minimax_ued.trainer import UEDTrainer
from outerloop.errors import UserError
from outerloop.seeds import fold_seed

__all__ = ["OOD_MAZES", "Episodes", "HeldOut", "OODMazes", "Policy", "play"]

#: How actions are chosen: sampled from the student's policy, its most likely action, or uniformly (a control).
Policy = Literal["sampled", "greedy", "random"]

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


#: Up to this edge, mazes are padded and played together.
_SHARED_SIZE = 19


class Episodes(NamedTuple):
    """First episodes.

    Attributes:
        returns: f32[...], undiscounted.
        lengths: i32[...], in steps.
    """

    returns: Array
    lengths: Array

    @property
    def solved(self) -> Array:
        """bool[...], the return is above zero."""
        return self.returns > 0


def play(
    env: Environment,
    student: Student,
    params: Any,
    key: Array,
    levels: Any,
    *,
    policy: Policy = "sampled",
    limits: Array | None = None,
) -> Episodes:
    """Play one episode on each level, from the start with an empty memory.

    Runs until the last of them is over, at most `env.max_steps` steps.

    Args:
        env: the environment.
        student: the network.
        params: its variables (no seed axis).
        key: all randomness.
        levels: leading axis L.
        policy: how actions are chosen.
        limits: i32 `[L]`, steps after which the episode on each level is cut off, where that is before
            `env.max_steps`. The environment's rewards do not know of it.

    Returns:
        Episodes, `[L]`.
    """
    return _play(env, student, policy == "greedy", params, key, levels, limits, jnp.float32(policy != "random"))


def _play(
    env: Environment,
    student: Student,
    greedy: bool,
    params: Any,
    key: Array,
    levels: Any,
    limits: Array | None,
    scale: Array,
) -> Episodes:
    """`play` with the logits times `scale`: the random policy is the sampled one at 0, and the same program."""
    n = jax.tree.leaves(levels)[0].shape[0]
    levels = jax.vmap(env.prepare)(levels)
    reset_key, key = jax.random.split(key)

    def unfinished(loop: dict[str, Any]) -> Array:
        return ~loop["over"].all()

    def body(loop: dict[str, Any]) -> dict[str, Any]:
        action_key, step_key = jax.random.split(jax.random.fold_in(key, loop["time"]))
        observation = jax.vmap(env.observe)(levels, loop["state"])
        resets = jnp.full(n, loop["time"] == 0)
        carry, output = student.apply(params, loop["carry"], observation, resets, method="step")
        if greedy:
            actions = output.logits.argmax(-1)
        else:
            actions = jax.random.categorical(action_key, output.logits * scale)
        state, timestep = jax.vmap(env.step)(jax.random.split(step_key, n), levels, loop["state"], actions)
        running = ~loop["over"]
        over = loop["over"] | timestep.done
        if limits is not None:
            over |= loop["time"] + 1 >= limits
        return {
            "time": loop["time"] + 1,
            "state": state,
            "carry": carry,
            "over": over,
            "returns": loop["returns"] + jnp.where(running, timestep.reward, 0.0),
            "lengths": loop["lengths"] + running,
        }

    loop = {
        "time": jnp.int32(0),
        "state": jax.vmap(env.reset)(jax.random.split(reset_key, n), levels),
        "carry": student.initial_carry(n),
        "over": jnp.zeros(n, bool),
        "returns": jnp.zeros(n),
        "lengths": jnp.zeros(n, jnp.int32),
    }
    loop = jax.lax.while_loop(unfinished, body, loop)
    return Episodes(loop["returns"], loop["lengths"])


class HeldOut:
    """Solve rate, return and regret on stored, solvable random levels, and on the hardest of them.

    Calling it with `(state, seed)` gives `solve_rate`, `return`, `regret`, and the same with `_hard`, f32 `[seeds]`
    each. Regret is the best possible return minus the student's, mean over episodes.

    Attributes:
        name: the set of levels, a key of `minimax_ued.data.HELD_OUT`.
        levels: the levels, leading axis L.
        hard: bool `[L]`, which of them are among the hardest.
        optimal_returns: f32 `[L]`.
    """

    def __init__(
        self,
        trainer: UEDTrainer,
        name: str | None = None,
        *,
        n_episodes: int = 1,
        policy: Policy = "sampled",
        max_levels: int | None = None,
    ) -> None:
        """Bind a trainer, whose environment and student are used, and a set of levels.

        Args:
            trainer: whose states are measured.
            name: the set; None takes the one of the size of the trainer's mazes.
            n_episodes: episodes on each level.
            policy: how actions are chosen.
            max_levels: use only so many levels: the hard ones first, then the others in their order.

        Raises:
            UserError: there is no such set, none of this size, or an argument is out of range.
        """
        size = trainer.config.env.height, trainer.config.env.width
        if name is None:
            fitting = [key for key, entry in HELD_OUT.items() if (entry.size, entry.size) == size]
            if not fitting:
                sizes = ", ".join(f"{entry.size} x {entry.size}" for entry in HELD_OUT.values())
                raise UserError(f"There are held-out levels of {sizes}, but none of {size[0]} x {size[1]}.")
            name = fitting[0]
        levels, hard = held_out_levels(name), held_out_levels(f"{name}-hard")
        is_hard = _contained(levels, hard)
        if max_levels is not None:
            if max_levels <= is_hard.sum():
                raise UserError(f"HeldOut.max_levels is {max_levels}, but must exceed the {is_hard.sum()} hard levels.")
            chosen = np.sort(np.argsort(~is_hard, kind="stable")[:max_levels])
            levels, is_hard = jax.tree.map(lambda x: x[chosen], levels), is_hard[chosen]
        self.name = name
        self.levels = jax.tree.map(jnp.asarray, levels)
        self.hard = is_hard
        env = trainer.env
        self.optimal_returns = np.asarray(
            jax.jit(jax.vmap(lambda level: paths.optimal_return(level, env.max_steps)))(self.levels)
        )
        self._play = _Player(env, trainer.student, n_episodes, policy)

    def episodes(self, state: TrainState, seed: int) -> Episodes:
        """Play; the result has shape `[seeds, L, n_episodes]`."""
        return self._play(state.params, jax.random.key(fold_seed(seed, "held-out")), self.levels)

    def __call__(self, state: TrainState, seed: int) -> Mapping[str, Array]:
        """Return the metrics that the class names."""
        episodes = self.episodes(state, seed)
        metrics = {}
        for suffix, chosen in (("", slice(None)), ("_hard", self.hard)):
            returns = episodes.returns[:, chosen]
            metrics[f"solve_rate{suffix}"] = (returns > 0).mean((1, 2), dtype=jnp.float32)
            metrics[f"return{suffix}"] = returns.mean((1, 2))
            metrics[f"regret{suffix}"] = (self.optimal_returns[chosen][:, None] - returns).mean((1, 2))
        return metrics


class OODMazes:
    """Solve rate and return on test mazes that are unlike the training levels.

    Calling it with `(state, seed)` gives `solve_rate/<maze>` and `return/<maze>` for each maze and their plain means
    `solve_rate` and `return` over mazes, f32 `[seeds]` each. Every episode draws its level anew where the maze has
    several. Mazes of up to 19 x 19 are padded with walls to one size, which changes nothing for the agent, and run as
    one program; each keeps its own step limit.

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
    ) -> None:
        """Bind a trainer, whose student and view are used, and mazes.

        Args:
            trainer: whose states are measured.
            names: keys of `minimax_ued.envs.maze.suite.TEST_MAZES`.
            n_episodes: episodes on each maze.
            policy: how actions are chosen.

        Raises:
            UserError: a maze is unknown or named twice, none is named, or an argument is out of range.
        """
        self.names = tuple(names)
        self.n_episodes = n_episodes
        if not self.names or len(set(self.names)) != len(self.names):
            raise UserError(f"OODMazes.names is {list(self.names)}, but must name at least one maze, and each once.")
        groups: dict[int, list[TestMaze]] = defaultdict(list)
        for maze in map(get_test_maze, self.names):
            size = max(maze.height, maze.width)
            groups[0 if size <= _SHARED_SIZE else size].append(maze)
        self._groups = [_Group(trainer, mazes, n_episodes, policy) for mazes in groups.values()]

    def episodes(self, state: TrainState, seed: int) -> dict[str, Episodes]:
        """Play; name -> episodes of shape `[seeds, n_episodes]`."""
        played = {}
        for group in self._groups:
            played |= group.episodes(state.params, jax.random.key(fold_seed(seed, "ood", *group.names)))
        return {name: played[name] for name in self.names}

    def __call__(self, state: TrainState, seed: int) -> Mapping[str, Array]:
        """Return the metrics that the class names."""
        metrics = {}
        for name, episodes in self.episodes(state, seed).items():
            metrics[f"solve_rate/{name}"] = episodes.solved.mean(1, dtype=jnp.float32)
            metrics[f"return/{name}"] = episodes.returns.mean(1)
        for kind in ("solve_rate", "return"):
            metrics[kind] = jnp.stack([metrics[f"{kind}/{name}"] for name in self.names]).mean(0)
        return metrics


class _Group:
    """Test mazes that are played together, padded to the largest of them."""

    def __init__(self, trainer: UEDTrainer, mazes: Sequence[TestMaze], n_episodes: int, policy: Policy) -> None:
        self.names = [maze.name for maze in mazes]
        height, width = max(maze.height for maze in mazes), max(maze.width for maze in mazes)
        steps = max(maze.max_steps for maze in mazes)
        config = dataclasses.replace(
            trainer.config.env, height=height, width=width, n_walls=0, sample_n_walls=False, max_steps=steps
        )
        self._play = _Player(Maze(config), trainer.student, 1, policy)
        self._limits = jnp.repeat(jnp.array([maze.max_steps for maze in mazes]), n_episodes)
        self._n_episodes = n_episodes

        self._sample = _sampler(tuple(self.names), n_episodes, height, width)

    def episodes(self, params: Any, key: Array) -> dict[str, Episodes]:
        """Name -> episodes `[seeds, n_episodes]`."""
        level_key, key = jax.random.split(key)
        played = self._play(params, key, self._sample(level_key), self._limits)
        # The environment's reward counts against the longest limit; each maze has its own.
        lengths = played.lengths[..., 0]
        returns = jnp.where(played.solved[..., 0], 1 - 0.9 * lengths / self._limits, 0.0)
        n = self._n_episodes
        return {
            name: Episodes(returns[:, i * n : (i + 1) * n], lengths[:, i * n : (i + 1) * n])
            for i, name in enumerate(self.names)
        }


@lru_cache
def _sampler(names: tuple[str, ...], n_episodes: int, height: int, width: int) -> Any:
    """Return key -> padded levels, `n_episodes` of each maze one after the other; compiled once per process."""
    mazes = [get_test_maze(name) for name in names]

    def sample(key: Array) -> Any:
        keys = jax.random.split(key, (len(mazes), n_episodes))
        drawn = [pad_level(jax.vmap(maze.sample_level)(keys[i]), height, width) for i, maze in enumerate(mazes)]
        return jax.tree.map(lambda *x: jnp.concatenate(x), *drawn)

    return jax.jit(sample)


class _Player:
    """`play` over seeds, levels and episodes: -> Episodes `[seeds, L, n_episodes]`."""

    def __init__(self, env: Environment, student: Student, n_episodes: int, policy: Policy) -> None:
        if policy not in get_args(Policy):
            raise UserError(f"policy is {policy!r}, but must be one of {', '.join(map(repr, get_args(Policy)))}.")
        if n_episodes < 1:
            raise UserError(f"n_episodes is {n_episodes}, but must be at least 1.")
        self._static = (env, student, n_episodes, policy == "greedy")
        self._scale = jnp.float32(policy != "random")

    def __call__(self, params: Any, key: Array, levels: Any, limits: Array | None = None) -> Episodes:
        return _play_all(*self._static, params, key, levels, limits, self._scale)


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _play_all(
    env: Environment,
    student: Student,
    n_episodes: int,
    greedy: bool,
    params: Any,
    key: Array,
    levels: Any,
    limits: Array | None,
    scale: Array,
) -> Episodes:
    """One program for every evaluator with an equal environment and student, whatever trainer it was bound to."""
    copies, limits = jax.tree.map(lambda x: jnp.repeat(x, n_episodes, axis=0), (levels, limits))
    seeds = jax.tree.leaves(params)[0].shape[0]
    played = jax.vmap(lambda p, k: _play(env, student, greedy, p, k, copies, limits, scale))(
        params, jax.random.split(key, seeds)
    )
    return jax.tree.map(lambda x: x.reshape(seeds, -1, n_episodes), played)


def _contained(levels: Any, subset: Any) -> np.ndarray:
    """Return bool `[L]`: which of `levels` occur in `subset`."""

    def rows(tree: Any) -> list[bytes]:
        leaves = [np.asarray(x) for x in jax.tree.leaves(tree)]
        return [b"".join(leaf[i].tobytes() for leaf in leaves) for i in range(len(leaves[0]))]

    wanted = set(rows(subset))
    return np.array([row in wanted for row in rows(levels)])
