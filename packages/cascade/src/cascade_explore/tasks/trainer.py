"""Learning tasks in a frozen world model, as a `paperloop.Trainer`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from cascade_explore.config import LabelConfig, TrainConfig
from cascade_explore.deploy import replay
from cascade_explore.deploy.acting import Memory, act, fingerprint, start
from cascade_explore.deploy.collect import collect
from cascade_explore.deploy.host import collect_host
from cascade_explore.deploy.replay import Rows
from cascade_explore.envs.grid import Grid
from cascade_explore.envs.host import HostEnvs
from cascade_explore.explore.imagination import Imagined
from cascade_explore.explore.learner import AgentState, Learner
from cascade_explore.tasks.labels import describe, find_label, label_rows
from cascade_explore.trainer import ExploreTrainer, TrainState
from cascade_explore.world.losses import weighted_mean
from cascade_explore.world.model import features
from cascade_explore.world.nets import MLP, apply
from paperloop.errors import CheckpointError, UserError
from paperloop.jax_backend import load_pytree, save_pytree
from paperloop.loop.runner import restore
from paperloop.seeds import fold_seed
from paperloop.settings import load_config

__all__ = ["TaskState", "TaskTrainer", "TrueReturn", "first_episodes"]


class TaskState(NamedTuple):
    """What learning tasks changes; all arrays have a leading seed axis.

    Attributes:
        heads: parameters of the reward heads, one for each task.
        opt: their optimiser's state.
        agents: an actor and a critic for each task.
        shown: the latest metrics.
        key: random keys.
        done: dispatches, int32.
        model: checksum of the world model that the tasks are learned in, uint32.
    """

    heads: Any
    opt: Any
    agents: AgentState
    shown: dict[str, Array]
    key: Array
    done: Array
    model: Array


class TaskTrainer:
    """Trains a reward head and an actor-critic for each task, all in one program, on a run's replay.

    The world model is an argument of the program and not part of the state: nothing here can change it.

    Args:
        config: which run, which tasks, for how long.

    Attributes:
        config: the same.
        explored: the run's trainer.
        frozen: the parameters of its world model.
        checksum: of these, for each seed.
        headlines: the metrics to show first.

    Raises:
        UserError: there is no such run or task, nothing was collected yet, or labels are not as they should be.
    """

    donates = True
    headlines: Sequence[str] = ("reward_loss", "imagined_return")
    resume_ignores = ("run",)  # however its path is written; that the model is the same, `restore` checks

    def __init__(self, config: LabelConfig) -> None:
        self.config = config
        if not Path(config.run).is_dir():
            raise UserError(f"{config.run} is not a run folder: give the --out of a cascade-explore train.")
        self.explored = ExploreTrainer(load_config(TrainConfig, Path(config.run)))
        self.labels = {name: find_label(name, self.explored.env) for name in config.tasks}
        state: TrainState = restore(self.explored, Path(config.run))
        done = int(state.done[0])
        if done == 0:
            raise UserError(f"{config.run} has collected nothing yet: train it first.")
        self.filled = 1 + (done - 1) // self.explored.config.dispatches
        self.frozen, self.key = state.world, state.key
        self.checksum = np.asarray(jax.vmap(fingerprint)(state.world))
        self.data = self._label(state.replay)
        world = self.explored.world
        tasks = len(config.tasks)
        self.learner = Learner(config.actor, world, tasks)
        self.head = MLP(1, config.actor.units, config.actor.layers)
        self._optimiser = optax.chain(optax.clip_by_global_norm(config.actor.clip), optax.adam(config.lr, eps=1e-5))
        self._init = jax.jit(jax.vmap(self._start))
        self._train = jax.jit(jax.vmap(self._updates), donate_argnums=0)

    def _label(self, data: replay.Replay) -> replay.Replay:
        """Return the replay with the tasks' rewards `[S, K, W, T, tasks]` in place of the environment's."""
        host = jax.device_get(data)
        seeds, _, streams, steps = host.first.shape
        flat = describe(
            jax.tree.map(lambda x: x[:, : self.filled].reshape(-1, steps, *x.shape[4:]), host), self.explored.env
        )  # fmt: skip
        rewards = np.zeros((*host.first.shape, len(self.labels)), np.float32)
        for i, (name, label) in enumerate(self.labels.items()):
            found = label_rows(name, label, flat)
            rewards[:, : self.filled, ..., i] = found.reshape(seeds, self.filled, streams, steps)
        return data._replace(reward=jnp.asarray(rewards))

    # The protocol

    def init(self, seed: int) -> TaskState:
        """Return the state before the first update."""
        seeds = [fold_seed(seed, "tasks", i) for i in range(self.explored.config.seeds)]
        return self._init(jax.vmap(jax.random.key)(jnp.array(seeds, jnp.uint32)), jnp.asarray(self.checksum))

    def step(self, state: TaskState) -> tuple[TaskState, Mapping[str, Array]]:
        """Do `config.updates_per_step` updates. Consumes `state`."""
        state = self._train(state, self.frozen, self.data)
        return state, jax.tree.map(jnp.copy, state.shown)

    def progress(self, state: TaskState) -> Mapping[str, int]:
        """Return updates, per seed."""
        return {"updates": int(state.done[0]) * self.config.updates_per_step}

    def save(self, state: TaskState, folder: Path) -> None:
        """Write the whole state into `folder`."""
        save_pytree(state, folder)

    def restore(self, folder: Path, like: TaskState) -> TaskState:
        """Read back what `save` wrote.

        Raises:
            CheckpointError: it does not fit, or was learned in another world model, as before the run was extended.
        """
        state: TaskState = load_pytree(folder, like)
        if (np.asarray(state.model) != self.checksum).any():
            raise CheckpointError(
                f"The tasks in {folder} were learned in another world model than that of {self.config.run}, which may "
                "have been trained further since: choose another folder."
            )
        return state

    # One seed

    def _start(self, key: Array, model: Array) -> TaskState:
        one, two, key = jax.random.split(key, 3)
        x = jnp.zeros(self.explored.world.width)
        heads = jax.vmap(lambda k: self.head.init(k, x))(jax.random.split(one, len(self.labels)))
        shown = {name: jnp.zeros(()) for name in ("reward_loss", "imagined_return", "entropy", "critic_loss")}
        return TaskState(heads, self._optimiser.init(heads), self.learner.init(two), shown, key, jnp.int32(0), model)

    def _updates(self, state: TaskState, frozen: Any, data: replay.Replay) -> TaskState:
        def one(state: TaskState, key: Array) -> tuple[TaskState, dict[str, Array]]:
            return self._update(state, frozen, data, key)

        keys = jax.random.split(jax.random.fold_in(state.key, state.done), self.config.updates_per_step)
        state, shown = jax.lax.scan(one, state, keys)
        return state._replace(shown={name: v.mean(0) for name, v in shown.items()}, done=state.done + 1)

    def _update(
        self, state: TaskState, frozen: Any, data: replay.Replay, key: Array
    ) -> tuple[TaskState, dict[str, Array]]:
        world, sizes = self.explored.world, self.explored.config.world
        one, two, three, four = jax.random.split(key, 4)
        rows = replay.draw(data, jnp.int32(self.filled), one, batch=sizes.batch, length=sizes.length)
        batch = replay.to_batch(rows, world.actions)
        states, _, _ = world.follow(frozen, batch, two)
        known = 1.0 - batch.first.astype(jnp.float32)

        def loss(heads: Any) -> Array:
            guess = jax.vmap(partial(apply, self.head), (0, None), -1)(heads, features(states))[..., 0, :]
            return weighted_mean(0.5 * jnp.square(guess - rows.reward).sum(-1), known)

        reward_loss, slope = jax.value_and_grad(loss)(state.heads)
        change, opt = self._optimiser.update(slope, state.opt)
        heads = optax.apply_updates(state.heads, change)

        def reward(seen: Imagined) -> tuple[Array, dict[str, Array]]:
            return jax.vmap(partial(apply, self.head), (0, 1), 1)(heads, seen.feat[1:])[..., 0], {}

        chosen = jax.random.permutation(three, batch.terminal.size)[: self.config.actor.starts]
        begin = jax.tree.map(lambda x: x.reshape(-1, x.shape[-1])[chosen], states)
        weight = 1.0 - batch.terminal.reshape(-1)[chosen].astype(jnp.float32)
        agents, acted = self.learner.update(state.agents, frozen, begin, weight, reward, four)
        shown = {
            "reward_loss": reward_loss, "imagined_return": acted["return"], "entropy": acted["entropy"],
            "critic_loss": acted["critic_loss"],
        }  # fmt: skip
        return state._replace(heads=heads, opt=opt, agents=agents), shown


class TrueReturn:
    """Tries the tasks' policies in the environment, most probable actions, one episode in each copy.

    Nothing of it enters a replay or a budget.

    Args:
        trainer: of the tasks.
        episodes: of each task and seed.
    """

    def __init__(self, trainer: TaskTrainer, episodes: int) -> None:
        self.trainer, self.episodes = trainer, episodes
        self._play = jax.jit(jax.vmap(self._roll))
        self._choose = jax.jit(jax.vmap(self._choice, (0, 0, 0, 0, 0, None)))

    def __call__(self, state: TaskState, seed: int) -> dict[str, Array]:
        """Return each task's mean return, and the share of episodes with a positive one, per seed."""
        returns = self.returns(state, seed)
        found = {}
        for i, name in enumerate(self.trainer.config.tasks):
            found[f"{name}/return"] = jnp.asarray(returns[:, i].mean(-1))
            found[f"{name}/success"] = jnp.asarray((returns[:, i] > 0).mean(-1))
        return found

    def returns(self, state: TaskState, seed: int) -> np.ndarray:
        """Return the return of every episode by its task's own label, `[seeds, tasks, episodes]`."""
        seeds, tasks = self.trainer.explored.config.seeds, len(self.trainer.config.tasks)
        keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(seed), i))(jnp.arange(seeds))
        rows = self._rows(state.agents.actors, keys)
        steps = rows.first.shape[1]
        flat = describe(
            jax.tree.map(lambda x: np.moveaxis(x, 1, 2).reshape(-1, steps, *x.shape[3:]), rows),
            self.trainer.explored.env,
        )  # fmt: skip
        kept = first_episodes(flat["first"]).reshape(seeds, tasks, self.episodes, steps)
        found = []
        for i, (name, label) in enumerate(self.trainer.labels.items()):
            reward = label_rows(name, label, flat).reshape(seeds, tasks, self.episodes, steps)[:, i]
            found.append((reward * kept[:, i]).sum(-1))
        return np.stack(found, 1)

    def _rows(self, actors: Any, keys: Array) -> Rows:
        """Return rows `[seeds, T, tasks x episodes, ...]` that hold at least one whole episode of each stream."""
        explored = self.trainer.explored
        if isinstance(explored.env, Grid):
            return jax.device_get(self._play(self.trainer.frozen, actors, keys))
        tasks, seeds = len(self.trainer.config.tasks), explored.config.seeds
        envs = HostEnvs(explored.env.config, seeds * tasks * self.episodes)
        memory = jax.tree.map(
            lambda x: jnp.broadcast_to(x, (seeds, *x.shape)), start(explored.world, tasks, self.episodes)
        )  # fmt: skip
        rows, _ = collect_host(
            envs, lambda m, o, f, k: self._choose(self.trainer.frozen, actors, m, o, f, k), memory, keys[0],
            steps=envs.limit + 1,
        )  # fmt: skip
        envs.close()
        return rows

    def _choice(self, frozen: Any, actors: Any, memory: Memory, observation: Array, first: Array, key: Array) -> Memory:
        world, policies = self.trainer.explored.world, self.trainer.learner.policies
        never = jnp.bool_(False)
        return act(world, policies, frozen, actors, memory, observation, first, key, uniform=never, greedy=True)

    def _roll(self, frozen: Any, actors: Any, key: Array) -> Rows:
        explored = self.trainer.explored
        env = explored.env
        assert isinstance(env, Grid)
        return collect(
            env, explored.world, self.trainer.learner.policies, frozen, actors, key,
            agents=len(self.trainer.config.tasks), envs=self.episodes, steps=env.limit + 1,
            uniform=jnp.bool_(False), greedy=True,
        ).rows  # fmt: skip


def first_episodes(first: np.ndarray) -> np.ndarray:
    """Return which rows of `[N, T]` belong to the first episode of their stream."""
    return np.cumsum(first, -1) <= 1
