"""OpenAI-ES (Salimans et al. 2017) as pure functions, and how fitness is shaped."""

from __future__ import annotations

import dataclasses
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from opshape.meta.base import Report, report
from opshape.play.arena import Arena

__all__ = ["ES", "ESState", "Evolve", "Shaping", "centered_ranks", "repair", "shape_fitness"]

Shaping = Literal["mean", "z_score", "centered_rank"]


class ESState(NamedTuple):
    """A Gaussian with one width, and Adam's moments of its mean.

    Attributes:
        mean: `[D]`.
        first: Adam's first moment `[D]`.
        second: Adam's second moment `[D]`.
        sigma: the width `[]`.
        lr: Adam's step size `[]`.
        count: updates so far, int32 `[]`.
    """

    mean: Array
    first: Array
    second: Array
    sigma: Array
    lr: Array
    count: Array


@dataclasses.dataclass(frozen=True)
class ES:
    """Antithetic evolution strategy with Adam; higher fitness is better.

    Attributes:
        sigma: first width; multiplied by `sigma_decay` after each update, down to `sigma_limit`.
        lr: first step size; multiplied by `lr_decay` after each update, down to `lr_limit`.
        beta: Adam's first decay, 0.99 as in evosax (not 0.9).
        shaping: see `shape_fitness`.
        weight_decay: subtracts so much of a candidate's mean squared parameter from its fitness.
    """

    sigma: float = 0.1
    sigma_decay: float = 0.999
    sigma_limit: float = 0.01
    lr: float = 0.05
    lr_decay: float = 0.9999
    lr_limit: float = 0.001
    beta: float = 0.99
    shaping: Shaping = "z_score"
    weight_decay: float = 0.0

    def init(self, size: int) -> ESState:
        """Return the state before the first update: the zero vector, as the reference starts."""
        zero = jnp.zeros(size)
        return ESState(zero, zero, zero, jnp.asarray(self.sigma), jnp.asarray(self.lr), jnp.zeros((), jnp.int32))

    def ask(self, state: ESState, key: Array, population: int) -> Array:
        """Return candidates `[P, D]`: mean + sigma z for half of them, mean - sigma z for the other half."""
        z = jax.random.normal(key, (population // 2, state.mean.size))
        return state.mean + state.sigma * jnp.concatenate([z, -z])

    def tell(self, state: ESState, candidates: Array, fitness: Array) -> ESState:
        """Return the state after one update by (1 / (P sigma)) sum_i z_i f_i.

        Args:
            state: the one that was asked.
            candidates: `[P, D]`.
            fitness: `[P]`, higher is better; what is not finite counts as the worst.
        """
        shaped = shape_fitness(fitness, candidates, self.shaping, self.weight_decay)
        z = (candidates - state.mean) / state.sigma
        gradient = -(shaped @ z) / (fitness.size * state.sigma)
        count = state.count + 1
        first = self.beta * state.first + (1 - self.beta) * gradient
        second = 0.999 * state.second + 0.001 * gradient**2
        step = (first / (1 - self.beta**count)) / (jnp.sqrt(second / (1 - 0.999**count)) + 1e-8)
        return ESState(
            mean=state.mean - state.lr * step,
            first=first,
            second=second,
            sigma=jnp.maximum(state.sigma * self.sigma_decay, self.sigma_limit),
            lr=jnp.maximum(state.lr * self.lr_decay, self.lr_limit),
            count=count,
        )


def shape_fitness(fitness: Array, candidates: Array, shaping: Shaping, weight_decay: float = 0.0) -> Array:
    """Return shaped fitness `[P]` with mean zero.

    Args:
        fitness: `[P]`, higher is better.
        candidates: `[P, D]`, for the weight decay.
        shaping: "mean" subtracts the mean, "z_score" also divides by the standard deviation, "centered_rank" takes
            ranks in [-1/2, 1/2], tied ones their average.
        weight_decay: weight of the mean (not the sum) of a candidate's squared parameters.
    """
    fitness = repair(fitness) - weight_decay * (candidates**2).mean(-1)
    if shaping == "centered_rank":
        return centered_ranks(fitness)
    middle = fitness.mean()
    fitness = fitness - middle
    if shaping == "mean":
        return fitness
    spread = fitness.std()
    # Differences that are rounding only must not be blown up to the size of real ones.
    return jnp.where(spread > 1e-6 * (1e-3 + jnp.abs(middle)), fitness / (spread + 1e-10), 0.0)


def centered_ranks(x: Array) -> Array:
    """Return ranks scaled to [-1/2, 1/2]; tied values share the average of their ranks."""
    below = (x[None, :] < x[:, None]).sum(-1)
    equal = (x[None, :] == x[:, None]).sum(-1)
    return (below + 0.5 * (equal - 1)) / (x.size - 1) - 0.5


def repair(fitness: Array) -> Array:
    """Return fitness with what is not finite set to the worst finite value (to 0 where there is none)."""
    finite = jnp.isfinite(fitness)
    worst = jnp.min(jnp.where(finite, fitness, jnp.inf))
    return jnp.where(finite, fitness, jnp.where(jnp.isfinite(worst), worst, 0.0))


@dataclasses.dataclass(frozen=True)
class Evolve:
    """The evolution strategy as a meta-optimiser."""

    es: ES
    population: int

    def init(self, arena: Arena, key: Array) -> ESState:
        """Return the state before the first generation."""
        return self.es.init(arena.init(key).size)

    def generation(self, state: ESState, arena: Arena, key: Array) -> tuple[ESState, Report]:
        """Return the state after one generation, and what it gave."""
        noise, games = jax.random.split(key)
        candidates = self.es.ask(state, noise, self.population)
        scores = arena.score(candidates, games)
        after = self.es.tell(state, candidates, scores.own.mean(-1))
        return after, report(candidates, scores, sigma=state.sigma)

    def centre(self, state: ESState) -> Array:
        """Return the mean."""
        return state.mean
