"""The levels that a run trains on, over training: numbers for the log, pictures, and the levels themselves."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from minimax_ued.cycle.state import TrainState
from minimax_ued.envs.base import Environment
from minimax_ued.envs.maze import Level, Maze
from minimax_ued.envs.maze.paths import min_actions
from minimax_ued.exhibits.pictures import level_sheet, save_png
from minimax_ued.levels.files import load_levels, save_levels
from minimax_ued.replay.buffer import LevelBuffer
from minimax_ued.support import counting
from minimax_ued.trainer import UEDTrainer
from paperloop.errors import UserError
from paperloop.seeds import fold_seed
from paperloop_lab import plots

__all__ = [
    "Curriculum", "LevelSnapshots", "action_labels", "count_actions", "draw_timeline", "find_curriculum", "top_levels",
]  # fmt: skip

#: Levels on a picture, and levels that a teacher is asked for where nothing is kept.
_SHOWN, _BUILT = 16, 64

_SNAPSHOT = re.compile(r"buffer-(\d+)\.npz")


class Curriculum(NamedTuple):
    """Levels that a method would train on now, for every seed.

    Attributes:
        levels: leading axes `[seeds, N]`.
        weights: f32 `[seeds, N]`, probability of each; all zero where nothing is kept yet.
    """

    levels: Any
    weights: Array


def find_curriculum(trainer: UEDTrainer, state: TrainState, seed: int = 0) -> Curriculum | None:
    """Return the levels that student 0 would train on now; None for domain randomisation, which has none.

    They are those of its level buffer with the replay distribution; the learnable ones, equally likely; those of NCC
    with the learned distribution; or, where nothing is kept, fresh ones of the teacher, which follow from `seed`.
    """
    curator, seeds = trainer.config.method_spec.curator, trainer.config.seeds
    if curator == "buffer":
        buffer = LevelBuffer(trainer.config.buffer, trainer.env.level_hash, trainer.env.same_level)
        content = jax.tree.map(lambda x: x[:, 0], state.buffer)
        return Curriculum(content.levels, _replay_weights(buffer, content))
    if curator == "distribution":
        return Curriculum(state.buffer.levels, state.buffer.probabilities)
    if curator == "learnable":
        filled = state.buffer.filled.astype(jnp.float32)
        return Curriculum(state.buffer.levels, filled / jnp.maximum(filled.sum(-1, keepdims=True), 1))
    if trainer.teaching is None or state.teacher is None:
        return None
    keys = jax.random.split(jax.random.key(fold_seed(seed, "teacher")), seeds)
    return Curriculum(_build(trainer.teaching, state.teacher.params, keys), jnp.full((seeds, _BUILT), 1 / _BUILT))


@partial(jax.jit, static_argnums=0)
def _replay_weights(buffer: LevelBuffer, content: Any) -> Array:
    return jax.vmap(buffer.weights)(content)


@partial(jax.jit, static_argnums=0)
def _build(teaching: Any, params: Any, keys: Array) -> Any:
    return jax.vmap(lambda p, key: teaching.build(p, key, _BUILT)[0])(params, keys)


def top_levels(found: Curriculum, n: int, *, run: int = 0) -> tuple[Any, np.ndarray]:
    """Return at most `n` levels of seed `run`, the most likely first, and their probabilities."""
    weights = np.asarray(found.weights[run])
    best = np.argsort(-weights, kind="stable")[: min(n, int((weights > 0).sum()))]
    return jax.tree.map(lambda x: np.asarray(x[run])[best], found.levels), weights[best]


class LevelSnapshots:
    """An evaluator that looks at the levels a run trains on.

    Calling it with `(state, seed)` returns, f32 `[seeds]` each, the expectations of the environment's `level_metrics`
    under the probability with which each level would be trained on now (for mazes `n_walls`, `solvable` and
    `path_length`; the mean path of solvable levels is `path_length` / `solvable`), and `kept`, the number of levels
    with a probability above zero. All are 0 while nothing is kept.

    With a folder, which is made when it is needed, it also leaves `buffer-<step>.png`, the most likely levels of the
    first seed with their probability and the number of actions they take, and the same levels as `buffer-<step>.npz`
    (`minimax_ued.levels.files`). A step is a dispatch, as in metrics.jsonl. A run that resumes writes the same files
    again.
    """

    def __init__(self, trainer: UEDTrainer, folder: Path | None = None) -> None:
        """Bind a trainer, whose states are looked at, and a folder for pictures, or None.

        Raises:
            UserError: the method is domain randomisation, which has no curriculum to look at.
        """
        method = trainer.config.method_spec
        if not (method.curated or method.teacher):
            raise UserError(f"Method {method.name!r} draws all its levels from one generator: nothing changes.")
        self.folder = folder
        self._trainer = trainer

    def __call__(self, state: TrainState, seed: int) -> Mapping[str, Array]:
        """Return the metrics that the class names, and draw."""
        found = find_curriculum(self._trainer, state, seed)
        assert found is not None
        if self.folder is not None and isinstance(self._trainer.env, Maze):
            self._draw(found, int(counting.value(state.cycles).min()) // self._trainer.config.cycles_per_step)
        return _expectations(self._trainer.env, found)

    def _draw(self, found: Curriculum, step: int) -> None:
        levels, weights = top_levels(found, _SHOWN)
        if len(weights):
            assert self.folder is not None
            save_levels(self.folder / f"buffer-{step}.npz", levels)
            actions = action_labels(count_actions(levels))
            labels = [f"{100 * weight:.2g} %, {text}" for weight, text in zip(weights, actions, strict=True)]
            save_png(self.folder / f"buffer-{step}.png", level_sheet(levels, labels, columns=8))


@partial(jax.jit, static_argnums=0)
def _expectations(env: Environment, found: Curriculum) -> dict[str, Array]:
    metrics = jax.vmap(jax.vmap(env.level_metrics))(found.levels)
    kept = {"kept": (found.weights > 0).sum(-1, dtype=jnp.float32)}
    return kept | {name: (found.weights * value).sum(-1) for name, value in metrics.items()}


def draw_timeline(
    folder: Path, path: Path, *, steps_each: float | None = None, moments: int = 6, columns: int = 8
) -> Path | None:
    """Draw what a run trained on over time: a row for each of some moments, evenly spread over the snapshots.

    Args:
        folder: where `LevelSnapshots` left its files.
        path: the picture to write.
        steps_each: environment steps of a dispatch, in which moments are then told; None tells dispatches.
        moments: at most so many rows.
        columns: most likely levels of a moment.

    Returns:
        `path`, or None where there is no snapshot.
    """
    steps = sorted(int(found[1]) for file in folder.glob("*.npz") if (found := _SNAPSHOT.fullmatch(file.name)))
    if not steps:
        return None
    levels: list[Level | None] = []
    labels: list[str] = []
    for step in sorted({steps[round(i)] for i in np.linspace(0, len(steps) - 1, moments)}):
        kept = load_levels(folder / f"buffer-{step}.npz")
        actions = action_labels(count_actions(kept))[:columns]
        empty = columns - len(actions)
        at = f"step {step}" if steps_each is None else f"{plots.significant(step * steps_each / 1e6)} M"
        levels += [jax.tree.map(lambda x: x[i], kept) for i in range(len(actions))] + [None] * empty  # noqa: B023
        labels += [f"{at}: {told}" for told in actions] + [""] * empty
    return save_png(path, level_sheet(levels, labels, columns=columns))


def count_actions(levels: Any) -> np.ndarray:
    """Return i32 `[L]`, the fewest actions to the goal of each maze; -1 for none that lead there."""
    return np.asarray(_min_actions(jax.tree.map(jnp.asarray, levels)))


_min_actions = jax.jit(jax.vmap(min_actions))


def action_labels(actions: np.ndarray) -> list[str]:
    """Say for each level how many actions it takes, -1 standing for none that lead to the goal."""
    return [f"{int(n)} actions" if n >= 0 else "unsolvable" for n in actions]
