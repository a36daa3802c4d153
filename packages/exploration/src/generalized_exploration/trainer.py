"""Supervised batch selection as a `paperloop.Trainer`: all arms and seeds in one program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from generalized_exploration.config import Mazes, RunConfig
from generalized_exploration.supervised.arms import Arm, ArmState, cross_entropy, make_arm
from generalized_exploration.supervised.networks import MazeNet, VectorNet, forward_flops
from generalized_exploration.supervised.selection import reference_losses, take, update
from generalized_exploration.supervised.tasks import Task, make_task
from paperloop.jax_backend import load_pytree, save_pytree
from paperloop.seeds import fold_seed

__all__ = ["SelectionTrainer", "TrainState"]


class TrainState(NamedTuple):
    """Everything that a run continues from; arrays have a leading seed axis, but for `done`.

    Attributes:
        key: [S], random keys.
        done: i32, dispatches.
        reference: parameters and optimiser of the reference model.
        reference_loss: [S, N + H], of train and holdout; 0 until the reference is trained.
        arms: name -> state.
    """

    key: Array
    done: Array
    reference: Any
    reference_loss: Array
    arms: dict[str, ArmState]


class _Data(NamedTuple):
    """Train and then holdout, [S, N + H, ...]; test, [S, T, ...]; what is wrong with each example, f32[S, N + H, 3]."""

    x: Array
    y: Array
    faults: Array
    test_x: Array
    test_y: Array


class SelectionTrainer:
    """Trains a reference model, then one learner for each arm, which choose their examples from the same pools.

        trainer = SelectionTrainer(PRESETS["small"])
        state = trainer.init(seed=0)
        for _ in range(trainer.config.dispatches):
            state, metrics = trainer.step(state)

    The first `config.reference.epochs` steps train the reference models, an epoch each; every later one is
    `config.steps_per_dispatch` steps of every arm. Metrics have a leading axis of arms times seeds, named in `agents`:
    `accuracy` on the test set, the shares of what was trained on since the last row that were `corrupted`, `trivial`
    and `irrelevant`, `gflops` spent so far, `updates`, and `reference_accuracy`.

    Attributes:
        config: the run.
        headlines: the metrics to show first.
        agents: the arm of each entry.
        donates: True, `step` consumes the state that it is given.
        resume_ignores: what may differ when a run is continued.
    """

    donates = True
    headlines: Sequence[str] = ("accuracy", "corrupted")
    resume_ignores = ("steps",)

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        self.arms = [make_arm(name, members=config.members, pool=config.pool, keep=config.keep) for name in config.arms]
        self.agents = tuple(arm.name for arm in self.arms for _ in range(config.seeds))
        tasks = [
            make_task(config.task, np.random.default_rng(fold_seed(config.data_seed, "task", i)))
            for i in range(config.seeds)
        ]
        self._n = len(tasks[0].train.x)
        self._data = _stack(tasks)
        classes = tasks[0].classes
        self.network: Any = (
            MazeNet(config.task.size, classes, width=config.width)
            if isinstance(config.task, Mazes)
            else VectorNet(classes, config.width)
        )
        self._ignorance = float(np.log(classes))
        self._flops = forward_flops(self.network, self._data.x[0, 0])
        self._optimiser = optax.adamw(config.lr, weight_decay=config.weight_decay)
        self._init = jax.jit(jax.vmap(self._start, in_axes=(0, None)))
        self._teach = jax.jit(jax.vmap(self._reference_epoch, in_axes=(0, 0, 0, None)))
        self._judge = jax.jit(jax.vmap(self._reference_losses))
        self._train = jax.jit(jax.vmap(self._dispatch, in_axes=(0, 0, 0, 0, None)), donate_argnums=(2,))
        self._measure = jax.jit(jax.vmap(self._accuracy))

    def init(self, seed: int) -> TrainState:
        """Return the state before the first step. Seed i of n has the same stream whatever n is."""
        seeds = jnp.array([fold_seed(seed, "train", i) for i in range(self.config.seeds)], jnp.uint32)
        return self._init(jax.vmap(jax.random.key)(seeds), jnp.zeros((), jnp.int32))._replace(
            done=jnp.zeros((), jnp.int32)
        )

    def _start(self, key: Array, done: Array) -> TrainState:
        example = self._data.x[0, :1]
        total = self._data.x.shape[1]

        def learner(key: Array) -> tuple[Any, Any]:
            params = self.network.init(key, example)
            return params, self._optimiser.init(params)

        arms = {}
        for arm in self.arms:
            # Members of all arms have the same streams, so that arms differ in what they choose only.
            params, optimiser = jax.vmap(learner)(jax.random.split(jax.random.fold_in(key, 0), arm.members))
            arms[arm.name] = ArmState(
                params, optimiser, jnp.full(total, self._ignorance), jnp.full(total, -1, jnp.int32)
            )
        return TrainState(key, done, learner(jax.random.fold_in(key, 1)), jnp.zeros(total), arms)

    def step(self, state: TrainState) -> tuple[TrainState, Mapping[str, Array]]:
        """Train the references for an epoch, or every arm for `config.steps_per_dispatch` steps. Consumes `state`."""
        config, done = self.config, int(state.done)
        epochs = config.reference.epochs
        shares = jnp.zeros((len(self.arms), config.seeds, 3))
        if done < epochs:
            reference = self._teach(state.key, self._data, state.reference, state.done)
            state = state._replace(reference=reference)
            if done == epochs - 1:
                state = self._hand_over(state)
        else:
            arms, shares = self._train(state.key, self._data, state.arms, state.reference_loss, state.done - epochs)
            state = state._replace(arms=arms)
            shares = jnp.moveaxis(shares, 1, 0)
        state = state._replace(done=state.done + 1)
        return state, self._metrics(state, shares)

    def _hand_over(self, state: TrainState) -> TrainState:
        """Use the trained references: their losses on all examples, and their weights where an arm starts from them."""
        arms = dict(state.arms)
        for arm in self.arms:
            if arm.from_reference:
                params, optimiser = jax.tree.map(lambda leaf: jnp.array(leaf[:, None]), state.reference)
                arms[arm.name] = arms[arm.name]._replace(params=params, optimiser=optimiser)
        return state._replace(arms=arms, reference_loss=self._judge(self._data, state.reference[0]))

    def _losses(self, params: Any, batch: tuple[Array, Array]) -> Array:
        return cross_entropy(self.network.apply(params, batch[0]), batch[1])

    def _reference_epoch(self, key: Array, data: _Data, reference: Any, epoch: Array) -> Any:
        held = round((data.x.shape[0] - self._n) * self.config.reference.share)
        batch = self.config.reference.batch
        order = self._n + jax.random.permutation(jax.random.fold_in(jax.random.fold_in(key, 2), epoch), held)
        rows = order[: held // batch * batch].reshape(-1, batch)

        def one(carry: Any, index: Array) -> tuple[Any, None]:
            return update(self._losses, self._optimiser, *carry, take((data.x, data.y), index)), None

        return jax.lax.scan(one, reference, rows)[0]

    def _reference_losses(self, data: _Data, params: Any) -> Array:
        return reference_losses(self._losses, params, (data.x, data.y))

    def _dispatch(
        self, key: Array, data: _Data, arms: dict[str, ArmState], reference_loss: Array, dispatch: Array
    ) -> tuple[dict[str, ArmState], Array]:
        after, shares = {}, []
        for arm in self.arms:
            after[arm.name], share = self._arm_dispatch(arm, key, data, arms[arm.name], reference_loss, dispatch)
            shares.append(share)
        return after, jnp.stack(shares)

    def _arm_dispatch(
        self, arm: Arm, key: Array, data: _Data, state: ArmState, reference_loss: Array, dispatch: Array
    ) -> tuple[ArmState, Array]:
        config, count = self.config, self.config.steps_per_dispatch
        n = data.x.shape[0] if arm.more_data else self._n
        per_epoch = n // (config.pool * count)
        # The order is a function of the epoch alone: nothing but the number of dispatches is remembered.
        stream = jax.random.fold_in(jax.random.fold_in(key, 3), dispatch // per_epoch)
        order = jax.random.permutation(stream, n)
        start = (dispatch % per_epoch) * config.pool * count
        pools = jax.lax.dynamic_slice(order, (start,), (config.pool * count,)).reshape(count, config.pool)

        def one(state: ArmState, now: tuple[Array, Array]) -> tuple[ArmState, Array]:
            rows, t = now
            pool = (data.x[rows], data.y[rows])
            state, chosen = arm.step(
                self.network, self._optimiser, state, rows, pool, reference_loss[rows], t, config.keep
            )
            return state, data.faults[rows[chosen]].mean(0)

        state, shares = jax.lax.scan(one, state, (pools, dispatch * count + jnp.arange(count)))
        return state, shares.mean(0)

    def _accuracy(self, data: _Data, params: Any) -> Array:
        return (self.network.apply(params, data.test_x).argmax(-1) == data.test_y).mean()

    def _metrics(self, state: TrainState, shares: Array) -> dict[str, Array]:
        config = self.config
        steps = max(0, int(state.done) - config.reference.epochs) * config.steps_per_dispatch
        first = [jax.tree.map(lambda leaf: leaf[:, 0], state.arms[arm.name].params) for arm in self.arms]
        accuracy = jnp.stack([self._measure(self._data, params) for params in first])
        costs = np.array([arm.cost(config.pool, config.keep) * steps * self._flops / 1e9 for arm in self.arms])
        updates = np.array([arm.updates * steps for arm in self.arms])
        reference = self._measure(self._data, state.reference[0])
        seeds = config.seeds
        return {
            "accuracy": accuracy.reshape(-1),
            "corrupted": shares[..., 0].reshape(-1),
            "trivial": shares[..., 1].reshape(-1),
            "irrelevant": shares[..., 2].reshape(-1),
            "gflops": jnp.asarray(np.repeat(costs, seeds), jnp.float32),
            "updates": jnp.asarray(np.repeat(updates, seeds), jnp.float32),
            "reference_accuracy": jnp.tile(reference, len(self.arms)),
        }

    def progress(self, state: TrainState) -> Mapping[str, int]:
        """Return epochs of the reference and steps of selection."""
        done, epochs = int(state.done), self.config.reference.epochs
        return {
            "reference_epochs": min(done, epochs),
            "steps": max(0, done - epochs) * self.config.steps_per_dispatch,
        }

    def final_notes(self, state: TrainState) -> list[str]:
        """Return what a reader must know: a reference that is worse than the learners misleads."""
        reference = float(self._measure(self._data, state.reference[0]).mean())
        if "uniform" not in state.arms or int(state.done) <= self.config.reference.epochs:
            return []
        params = jax.tree.map(lambda leaf: leaf[:, 0], state.arms["uniform"].params)
        uniform = float(self._measure(self._data, params).mean())
        if reference >= uniform:
            return []
        return [
            f"The reference model's test accuracy is {reference:.3f}, below uniform's {uniform:.3f}: a reducible loss "
            "with so poor a reference is known to mislead."
        ]

    def save(self, state: TrainState, folder: Path) -> None:
        """Write the whole state into `folder`."""
        save_pytree(state, folder)

    def restore(self, folder: Path, like: TrainState) -> TrainState:
        """Read back what `save` wrote; the result continues bit for bit."""
        return load_pytree(folder, like)


def _stack(tasks: list[Task]) -> _Data:
    def both(name: str) -> np.ndarray:
        parts = [np.concatenate([getattr(task.train, name), getattr(task.holdout, name)]) for task in tasks]
        return np.stack(parts)

    faults = np.stack([both(name) for name in ("corrupted", "trivial", "irrelevant")], axis=-1)
    return _Data(
        jnp.asarray(both("x")), jnp.asarray(both("y")), jnp.asarray(faults, jnp.float32),
        jnp.asarray(np.stack([task.test_x for task in tasks])), jnp.asarray(np.stack([task.test_y for task in tasks])),
    )  # fmt: skip
