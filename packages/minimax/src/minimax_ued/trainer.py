"""Training a student on a curriculum of levels, as an `outerloop.Trainer`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from minimax_ued.buffer import LevelBuffer
from minimax_ued.config import TrainConfig
from minimax_ued.cycle import Cycle, TrainState, finish_metrics
from minimax_ued.envs.base import Environment
from minimax_ued.envs.maze import Maze
from minimax_ued.students import Student, make_student
from outerloop.errors import UserError
from outerloop.jax_backend import load_pytree, save_pytree
from outerloop.seeds import fold_seed

__all__ = ["UEDTrainer"]


class UEDTrainer:
    """Unsupervised environment design: `config.seeds` students, each on its own curriculum of levels.

        trainer = UEDTrainer(PRESETS["small"])
        state = trainer.init(seed=0)
        for _ in range(trainer.num_steps):
            state, metrics = trainer.step(state)
        held_out = HeldOut(trainer)(state, seed=1)

    One `step` is one dispatch of `config.cycles_per_step` cycles, all of them compiled into one program that consumes
    the state it is given. Metrics are means over these cycles, f32 with a leading seed axis. A mean over something that
    did not occur (episodes, when none finished; PPO losses, when no update was made) is 0; `episodes`, the number of
    finished episodes per cycle, and `learn`, the part of the cycles that updated the student, say when.

    Attributes:
        config: the run.
        env: the environment.
        student: the network.
        num_steps: dispatches that `config.total_env_steps` takes.
        donates: True, `step` consumes the state it is given.
        resume_ignores: what may differ when a run goes on: devices, and its length, unless the step size depends on it.
    """

    donates = True

    def __init__(self, config: TrainConfig, env: Environment | None = None) -> None:
        """Bind a configuration.

        Args:
            config: the run.
            env: an environment to train on instead of the maze that `config.env` describes.

        Raises:
            UserError: the score is unknown or does not go with the prioritization, or there are fewer devices than
                `config.devices`.
        """
        self.config = config
        self.env: Environment = Maze(config.env) if env is None else env
        self.student: Student = make_student(
            config.student, num_actions=self.env.num_actions, view_size=config.env.view_size
        )
        self.num_steps = config.num_steps
        self.resume_ignores = ("devices",) if config.ppo.anneal_lr else ("devices", "total_env_steps")
        buffer = None
        if config.method_spec.curated:
            buffer = LevelBuffer(config.buffer, self.env.level_hash, self.env.same_level, score=config.score)
        self._replicated, constrain = _lay_out(config.devices)
        self._cycle = Cycle(config, self.env, self.student, buffer, constrain)
        self._init = jax.jit(self._cycle.init)
        self._step = jax.jit(self._dispatch, donate_argnums=0, out_shardings=self._replicated)

    def init(self, seed: int) -> TrainState:
        """Return the state before the first step. Student i of n has the same stream whatever n is."""
        keys = [jax.random.key(fold_seed(seed, "train", i)) for i in range(self.config.seeds)]
        # One by one: the QR decompositions of orthogonal initialisers can hang the CPU client when they are batched.
        state = jax.tree.map(lambda *leaves: jnp.stack(leaves), *map(self._init, keys))
        return state if self._replicated is None else jax.device_put(state, self._replicated)

    def step(self, state: TrainState) -> tuple[TrainState, Mapping[str, Array]]:
        """Do `config.cycles_per_step` cycles. Consumes `state`."""
        return self._step(state)

    def progress(self, state: TrainState) -> Mapping[str, int]:
        """Return cycles, PPO updates (of the seed that has made the fewest) and environment steps per seed."""
        return {
            "cycles": int(state.cycles.min()),
            "updates": int(state.updates.min()),
            "env_steps": int(state.rollouts.min()) * self.config.steps_per_rollout,
        }

    def save(self, state: TrainState, folder: Path) -> None:
        """Write the whole state, level buffer and random keys included, into `folder`."""
        save_pytree(state, folder)

    def restore(self, folder: Path, like: TrainState) -> TrainState:
        """Read back what `save` wrote; the result continues bit for bit."""
        return load_pytree(folder, like)

    def _dispatch(self, state: TrainState) -> tuple[TrainState, dict[str, Array]]:
        before = state.updates
        state, totals = jax.lax.scan(lambda s, _: self._cycle(s), state, length=self.config.cycles_per_step)
        metrics = finish_metrics(totals)
        metrics["learn"] = (state.updates - before).astype(jnp.float32) / self.config.cycles_per_step
        if self._cycle.buffer is not None and state.buffer is not None:
            buffer = jax.vmap(self._cycle.buffer.metrics)(state.buffer)
            metrics |= {f"buffer/{name}": value for name, value in buffer.items()}
        return state, metrics


def _lay_out(devices: int) -> tuple[NamedSharding | None, Any]:
    """Return the layout of replicated arrays, and a function that splits an environment axis over the devices.

    The compiler derives everything else from these two. Random numbers do not depend on the layout, and sums over
    environments become sums over devices, so that the result is that of one device up to rounding.
    """
    if devices == 1:
        return None, lambda tree, axis: tree
    available = jax.devices()
    if devices > len(available):
        raise UserError(
            f"TrainConfig.devices is {devices}, but JAX sees {len(available)} {available[0].platform} device(s): lower "
            "devices, or on CPU start with XLA_FLAGS=--xla_force_host_platform_device_count=N."
        )
    mesh = jax.make_mesh((devices,), ("env",), axis_types=(AxisType.Auto,), devices=available[:devices])

    def constrain(tree: Any, axis: int) -> Any:
        layout = NamedSharding(mesh, PartitionSpec(*[None] * axis, "env"))
        return jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, layout), tree)

    return NamedSharding(mesh, PartitionSpec()), constrain
