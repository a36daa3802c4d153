"""What a person looks at after a run: the levels trained on, and episodes of the trained student as a GIF."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from minimax_ued.cycle import TrainState
from minimax_ued.envs.base import Environment
from minimax_ued.envs.maze.level import Level
from minimax_ued.envs.maze.paths import min_actions
from minimax_ued.envs.maze.suite import get_test_maze
from minimax_ued.pictures import level_sheet, save_gif, save_png
from minimax_ued.students import Student
from minimax_ued.trainer import UEDTrainer
from outerloop.seeds import fold_seed

__all__ = ["action_labels", "draw_run", "draw_test_mazes", "random_levels", "record_episode"]


def random_levels(env: Environment, seed: int, n: int) -> tuple[Any, np.ndarray]:
    """Draw `n` levels from the environment's generator, a maze's; also i32[n], their `min_actions`."""
    return jax.device_get(_random_levels(env, jax.random.key(seed), n))


def action_labels(actions: np.ndarray) -> list[str]:
    """Say for each level how many actions it takes, -1 standing for none that lead to the goal."""
    return [f"{int(n)} actions" if n >= 0 else "unsolvable" for n in actions]


@partial(jax.jit, static_argnums=(0, 2))  # op by op, this would take a quarter of a minute to compile
def _random_levels(env: Environment, key: Array, n: int) -> tuple[Any, Array]:
    levels = jax.vmap(env.sample_level)(jax.random.split(key, n))
    return levels, jax.vmap(min_actions)(levels)


def record_episode(
    env: Environment, student: Student, params: Any, key: Array, level: Any
) -> tuple[np.ndarray, np.ndarray, float]:
    """Play one episode with sampled actions and keep every pose.

    Args:
        env: a maze.
        student: the network.
        params: its variables (no seed axis).
        key: all randomness.
        level: one level.

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
    directions = jnp.concatenate([state.agent_dir[None], directions])
    return positions, directions, rewards, dones


def draw_run(trainer: UEDTrainer, state: TrainState, folder: Path, *, seed: int = 0, levels: int = 24) -> list[Path]:
    """Draw the levels that a run trains on and an episode of its first student.

    Args:
        trainer: the method; its environment is a maze.
        state: the trained state.
        folder: an existing folder.
        seed: of the levels and of the episode.
        levels: how many levels to draw.

    Returns:
        The files: `levels.png`, and `episode.gif`.
    """
    drawn, actions = random_levels(trainer.env, fold_seed(seed, "gallery"), max(levels, 64))
    if state.buffer is not None and int(state.buffer.filled[0].sum()) >= levels:
        scores = np.asarray(state.buffer.scores[0])  # -inf in empty slots
        best = np.argsort(-scores)[:levels]
        shown = jax.tree.map(lambda x: np.asarray(x[0])[best], state.buffer.levels)
        labels = [f"score {score:.3f}" for score in scores[best]]
    else:
        shown = jax.tree.map(lambda x: x[:levels], drawn)
        labels = action_labels(actions[:levels])
    files = [save_png(folder / "levels.png", level_sheet(shown, labels, columns=8))]

    # The longest way of all: an episode in which there is something to see.
    level = jax.tree.map(lambda x: x[np.argmax(actions)], drawn)
    params = jax.tree.map(lambda x: x[0], state.params)
    key = jax.random.key(fold_seed(seed, "gallery", "actions"))
    positions, directions, _ = record_episode(trainer.env, trainer.student, params, key, level)
    view = trainer.config.env.view_size
    files.append(save_gif(folder / "episode.gif", level, positions, directions, view_size=view, tile=24))
    return files


def draw_test_mazes(names: list[str], path: Path, *, seed: int = 0) -> Path:
    """Draw one level of each named test maze on one sheet."""
    levels: list[Level] = []
    for name in names:
        key = jax.random.key(fold_seed(seed, "gallery", name))
        levels.append(jax.device_get(jax.jit(get_test_maze(name).sample_level)(key)))
    return save_png(path, level_sheet(levels, names, columns=5))
