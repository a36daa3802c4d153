"""What a person looks at after a run: the levels trained on, and episodes of the trained student as a GIF."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from minimax_ued.cycle.state import TrainState
from minimax_ued.envs.base import Environment
from minimax_ued.envs.maze import Maze
from minimax_ued.envs.maze.level import Level
from minimax_ued.envs.maze.paths import min_actions
from minimax_ued.exhibits.pictures import level_sheet, save_gif, save_png
from minimax_ued.exhibits.snapshots import action_labels, count_actions, find_curriculum, top_levels
from minimax_ued.levels.suite import get_test_maze
from minimax_ued.nets.students import Student
from minimax_ued.trainer import UEDTrainer
from paperloop.errors import UserError
from paperloop.seeds import fold_seed

__all__ = ["draw_hardest", "draw_mutations", "draw_run", "draw_test_mazes", "random_levels", "record_episode"]


def random_levels(env: Environment, seed: int, n: int) -> tuple[Any, np.ndarray]:
    """Draw `n` levels from the environment's generator, a maze's; also i32[n], their `min_actions`."""
    return jax.device_get(_random_levels(env, jax.random.key(seed), n))


@partial(jax.jit, static_argnums=(0, 2))  # op by op, this would take a quarter of a minute to compile
def _random_levels(env: Environment, key: Array, n: int) -> tuple[Any, Array]:
    levels = jax.vmap(env.sample_level)(jax.random.split(key, n))
    return levels, jax.vmap(min_actions)(levels)


def record_episode(
    env: Environment, student: Student, params: Any, key: Array, level: Any
) -> tuple[np.ndarray, np.ndarray, float]:
    """Play one episode of a maze with sampled actions, and keep every pose; `params` has no seed axis.

    Returns:
        i32[n, 2] positions (x, y) and i32[n] directions from the start to the last step, and the return.
    """
    positions, directions, rewards, dones = jax.device_get(_record(env, student, params, key, level))
    last = int(np.argmax(dones)) if dones.any() else len(dones) - 1
    return positions[: last + 2], directions[: last + 2], float(rewards[: last + 1].sum())


@partial(jax.jit, static_argnums=(0, 1))
def _record(env: Any, student: Student, params: Any, key: Array, level: Any) -> tuple[Array, Array, Array, Array]:
    prepared = env.prepare(level)
    reset_key, key = jax.random.split(key)

    def body(loop: tuple[Any, Any, Array], step_key: Array) -> tuple[tuple[Any, Any, Array], tuple[Array, ...]]:
        state, carry, reset = loop
        action_key, env_key = jax.random.split(step_key)
        observation = jax.tree.map(lambda x: x[None], env.observe(prepared, state))
        carry, output = student.apply(params, carry, observation, reset, method="step")
        action = jax.random.categorical(action_key, output.logits[0])
        state, timestep = env.step(env_key, prepared, state, action)
        return (state, carry, timestep.done[None]), (state.agent_pos, state.agent_dir, timestep.reward, timestep.done)

    state = env.reset(reset_key, prepared)
    loop = (state, student.initial_carry(1), jnp.ones(1, bool))
    _, (positions, directions, rewards, dones) = jax.lax.scan(body, loop, jax.random.split(key, env.max_steps))
    positions = jnp.concatenate([state.agent_pos[None], positions])
    return positions, jnp.concatenate([state.agent_dir[None], directions]), rewards, dones


def draw_run(trainer: UEDTrainer, state: TrainState, folder: Path, *, seed: int = 0, levels: int = 24) -> list[Path]:
    """Draw the levels that a run trains on, and an episode of its first student.

    Returns:
        `levels.png` and `episode.gif` in `folder`, which exists; nothing where the environment is not a maze.
    """
    if not isinstance(trainer.env, Maze):
        return []
    drawn, actions = random_levels(trainer.env, fold_seed(seed, "gallery"), max(levels, 64))
    shown, labels = jax.tree.map(lambda x: x[:levels], drawn), action_labels(actions[:levels])
    curriculum = find_curriculum(trainer, state, fold_seed(seed, "gallery", "teacher"))
    if curriculum is not None:
        kept, weights = top_levels(curriculum, levels)
        if len(weights) == levels:
            shown, labels = kept, [f"replayed {100 * weight:.2g} %" for weight in weights]
    # The longest way of all: an episode in which there is something to see.
    level = jax.tree.map(lambda x: x[np.argmax(actions)], drawn)
    params = jax.tree.map(lambda x: x[0], trainer.student_params(state))
    key = jax.random.key(fold_seed(seed, "gallery", "actions"))
    positions, directions, _ = record_episode(trainer.env, trainer.student, params, key, level)
    view = trainer.config.env.view_size
    return [
        save_png(folder / "levels.png", level_sheet(shown, labels, columns=8)),
        save_gif(folder / "episode.gif", level, positions, directions, view_size=view, tile=24),
    ]


def draw_hardest(
    levels: Any, ranking: np.ndarray, measured: np.ndarray, actions: np.ndarray, path: Path, *, columns: int = 8
) -> Path:
    """Draw the longest mazes that a student solves, in the first row, and those it fails on, in the second.

    Which they are is decided by the win rates `ranking` f64 `[L]` of one round of attempts; the labels give `measured`,
    those of another, so that they are not the product of chance alone. Of the levels failed on equally often the
    shortest come first, those with the fewest `actions` i32 `[L]`: they are the odd ones.
    """
    solved = np.flatnonzero(ranking > 0.5)
    solved = solved[np.argsort(-actions[solved], kind="stable")][:columns]
    shown: list[Level | None] = []
    labels: list[str] = []
    for row in (solved, np.lexsort((actions, ranking))[:columns]):
        empty = (columns - len(row)) * (len(row) > 0)
        shown += [jax.tree.map(lambda x: np.asarray(x[i]), levels) for i in row] + [None] * empty  # noqa: B023
        labels += [f"{100 * measured[i]:.0f} %, {actions[i]} actions" for i in row] + [""] * empty
    return save_png(path, level_sheet(shown, labels, columns=columns))


def draw_mutations(env: Any, levels: Any, operator: str, n_edits: int, path: Path, *, seed: int = 0) -> Path:
    """Draw each maze and, to its right, what `n_edits` edits by `operator`, a name in `env.mutations`, make of it.

    Raises:
        UserError: there is no such operator; the message names those that there are.
    """
    mutations = getattr(env, "mutations", {})
    if operator not in mutations:
        known = ", ".join(sorted(mutations)) or "none"
        raise UserError(f"The mutation operator is {operator!r}, but {type(env).__name__} has: {known}.")
    edited = jax.device_get(_mutated(env, operator, n_edits, jax.random.key(fold_seed(seed, "edits")), levels))
    both = jax.tree.map(lambda *x: np.stack(x, 1).reshape(-1, *np.shape(x[0])[1:]), jax.device_get(levels), edited)
    labels = action_labels(count_actions(both))
    labels[1::2] = [f"{n_edits} edits: {text}" for text in labels[1::2]]
    return save_png(path, level_sheet(both, labels, columns=8))


@partial(jax.jit, static_argnums=(0, 1, 2))
def _mutated(env: Any, operator: str, n_edits: int, key: Array, levels: Any) -> Any:
    keys = jax.random.split(key, jax.tree.leaves(levels)[0].shape[0])
    return jax.vmap(lambda k, level: env.mutations[operator](k, level, n_edits))(keys, levels)


def draw_test_mazes(names: list[str], path: Path, *, seed: int = 0) -> Path:
    """Draw one level of each named test maze on one sheet."""
    keys = [jax.random.key(fold_seed(seed, "gallery", name)) for name in names]
    samplers = [jax.jit(get_test_maze(name).sample_level) for name in names]
    levels: list[Level | None] = [jax.device_get(sample(key)) for sample, key in zip(samplers, keys, strict=True)]
    return save_png(path, level_sheet(levels, names, columns=5))
