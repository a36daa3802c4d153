"""Measuring a student on levels it did not train on.

The protocol of the UED literature: actions are sampled from the policy, only the first episode counts, and a level is
solved when the return is above zero. Regret is held against the best possible return, which breadth-first search over
poses gives exactly.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from outerloop.errors import UserError
from outerloop.seeds import fold_seed

from minimax_ued.cycle import TrainState
from minimax_ued.data import HELD_OUT, held_out_levels
from minimax_ued.envs.base import Environment
from minimax_ued.envs.maze import paths
from minimax_ued.envs.maze.suite import get_test_maze
from minimax_ued.students import Student
from minimax_ued.trainer import UEDTrainer

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
    env: Environment, student: Student, params: Any, key: Array, levels: Any, *, policy: Policy = "sampled"
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

    Returns:
        Episodes, `[L]`.
    """
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
        if policy == "greedy":
            actions = output.logits.argmax(-1)
        else:
            actions = jax.random.categorical(action_key, output.logits * (policy == "sampled"))
        state, timestep = jax.vmap(env.step)(jax.random.split(step_key, n), levels, loop["state"], actions)
        running = ~loop["over"]
        return {
            "time": loop["time"] + 1,
            "state": state,
            "carry": carry,
            "over": loop["over"] | timestep.done,
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
    several. Mazes of one size and one step limit run as one program.

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
        groups = defaultdict(list)
        for name in self.names:
            maze = get_test_maze(name)
            groups[maze.environment(trainer.config.env)].append(maze)
        self._groups = [
            ([maze.name for maze in mazes], jax.jit(_sampler(mazes, n_episodes)), _Player(env, trainer.student, 1, policy))
            for env, mazes in groups.items()
        ]

    def episodes(self, state: TrainState, seed: int) -> dict[str, Episodes]:
        """Play; name -> episodes of shape `[seeds, n_episodes]`."""
        result = {}
        for names, sample, player in self._groups:
            level_key, key = jax.random.split(jax.random.key(fold_seed(seed, "ood", *names)))
            played = player(state.params, key, sample(level_key))
            for i, name in enumerate(names):
                chosen = slice(i * self.n_episodes, (i + 1) * self.n_episodes)
                result[name] = Episodes(*(x[:, chosen, 0] for x in played))
        return {name: result[name] for name in self.names}

    def __call__(self, state: TrainState, seed: int) -> Mapping[str, Array]:
        """Return the metrics that the class names."""
        metrics = {}
        for name, episodes in self.episodes(state, seed).items():
            metrics[f"solve_rate/{name}"] = episodes.solved.mean(1, dtype=jnp.float32)
            metrics[f"return/{name}"] = episodes.returns.mean(1)
        for kind in ("solve_rate", "return"):
            metrics[kind] = jnp.stack([metrics[f"{kind}/{name}"] for name in self.names]).mean(0)
        return metrics


class _Player:
    """`play` compiled over seeds, levels and episodes: -> Episodes `[seeds, L, n_episodes]`."""

    def __init__(self, env: Environment, student: Student, n_episodes: int, policy: Policy) -> None:
        if policy not in get_args(Policy):
            raise UserError(f"policy is {policy!r}, but must be one of {', '.join(map(repr, get_args(Policy)))}.")
        if n_episodes < 1:
            raise UserError(f"n_episodes is {n_episodes}, but must be at least 1.")

        def run(params: Any, key: Array, levels: Any) -> Episodes:
            copies = jax.tree.map(lambda x: jnp.repeat(x, n_episodes, axis=0), levels)
            seeds = jax.tree.leaves(params)[0].shape[0]
            played = jax.vmap(lambda p, k: play(env, student, p, k, copies, policy=policy))(
                params, jax.random.split(key, seeds)
            )
            return jax.tree.map(lambda x: x.reshape(seeds, -1, n_episodes), played)

        self._run = jax.jit(run)

    def __call__(self, params: Any, key: Array, levels: Any) -> Episodes:
        return self._run(params, key, levels)


def _sampler(mazes: Sequence[Any], n_episodes: int) -> Any:
    """Return key -> levels, `n_episodes` of each maze one after the other."""

    def sample(key: Array) -> Any:
        keys = jax.random.split(key, (len(mazes), n_episodes))
        drawn = [jax.vmap(maze.sample_level)(keys[i]) for i, maze in enumerate(mazes)]
        return jax.tree.map(lambda *x: jnp.concatenate(x), *drawn)

    return sample


def _contained(levels: Any, subset: Any) -> np.ndarray:
    """Return bool `[L]`: which of `levels` occur in `subset`."""

    def rows(tree: Any) -> list[bytes]:
        leaves = [np.asarray(x) for x in jax.tree.leaves(tree)]
        return [b"".join(leaf[i].tobytes() for leaf in leaves) for i in range(len(leaves[0]))]

    wanted = set(rows(subset))
    return np.array([row in wanted for row in rows(levels)])
