"""A genetic algorithm (Such et al. 2017): truncation selection and Gaussian mutation."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from opshape.meta.base import Report, report
from opshape.meta.evolution import repair
from opshape.play.arena import Arena

__all__ = ["Genetic", "GeneticState"]


class GeneticState(NamedTuple):
    """The elite `[elite, D]`, best first, and the width of mutations `[]`."""

    elite: Array
    sigma: Array


@dataclasses.dataclass(frozen=True)
class Genetic:
    """Each generation is the elite and mutated copies of its members, measured anew on new games.

    Attributes:
        population: P.
        elite: how many survive.
        sigma: first width of mutations; multiplied by `sigma_decay` each generation, down to `sigma_limit`.
    """

    population: int
    elite: int
    sigma: float = 0.1
    sigma_decay: float = 0.999
    sigma_limit: float = 0.01

    def init(self, arena: Arena, key: Array) -> GeneticState:
        """Return the state before the first generation."""
        size = arena.init(key).size
        return GeneticState(self.sigma * jax.random.normal(key, (self.elite, size)), jnp.asarray(self.sigma))

    def children(self, state: GeneticState, key: Array) -> Array:
        """Return the next candidates `[P, D]`: the elite first, then mutants of random members."""
        parent, noise = jax.random.split(key)
        count = self.population - self.elite
        chosen = state.elite[jax.random.randint(parent, (count,), 0, self.elite)]
        mutants = chosen + state.sigma * jax.random.normal(noise, chosen.shape)
        return jnp.concatenate([state.elite, mutants])

    def select(self, state: GeneticState, candidates: Array, fitness: Array) -> GeneticState:
        """Return the state whose elite are the candidates of highest fitness; what is not finite comes last."""
        best = jnp.argsort(-repair(fitness))[: self.elite]
        return GeneticState(candidates[best], jnp.maximum(state.sigma * self.sigma_decay, self.sigma_limit))

    def generation(self, state: GeneticState, arena: Arena, key: Array) -> tuple[GeneticState, Report]:
        """Return the state after one generation, and what it gave."""
        noise, games = jax.random.split(key)
        candidates = self.children(state, noise)
        scores = arena.score(candidates, games)
        after = self.select(state, candidates, scores.own.mean(-1))
        return after, report(candidates, scores, sigma=state.sigma)

    def centre(self, state: GeneticState) -> Array:
        """Return the best of the elite."""
        return state.elite[0]
