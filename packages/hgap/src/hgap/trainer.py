"""Training the autoencoder and then the prior, each as a `paperloop.Trainer`."""

from __future__ import annotations

import abc
import functools
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from hgap.config import Data, Optimiser
from hgap.data.windows import WindowData, gather, load_windows
from hgap.model.autoencoder import Autoencoder, Weights
from hgap.model.layers import draw_parameters
from hgap.model.learning import (
    Learned,
    autoencoder_update,
    make_optimizer,
    prior_loss,
    prior_update,
    reconstruction,
)
from hgap.model.prior import Prior
from hgap.model.quantizers import perplexity, usage
from paperloop.errors import CheckpointError, UserError
from paperloop.jax_backend import load_pytree, save_pytree
from paperloop.seeds import fold_seed
from paperloop_data import EpisodeDataset

__all__ = ["AutoencoderTrainer", "HeldOut", "PriorTrainer", "TrainState", "dataset", "fingerprint", "read_windows"]


class TrainState(NamedTuple):
    """Everything that training continues from; all arrays but `bound` have a leading seed axis.

    Attributes:
        learned: weights and the optimiser's state.
        key: random keys [seeds].
        updates: how many are done, int32 [seeds].
        bound: for a prior, SHA-256 of the data's scales and the autoencoder that made its codes, uint8 [32];
            for an autoencoder that of the data's scales.
    """

    learned: Learned
    key: Array
    updates: Array
    bound: Array


def fingerprint(tree: Any) -> Array:
    """Return the SHA-256 of a pytree's paths, shapes and bytes, uint8 [32]."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        value = np.asarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {value.shape} {value.dtype}".encode())
        digest.update(np.ascontiguousarray(value).tobytes())
    return jnp.asarray(np.frombuffer(digest.digest(), np.uint8))


@functools.lru_cache(maxsize=2)
def dataset(path: str) -> EpisodeDataset:
    """Read a dataset; the last two are kept."""
    return EpisodeDataset.load(path)


def read_windows(config: Data) -> WindowData:
    """Read the data of a configuration and put them onto the device."""
    windows, model = config.model.windows, config.model
    return load_windows(
        dataset(config.path), steps=windows.steps, clip=windows.clip, constant=windows.constant,
        held_out=windows.held_out, fraction=model.fraction,
    )  # fmt: skip


class _Trainer(abc.ABC):
    """What both trainers share: seeds side by side, some updates a dispatch, windows drawn with replacement."""

    donates = True
    headlines: Sequence[str] = ("loss",)
    resume_ignores: Sequence[str] = ("path",)

    def __init__(self, config: Data, data: WindowData, settings: Any, name: str) -> None:
        self.config, self.data, self._settings, self._name = config, data, settings, name
        self.steps = settings.updates // config.model.updates_per_step
        self.window = config.model.windows.steps
        self.model = Autoencoder(config.model.autoencoder, self.window, data.states.shape[1], data.actions.shape[1])
        self.optimizer = _optimizer(settings.optimiser, settings.updates)
        self._init = jax.jit(jax.vmap(self._start))
        self._step = jax.jit(self._dispatch, donate_argnums=0)

    def _keys(self, seed: int) -> Array:
        seeds = [fold_seed(seed, self._name, i) for i in range(self.config.model.seeds)]
        return jax.vmap(jax.random.key)(jnp.array(seeds, jnp.uint32))

    def _begin(self, seed: int, bound: Array) -> TrainState:
        learned, keys = self._init(self._keys(seed))
        return TrainState(learned, keys, jnp.zeros(self.config.model.seeds, jnp.int32), bound)

    def _start(self, key: Array) -> tuple[Learned, Array]:
        first, key = jax.random.split(key)
        weights = self._weights(first)
        trained = weights[:2] if isinstance(weights, Weights) else weights  # the codebook has no gradient
        return Learned(weights, self.optimizer.init(trained)), key

    @abc.abstractmethod
    def _weights(self, key: Array) -> Any:
        """Return the first weights of one seed."""

    def step(self, state: TrainState) -> tuple[TrainState, Mapping[str, Array]]:
        """Do `updates_per_step` updates of every seed in one dispatch. Consumes `state`."""
        return self._step(state, *self._constants())

    def _constants(self) -> tuple[Any, ...]:
        return (self.data,)

    def _dispatch(self, state: TrainState, data: WindowData, *more: Any) -> tuple[TrainState, dict[str, Array]]:
        def one(learned: Learned, key: Array, done: Array, *more: Any) -> tuple[Learned, dict[str, Array]]:
            def update(learned: Learned, i: Array) -> tuple[Learned, dict[str, Array]]:
                pick, rest = jax.random.split(jax.random.fold_in(key, i))
                at = data.train[jax.random.randint(pick, (self._settings.batch,), 0, len(data.train))]
                states, actions = gather(data.states, at, self.window), gather(data.actions, at, self.window)
                return self._update(learned, states, actions, rest, *more)

            learned, metrics = jax.lax.scan(update, learned, done + jnp.arange(self.config.model.updates_per_step))
            return learned, {name: value.mean(0) for name, value in metrics.items()}

        learned, metrics = jax.vmap(one)(state.learned, state.key, state.updates, *more)
        updates = state.updates + self.config.model.updates_per_step
        return TrainState(learned, state.key, updates, state.bound), metrics

    @abc.abstractmethod
    def _update(self, learned: Learned, states: Array, actions: Array, key: Array, *more: Any) -> Any:
        """Return what one update makes of what is learned, and its metrics."""

    def progress(self, state: TrainState) -> Mapping[str, int]:
        """Return updates and windows, per seed."""
        done = int(state.updates.min())
        return {"updates": done, "windows": done * self._settings.batch}

    def save(self, state: TrainState, folder: Path) -> None:
        """Write the whole state into `folder`."""
        save_pytree(state, folder)

    def restore(self, folder: Path, like: TrainState) -> TrainState:
        """Read back what `save` wrote; the result continues bit for bit.

        Raises:
            CheckpointError: it was learned on other data, or it is the prior of another autoencoder.
        """
        state = load_pytree(folder, like)
        if not np.array_equal(state.bound, like.bound):
            raise CheckpointError(f"The checkpoint in {folder} {self._other}.")
        return state

    _other = "was learned on other data, with other scales: give the file that it was trained on"


@functools.lru_cache(maxsize=8)
def _optimizer(settings: Optimiser, updates: int) -> Any:
    return make_optimizer(settings, updates)


class AutoencoderTrainer(_Trainer):
    """Learns codes for windows.

        trainer = AutoencoderTrainer(Data(path="motion.npz"))
        state = trainer.init(seed=0)
        for _ in range(trainer.steps):
            state, metrics = trainer.step(state)

    Args:
        config: data and model.
        data: the data, if they have been read already.
    """

    headlines = ("state_error", "action_error", "perplexity")

    def __init__(self, config: Data, data: WindowData | None = None) -> None:
        super().__init__(config, data or read_windows(config), config.model.autoencoder, "autoencoder")

    def init(self, seed: int) -> TrainState:
        """Return the state before the first update. Seed i of n has the same stream whatever n is."""
        bound = fingerprint((self.data.state_scale, self.data.action_scale))
        return self._begin(seed, bound)

    def _weights(self, key: Array) -> Weights:
        first, second, third = jax.random.split(key, 3)
        return self.model.init((first, second, third))

    def _update(self, learned: Learned, states: Array, actions: Array, key: Array, *more: Any) -> Any:
        return autoencoder_update(learned, self.model, self.optimizer, states, actions, key)


class PriorTrainer(_Trainer):
    """Learns which codes follow a state, with the codes of a trained autoencoder.

    Args:
        config: data and model.
        autoencoder: its weights, with a leading seed axis: seed i of the prior learns the codes of its seed i.
        data: the data, if they have been read already.

    Raises:
        UserError: the autoencoder has another number of seeds.
    """

    headlines = ("loss", "accuracy")
    _other = "is the prior of another autoencoder, whose codes mean something else: train a prior for this one"

    def __init__(self, config: Data, autoencoder: Weights, data: WindowData | None = None) -> None:
        super().__init__(config, data or read_windows(config), config.model.prior, "prior")
        seeds = len(jax.tree.leaves(autoencoder)[0])
        if seeds != config.model.seeds:
            raise UserError(f"The autoencoder has {seeds} seeds and the prior {config.model.seeds}: make them equal.")
        self.autoencoder = autoencoder
        self.prior = Prior(config.model.prior.size, self.model.quantizer.vocabulary, self.model.tokens)

    def init(self, seed: int) -> TrainState:
        """Return the state before the first update."""
        return self._begin(seed, fingerprint((self.data.state_scale, self.data.action_scale, self.autoencoder)))

    def _weights(self, key: Array) -> Any:
        codes, first = jnp.zeros((1, self.model.tokens), jnp.int32), jnp.zeros((1, self.model.state_size))
        return draw_parameters(self.prior, key, codes, first)

    def _constants(self) -> tuple[Any, ...]:
        return self.data, self.autoencoder

    def _update(self, learned: Learned, states: Array, actions: Array, key: Array, *more: Any) -> Any:
        codes = self.model.encode(more[0], states, actions).codes
        return prior_update(learned, self.prior, self.optimizer, codes, states[:, 0], key)


class HeldOut:
    """Measures a trainer's state on windows of the episodes that were held out.

    Of an autoencoder: errors by group, usage and perplexity of the codes. Of a prior: cross-entropy per code and share
    of codes predicted best.

    Args:
        trainer: of either kind.
        windows: at most so many, drawn by the seed.
    """

    def __init__(self, trainer: AutoencoderTrainer | PriorTrainer, windows: int = 512) -> None:
        self.trainer, self.windows = trainer, windows
        self._measure = jax.jit(jax.vmap(self._one, in_axes=(0, None, None, 0)))

    def __call__(self, state: TrainState, seed: int) -> Mapping[str, Array]:
        """Return metrics with a leading seed axis."""
        trainer, data = self.trainer, self.trainer.data
        starts = data.held_out if len(data.held_out) else data.train
        key = jax.random.key(fold_seed(seed, "held_out"))
        at = starts[jax.random.randint(key, (self.windows,), 0, len(starts))]
        states, actions = (gather(rows, at, trainer.window) for rows in (data.states, data.actions))
        frozen = trainer.autoencoder if isinstance(trainer, PriorTrainer) else state.learned.weights
        return self._measure(state.learned.weights, states, actions, frozen)

    def _one(self, weights: Any, states: Array, actions: Array, frozen: Weights) -> dict[str, Array]:
        model = self.trainer.model
        encoding = model.encode(frozen, states, actions)
        if isinstance(self.trainer, PriorTrainer):
            loss, correct = prior_loss(weights, self.trainer.prior, encoding.codes, states[:, 0], dropout=None)
            return {"loss": loss, "accuracy": correct}
        predicted = model.decode(weights, encoding.vectors, states[:, 0])
        config = self.trainer.config.model.autoencoder
        _, state, action = reconstruction(predicted, (states, actions), action_weight=config.action_weight)
        size = model.quantizer.vocabulary
        return {
            "state_error": state,
            "action_error": action,
            "perplexity": perplexity(encoding.codes, size),
            "usage": usage(encoding.codes, size),
        }
