"""What a person looks at after a run: the levels trained on, and an episode of the trained student as a GIF."""

from __future__ import annotations

from collections.abc import Sequence
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
from minimax_ued.envs.maze.paths import min_actions
from minimax_ued.evaluation.kept import find_kept
from minimax_ued.exhibits.pictures import level_sheet, save_gif, save_png
from minimax_ued.levels.suite import get_test_maze
from minimax_ued.nets.students import Student
from minimax_ued.trainer import UEDTrainer
from paperloop.seeds import fold_seed

__all__ = ["draw_levels", "draw_run", "draw_test_mazes", "random_levels", "record_episode"]


@partial(jax.jit, static_argnums=(0, 2))  # op by op, this would take a quarter of a minute to compile
def random_levels(env: Environment, key: Array, n: int) -> Any:
    """Draw `n` levels from the environment's generator."""
    return jax.vmap(env.sample_level)(jax.random.split(key, n))


def draw_levels(levels: Any, path: Path, labels: Sequence[str] = ()) -> Path:
    """Draw mazes with the leading axis L; each label, where none is given, is the number of actions it takes."""
    host = jax.device_get(levels)
    single = [jax.tree.map(lambda x: x[i], host) for i in range(len(host.wall_map))]  # noqa: B023
    if not labels:
        labels = [f"{n} actions" if n >= 0 else "unsolvable" for n in _min_actions(levels).tolist()]
    return save_png(path, level_sheet(single, labels))


_min_actions = jax.jit(jax.vmap(min_actions))


def draw_test_mazes(names: Sequence[str], path: Path, *, seed: int = 0) -> Path:
    """Draw one level of each named test maze on one sheet."""
    keys = [jax.random.key(fold_seed(seed, "gallery", name)) for name in names]
    samplers = [jax.jit(get_test_maze(name).sample_level) for name in names]
    levels = [jax.device_get(sample(key)) for sample, key in zip(samplers, keys, strict=True)]
    return save_png(path, level_sheet(levels, names, columns=5))


def draw_run(trainer: UEDTrainer, state: TrainState, folder: Path, *, seed: int = 0, n: int = 24) -> list[Path]:
    """Draw the levels that a run trains on, and an episode of its first student.

    Returns:
        `levels.png` and `episode.gif` in `folder`, which exists; nothing where the environment is not a maze.
    """
    if not isinstance(trainer.env, Maze):
        return []
    levels = random_levels(trainer.env, jax.random.key(fold_seed(seed, "gallery")), 64)
    shown, labels = jax.tree.map(lambda x: x[:n], levels), []
    kept = find_kept(trainer, state, fold_seed(seed, "gallery", "teacher"))
    if kept is not None:
        weights = np.asarray(kept.weights[0])
        best = np.argsort(-weights, kind="stable")[:n]
        if (weights[best] > 0).all():
            shown = jax.tree.map(lambda x: x[0][best], kept.levels)
            labels = [f"replayed {100 * weight:.2g} %" for weight in weights[best]]
    # The longest way of all: an episode in which there is something to see.
    level = jax.tree.map(lambda x: x[int(_min_actions(levels).argmax())], levels)
    params = jax.tree.map(lambda x: x[0], trainer.student_params(state))
    key = jax.random.key(fold_seed(seed, "gallery", "actions"))
    positions, directions = record_episode(trainer.env, trainer.student, params, key, level)
    view = trainer.env.config.view_size
    return [
        draw_levels(shown, folder / "levels.png", labels),
        save_gif(folder / "episode.gif", jax.device_get(level), positions, directions, view_size=view),
    ]


def record_episode(env: Maze, student: Student, params: Any, key: Array, level: Any) -> tuple[np.ndarray, np.ndarray]:
    """Play one episode of a maze with sampled actions, and keep every pose; `params` has no seed axis.

    Returns:
        i32[n, 2] positions (x, y) and i32[n] directions from the start to the last step.
    """
    positions, directions, dones = jax.device_get(_record(env, student, params, key, level))
    last = int(np.argmax(dones)) if dones.any() else len(dones) - 1
    return positions[: last + 2], directions[: last + 2]


@partial(jax.jit, static_argnums=(0, 1))
def _record(env: Maze, student: Student, params: Any, key: Array, level: Any) -> tuple[Array, Array, Array]:
    prepared = env.prepare(level)
    reset_key, key = jax.random.split(key)

    def body(loop: tuple[Any, Any, Array], step_key: Array) -> tuple[tuple[Any, Any, Array], tuple[Array, ...]]:
        state, carry, reset = loop
        action_key, env_key = jax.random.split(step_key)
        observation = jax.tree.map(lambda x: x[None], env.observe(prepared, state))
        carry, output = student.apply(params, carry, observation, reset, method="step")
        action = jax.random.categorical(action_key, output.logits[0])
        state, timestep = env.step(env_key, prepared, state, action)
        return (state, carry, timestep.done[None]), (state.agent_pos, state.agent_dir, timestep.done)

    state = env.reset(reset_key, prepared)
    loop = (state, student.initial_carry(1), jnp.ones(1, bool))
    _, (positions, directions, dones) = jax.lax.scan(body, loop, jax.random.split(key, env.max_steps))
    positions = jnp.concatenate([state.agent_pos[None], positions])
    return positions, jnp.concatenate([state.agent_dir[None], directions]), dones
