"""Training a shaper, as a `paperloop.Trainer`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import NamedSharding, PartitionSpec

from opshape.build import make_co_player, make_game, make_shaper, make_trial
from opshape.config import TrainConfig
from opshape.meta import config as meta
from opshape.meta.base import MetaOptimiser
from opshape.meta.evolution import ES, Evolve
from opshape.meta.genetic import Genetic
from opshape.play.arena import Arena
from paperloop.errors import UserError, setting
from paperloop.jax_backend import device_mesh, load_pytree, save_pytree
from paperloop.seeds import fold_seed

__all__ = ["ShapingTrainer", "TrainState"]


class TrainState(NamedTuple):
    """Everything that a run continues from; all arrays have a leading seed axis.

    Attributes:
        meta: the meta-optimiser's state.
        best: the best candidate of the last generation, `[S, D]`.
        key: random keys `[S]`.
        generation: how many are done, int32 `[S]`.
    """

    meta: Any
    best: Array
    key: Array
    generation: Array


class ShapingTrainer:
    """Improves a shaper over generations of trials.

        trainer = ShapingTrainer(PRESETS["imp"])
        state = trainer.init(seed=0)
        for _ in range(trainer.config.steps):
            state, metrics = trainer.step(state)

    One `step` is one dispatch of `config.generations_per_step` generations, and metrics are means over them with a
    leading seed axis. Rewards are per step of the game: `reward` and `co_player_reward` are means over whole trials and
    all candidates, `last_...` over the last tenth of the episodes; `best_reward` is that of the luckiest candidate.

    Attributes:
        config: the run.
        arena: plays trials of parameter vectors.
        headlines: the metrics to show first.
        donates: True, `step` consumes the state it is given.
        resume_ignores: what may differ when a run is continued.
    """

    donates = True
    headlines: Sequence[str] = ("reward", "co_player_reward")
    resume_ignores = ("generations", "devices", "meta.chunk")

    def __init__(self, config: TrainConfig) -> None:
        """Bind a configuration.

        Raises:
            UserError: there are fewer devices than the configuration asks for.
        """
        self.config = config
        self._replicated, spread = _lay_out(config.devices)
        game = make_game(config.game)
        gradient = isinstance(config.meta, meta.MetaPPO | meta.CoAla)
        self.arena = Arena(
            trial=make_trial(config.trial, game, records=gradient),
            policy=make_shaper(config.shaper, game, population=not gradient),
            co_player=make_co_player(config, game),
            co_players=config.trial.co_players,
            chunk=getattr(config.meta, "chunk", None),
            spread=spread,
        )
        self.optimiser = make_optimiser(config)
        self._init = jax.jit(jax.vmap(self._start))
        self._step = jax.jit(jax.vmap(self._dispatch), donate_argnums=0, out_shardings=self._replicated)

    def init(self, seed: int) -> TrainState:
        """Return the state before the first generation. Seed i of n has the same stream whatever n is."""
        seeds = [fold_seed(seed, "train", i) for i in range(self.config.seeds)]
        state = self._init(jax.vmap(jax.random.key)(jnp.array(seeds, jnp.uint32)))
        return state if self._replicated is None else jax.device_put(state, self._replicated)

    def _start(self, key: Array) -> TrainState:
        first, key = jax.random.split(key)
        state = self.optimiser.init(self.arena, first)
        # A copy: the same buffer may not be donated twice.
        return TrainState(state, jnp.array(self.optimiser.centre(state)), key, jnp.zeros((), jnp.int32))

    def step(self, state: TrainState) -> tuple[TrainState, Mapping[str, Array]]:
        """Do `config.generations_per_step` generations. Consumes `state`.

        Raises:
            UserError: they do not fit into memory.
        """
        try:
            return self._step(state)
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            raise UserError(
                f"The {self.config.joint_steps:,} joint steps of a generation do not fit into memory: evaluate fewer "
                f"candidates at a time with {setting('meta.chunk')}, which changes no result, or lower "
                f"{setting('trial.co_players')}."
            ) from None

    def _dispatch(self, state: TrainState) -> tuple[TrainState, dict[str, Array]]:
        def generation(state: TrainState, _: None) -> tuple[TrainState, dict[str, Array]]:
            key = jax.random.fold_in(state.key, state.generation)
            after, report = self.optimiser.generation(state.meta, self.arena, key)
            return TrainState(after, report.best, state.key, state.generation + 1), report.metrics

        state, metrics = jax.lax.scan(generation, state, length=self.config.generations_per_step)
        return state, {name: value.mean(0) for name, value in metrics.items()}

    def progress(self, state: TrainState) -> Mapping[str, int]:
        """Return generations and joint steps (both players act in one game), per seed."""
        done = int(state.generation.min())
        return {"generations": done, "joint_steps": done * self.config.joint_steps}

    def parameters(self, state: TrainState, *, best: bool = False) -> Array:
        """Return the mean of the search, or the best candidate of the last generation, `[S, D]`."""
        return state.best if best else jax.vmap(self.optimiser.centre)(state.meta)

    def save(self, state: TrainState, folder: Path) -> None:
        """Write the whole state into `folder`."""
        save_pytree(state, folder)

    def restore(self, folder: Path, like: TrainState) -> TrainState:
        """Read back what `save` wrote; the result continues bit for bit."""
        return load_pytree(folder, like)


def make_optimiser(config: TrainConfig) -> MetaOptimiser:
    """Return the meta-optimiser that settings describe."""
    chosen = config.meta
    if isinstance(chosen, meta.Evolution):
        names = ("sigma", "sigma_decay", "sigma_limit", "lr", "lr_decay", "lr_limit", "shaping", "weight_decay")
        return Evolve(ES(**{name: getattr(chosen, name) for name in names}), chosen.population)
    if isinstance(chosen, meta.Genetic):
        elite = max(1, round(chosen.elite * chosen.population))
        return Genetic(chosen.population, elite, chosen.sigma, chosen.sigma_decay, chosen.sigma_limit)
    from opshape.meta.gradient import make_gradient

    return make_gradient(chosen)


def _lay_out(devices: int) -> tuple[NamedSharding | None, Any]:
    """Return the layout of replicated arrays, and a function that spreads candidates over the devices."""
    mesh = device_mesh(devices, "candidates")
    if mesh is None:
        return None, lambda x: x
    split = NamedSharding(mesh, PartitionSpec("candidates"))
    return NamedSharding(mesh, PartitionSpec()), lambda x: jax.lax.with_sharding_constraint(x, split)
