"""Training students on a curriculum of levels, as an `paperloop.Trainer`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import NamedSharding, PartitionSpec

from minimax_ued.config import SCHEMA, TrainConfig
from minimax_ued.curricula.curators import make_curator
from minimax_ued.cycle.cycle import Cycle
from minimax_ued.cycle.playing import Playing
from minimax_ued.cycle.state import TrainState
from minimax_ued.cycle.totals import finish_metrics
from minimax_ued.envs import make_environment
from minimax_ued.envs.base import Environment
from minimax_ued.nets.students import Student, make_student
from minimax_ued.replay.buffer import LevelBuffer
from minimax_ued.teachers.capabilities import check_capabilities, make_teaching
from paperloop.errors import UserError, setting
from paperloop.files import read_json, write_json
from paperloop.jax_backend import device_mesh, load_pytree, save_pytree
from paperloop.seeds import fold_seed

__all__ = ["UEDTrainer"]


class UEDTrainer:
    """Unsupervised environment design: `config.seeds` runs side by side, each with its own curriculum of levels.

        trainer = UEDTrainer(PRESETS["small"])
        state = trainer.init(seed=0)
        for _ in range(trainer.num_steps):
            state, metrics = trainer.step(state)
        held_out = HeldOut(trainer)(state, seed=1)

    One `step` is one dispatch of `config.cycles_per_step` cycles, all of them compiled into one program that consumes
    the state it is given. Metrics are means over these cycles, f32 with a leading seed axis. A mean over something that
    did not occur (episodes, when none finished; PPO losses, when no update was made) is 0; `episodes`, the number of
    finished episodes per cycle, and `learn`, the part of the cycles that updated the student, say when. `return` and
    `solve_rate` are over all that is played, levels that are only looked at included; `learned/return` and
    `learned/solve_rate`, of methods with a level buffer, and `level/...` are over the levels learned from.

    Attributes:
        config: the run.
        env: the environment.
        student: the network of every student.
        teaching: the rules of the teacher, None for methods without one.
        headlines: what a bar and a report show first. The leading axis of the metrics is the seeds.
        num_steps: dispatches that `config.total_env_steps` takes.
        donates: True, `step` consumes the state it is given.
        schema: of its configuration.
        resume_ignores: what may differ when a run is continued: devices, levels drawn ahead, and its length, unless the
            step size depends on it.
    """

    donates = True
    schema = SCHEMA
    headlines: Sequence[str] = ("held_out/solve_rate", "held_out/solve_rate_hard", "mazes/solve_rate", "return")

    def __init__(self, config: TrainConfig, env: Environment | None = None, student: Student | None = None) -> None:
        """Bind a configuration.

        Args:
            config: the run.
            env: an environment to train on instead of the one that `config.env` describes.
            student: a network instead of the one that `config.student` describes.

        Raises:
            UserError: the score is unknown, the environment lacks what the method takes (mutations, an editor, an
                optimal return), or there are fewer devices than `config.devices`.
        """
        self.config = config
        self.env: Environment = make_environment(config) if env is None else env
        check_capabilities(config, self.env)
        observation = jax.eval_shape(partial(_first_observation, self.env), jax.random.key(0))
        if student is None:
            student = make_student(config.student, num_actions=self.env.num_actions, observation=observation)
        self.student: Student = student
        self.num_steps = config.num_steps
        taught = config.method.teacher
        annealed = config.ppo.anneal_lr or (taught is not None and taught.ppo.anneal_lr)
        self.resume_ignores = ("devices", "levels_ahead", *(() if annealed else ("total_env_steps",)))
        buffer = None
        if config.method.buffer is not None:
            buffer = LevelBuffer(config.method.buffer, self.env.level_hash, self.env.same_level)
        self._replicated, constrain = _lay_out(config.devices)
        self.teaching = None if taught is None else make_teaching(taught, self.env, constrain)
        curator = make_curator(config, self.env, self.student, constrain)
        playing = Playing(config, self.env, self.student, buffer, constrain)
        self._cycle = Cycle(config, self.env, self.student, curator, self.teaching, playing, constrain)
        self._init_student = jax.jit(self._cycle.init_student)
        self._init_teacher = jax.jit(self.teaching.init) if self.teaching else None
        self._init_content = jax.jit(self._cycle.init_content)
        self._step = jax.jit(self._dispatch, donate_argnums=0, out_shardings=self._replicated)

    def init(self, seed: int) -> TrainState:
        """Return the state before the first step. Student i of n has the same stream whatever n is."""
        state = _stack([self._init_one(fold_seed(seed, "train", i)) for i in range(self.config.seeds)])
        return state if self._replicated is None else jax.device_put(state, self._replicated)

    def _init_one(self, seed: int) -> TrainState:
        student_key, content_key, teacher_key, key = jax.random.split(jax.random.key(seed), 4)
        # One by one: the QR decompositions of orthogonal initialisers can hang the CPU client when they are batched.
        keys = [jax.random.fold_in(student_key, i) for i in range(self.config.n_students)]
        params, opt_state = _stack([self._init_student(key) for key in keys])
        zero = jnp.uint32(0)
        return TrainState(
            params=params,
            opt_state=opt_state,
            buffer=self._init_content(content_key),
            teacher=None if self._init_teacher is None else self._init_teacher(teacher_key),
            key=key,
            cycles=zero,
            updates=zero,
            rollouts=zero,
        )

    def student_params(self, state: TrainState, student: int = 0) -> Any:
        """Return the variables of one student of every seed, `[seeds, ...]`; student 0 is the one trained for.

        Raises:
            UserError: there is no such student.
        """
        if not 0 <= student < self.config.n_students:
            name, last = setting("student", otherwise="student"), self.config.n_students - 1
            raise UserError(
                f"{name} is {student}, but a run of method {self.config.method.name!r} has students 0 to {last}."
            )
        return jax.tree.map(lambda x: x[:, student], state.params)

    def step(self, state: TrainState) -> tuple[TrainState, Mapping[str, Array]]:
        """Do `config.cycles_per_step` cycles. Consumes `state`."""
        return self._step(state)

    def progress(self, state: TrainState) -> Mapping[str, int]:
        """Return cycles, PPO updates (of the seed that has made the fewest) and environment steps per seed."""
        counters = jax.device_get((state.cycles, state.updates, state.rollouts))
        cycles, updates, rollouts = (int(counter.min()) for counter in counters)
        every = self.config.method.refresh_every
        refreshes = -(-cycles // every) if every else 0
        env_steps = rollouts * self.config.steps_per_rollout + refreshes * self.config.steps_per_refresh
        return {"cycles": cycles, "updates": updates, "env_steps": env_steps}

    def final_notes(self, state: TrainState) -> tuple[str, ...]:
        """Return what a reader of the results must know: that no update was made, or that no level was replayed.

        Asked at the end of a run. One that cannot get there at all is refused before; whether enough different levels
        turn up, and whether lots are drawn in time, shows only now.
        """
        config = self.config
        content = config.method.buffer
        if content is None or not config.method.replays:
            return ()
        needed, least = content.first_replay, np.asarray(jax.device_get(state.buffer.filled)).sum(-1).min(-1)
        learned = np.asarray(state.updates) > 0
        waiting = least < needed
        idle = ~learned | waiting
        if not idle.any():
            return ()
        where = "" if config.seeds == 1 else f" in {idle.sum()} of {config.seeds} seeds"
        what = "No level was replayed" if learned[idle].all() else "No update was made"
        if waiting.any():
            why = f"the level buffer holds {least.min()} levels, and replay begins at {needed}"
            names = (setting(name, otherwise=name) for name in ("method.buffer.min_fill", "method.buffer.capacity"))
            cure = f"train longer, or lower {' or '.join(names)}"
        else:
            name = setting("method.buffer.replay_prob", otherwise="method.buffer.replay_prob")
            why = f"no cycle drew a replay ({name} is {content.lot:g})"
            cure = "train longer"
        return (f"{what}{where}: {why}; {cure}.",)

    def save(self, state: TrainState, folder: Path) -> None:
        """Write the whole state, level buffer and random keys included, into `folder`."""
        save_pytree(state, folder)
        write_json(folder / "environment.json", self._environment())

    def restore(self, folder: Path, like: TrainState) -> TrainState:
        """Read back what `save` wrote; the result continues bit for bit.

        Raises:
            UserError: the environment was another one then.
            CheckpointError: what was written does not fit `like`, or is damaged.
        """
        then, now = read_json(folder / "environment.json"), self._environment()
        if then != now:
            raise UserError(f"The checkpoint {folder} was written with the environment {then}, while now it is {now}.")
        return load_pytree(folder, like)

    def _environment(self) -> str:
        """What a configuration does not describe, where the environment is the user's own."""
        env = type(self.env)
        return f"{env.__module__}.{env.__qualname__}"

    def _dispatch(self, state: TrainState) -> tuple[TrainState, dict[str, Array]]:
        before = state.updates
        state, totals = jax.lax.scan(lambda s, _: self._cycle(s), state, length=self.config.cycles_per_step)
        metrics = finish_metrics(totals)
        metrics["learn"] = (state.updates - before).astype(jnp.float32) / self.config.cycles_per_step
        return state, metrics | {f"buffer/{name}": value for name, value in self._cycle.content_metrics(state).items()}


def _first_observation(env: Environment, key: Array) -> Any:
    level = env.sample_level(key)
    return env.observe(level, env.reset(key, level))


def _stack(trees: list[Any]) -> Any:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def _lay_out(devices: int) -> tuple[NamedSharding | None, Any]:
    """Return the layout of replicated arrays, and a function that splits an environment axis over the devices.

    The compiler derives everything else from these two. Random numbers do not depend on the layout, and sums over
    environments become sums over devices, so that the result is that of one device up to rounding.
    """
    mesh = device_mesh(devices, "env")  # what does not divide is refused by the configuration
    if mesh is None:
        return None, lambda tree, axis: tree

    def constrain(tree: Any, axis: int) -> Any:
        layout = NamedSharding(mesh, PartitionSpec(*[None] * axis, "env"))
        return jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, layout), tree)

    return NamedSharding(mesh, PartitionSpec()), constrain
