"""A finished run for use elsewhere: its trainer, its state and its students."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from minimax_ued.config import SCHEMA, TrainConfig
from minimax_ued.cycle.state import TrainState
from minimax_ued.envs.base import Environment
from minimax_ued.envs.maze.observe import Observation
from minimax_ued.nets.students import Student
from minimax_ued.trainer import UEDTrainer
from minimax_ued.use.export import about, policy_arrays
from paperloop.errors import UserError, setting
from paperloop.files import write_atomically
from paperloop.loop.runner import restore
from paperloop.settings import load_config

__all__ = ["LoadedRun", "LoadedStudent", "load_run"]


@dataclasses.dataclass(frozen=True)
class LoadedStudent:
    """A trained student of one seed.

        student = load_run("runs/small").students[0]
        action, memory = student.act(observation)           # a new episode
        action, memory = student.act(observation, memory)   # its next step

    Observations are those of the environment: for mazes `image [v, v, 3]`, indexed [row, column], and `direction []`,
    as an `Observation` or a mapping with these keys (MiniGrid's image is indexed [column, row]); for CartPole an array
    `[4]`. Everything may have one leading axis B of episodes side by side.

    Attributes:
        config: of the run.
        env: that it was trained in.
        network: the flax module.
        params: its variables.
    """

    config: TrainConfig
    env: Environment
    network: Student
    params: Any

    def start(self, batch: int) -> Any:
        """Return the memory of `batch` episodes before their first step."""
        return self.network.initial_carry(batch)

    def predict(self, observation: Any, memory: Any = None) -> tuple[Array, Any]:
        """Return the probabilities of all actions, f32 `[A]` or `[B, A]`, and the memory of the next step.

        Args:
            observation: see the class.
            memory: what the call before returned; None at the start of an episode.

        Raises:
            UserError: the observation has another form than the environment's.
        """
        logits, memory = self._logits(observation, memory)
        return jax.nn.softmax(logits), memory

    def act(self, observation: Any, memory: Any = None, key: Array | None = None) -> tuple[Array, Any]:
        """Return actions, i32 `[]` or `[B]`, and the memory of the next step.

        Args:
            observation: see the class.
            memory: what the call before returned; None at the start of an episode.
            key: sample the actions, as in training and in evaluations; None takes the most likely ones.

        Raises:
            UserError: the observation has another form than the environment's.
        """
        logits, memory = self._logits(observation, memory)
        return (logits.argmax(-1) if key is None else jax.random.categorical(key, logits)), memory

    def _logits(self, observation: Any, memory: Any) -> tuple[Array, Any]:
        observation, single = self._batch(observation)
        n = jax.tree.leaves(observation)[0].shape[0]
        memory, logits = _step(self.network, self.params, self.start(n) if memory is None else memory, observation)
        return (logits[0] if single else logits), memory

    def _batch(self, observation: Any) -> tuple[Any, bool]:
        """Return the observation with a leading axis, and whether it had none."""
        like = _observed(self.env)
        if isinstance(like, Observation) and isinstance(observation, Mapping):
            observation = Observation(observation.get("image"), observation.get("direction"))
        expected, found = ([np.shape(x) for x in jax.tree.leaves(tree)] for tree in (like, observation))
        if found == expected:
            return jax.tree.map(lambda x: jnp.asarray(x)[None], observation), True
        if len(found) != len(expected) or [shape[1:] for shape in found] != expected or len({s[:1] for s in found}) > 1:
            raise UserError(
                f"The observation has arrays of shapes {found}, but {type(self.env).__name__} gives "
                f"{expected}, or the same with one leading axis for episodes side by side."
            )
        return jax.tree.map(jnp.asarray, observation), False

    def export(self, path: Path | str) -> Path:
        """Write the policy to one .npz file, which `NumpyStudent` reads; "about" holds the configuration as JSON.

        Raises:
            UserError: the network is not one of `make_student`, or the file cannot be written.
        """
        path, buffer = Path(path), io.BytesIO()
        arrays: Any = policy_arrays(self.config, self.params)
        np.savez(buffer, about=np.array(json.dumps(about(self.config))), **arrays)
        try:
            write_atomically(path, buffer.getvalue())
        except OSError as error:
            raise UserError(f"{path} cannot be written ({error.strerror}): choose another place.") from None
        return path


@partial(jax.jit, static_argnums=0)
def _step(network: Student, params: Any, memory: Any, observation: Any) -> tuple[Any, Array]:
    resets = jnp.zeros(jax.tree.leaves(observation)[0].shape[0], bool)
    memory, output = network.apply(params, memory, observation, resets, method="step")
    return memory, output.logits


def _observed(env: Environment) -> Any:
    def first(key: Array) -> Any:
        level = env.sample_level(key)
        return env.observe(level, env.reset(key, level))

    return jax.eval_shape(first, jax.random.key(0))


@dataclasses.dataclass(frozen=True)
class LoadedRun:
    """A run at its newest checkpoint.

    Attributes:
        trainer: bound to the run's configuration, on one device.
        state: everything that was trained.
        config: the configuration.
    """

    trainer: UEDTrainer
    state: TrainState
    config: TrainConfig

    @property
    def students(self) -> tuple[LoadedStudent, ...]:
        """The student of every seed; where a method trains several together, the first, which is trained for."""
        return tuple(self.student(seed) for seed in range(self.config.seeds))

    def student(self, seed: int = 0, student: int = 0) -> LoadedStudent:
        """Return one of the students that a method trains together, of one seed.

        Raises:
            UserError: the seed or student does not exist.
        """
        if not 0 <= seed < self.config.seeds:
            raise UserError(f"{setting('seed')} is {seed}, but the run has the seeds 0 to {self.config.seeds - 1}.")
        params = jax.tree.map(lambda x: x[seed], self.trainer.student_params(self.state, student))
        return LoadedStudent(self.config, self.trainer.env, self.trainer.student, params)


def load_run(folder: Path | str, *, env: Environment | None = None, student: Student | None = None) -> LoadedRun:
    """Return the trainer, state, configuration and students of a run folder.

    Args:
        folder: that `minimax-ued train`, or `paperloop.run` with a `UEDTrainer`, wrote.
        env: the environment, where the run had one of its own.
        student: the network, where the run had one of its own.

    Raises:
        UserError: the folder is not such a run.
        CheckpointError: there is no checkpoint, or the newest one is damaged.
    """
    folder = Path(folder)
    config = dataclasses.replace(load_config(TrainConfig, folder, SCHEMA), devices=1)
    trainer = UEDTrainer(config, env=env, student=student)
    return LoadedRun(trainer, restore(trainer, folder), config)
