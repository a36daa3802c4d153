"""Learners of the exact infinite game: naive ascent, LOLA in both forms, M-MAML, and fixed strategies.

Every learner sees itself as the first player: `values(own, other, payoffs)` with the payoffs of its side. Parameters
are five logits of cooperation in the order CC, CD, DC, DD, START; values are normalised by 1 - gamma, so that a step
size of 1 on the unnormalised value is 1 / (1 - gamma) here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import optax
from jax import Array

from opshape.agents.strategies import STRATEGIES, strategy
from opshape.games.exact import values
from opshape.games.payoffs import Payoffs, swap
from paperloop.errors import UserError

__all__ = [
    "EXACT_LEARNERS",
    "Fixed",
    "Learner",
    "Lola",
    "Maml",
    "Match",
    "Naive",
    "exact_learner",
    "maml",
    "maml_starts",
    "match",
]

BOUND = 20.0  # sigmoid(20) = 1 - 2e-9


class Learner(Protocol):
    """A rule for changing one's own logits, knowing those of the other player."""

    def initial(self, key: Array) -> Array:
        """Return logits `[5]`."""
        ...

    def change(self, own: Array, other: Array, value: Callable[[Array, Array], tuple[Array, Array]]) -> Array:
        """Return what is added to `own`; `value(own, other)` gives both players' values."""
        ...


@dataclasses.dataclass(frozen=True)
class Naive:
    """Ascends the gradient of its own value: own += step * dV1/down."""

    step: float = 25.0

    def initial(self, key: Array) -> Array:
        """Return first logits `[5]`."""
        return jax.random.normal(key, (5,))

    def change(self, own: Array, other: Array, value: Callable) -> Array:
        """Return what is added to one's own logits."""
        return self.step * jax.grad(lambda x: value(x, other)[0])(own)


@dataclasses.dataclass(frozen=True)
class Lola:
    """Learning with opponent-learning awareness (Foerster et al. 2018): ascends V1 + step * dV1/dother . dV2/dother.

    Attributes:
        step: of its own ascent and of the step that it expects from the other.
        through_own: False stops the gradient through the first factor, dV1/dother, as in the notebook of Meta-Value
            Learning; True differentiates both, as the repository of M-FOS does. The results differ.
    """

    step: float = 25.0
    through_own: bool = False

    def initial(self, key: Array) -> Array:
        """Return first logits `[5]`."""
        return jax.random.normal(key, (5,))

    def change(self, own: Array, other: Array, value: Callable) -> Array:
        """Return what is added to one's own logits."""

        def objective(x: Array) -> Array:
            mine = jax.grad(lambda y: value(x, y)[0])(other)
            theirs = jax.grad(lambda y: value(x, y)[1])(other)
            mine = mine if self.through_own else jax.lax.stop_gradient(mine)
            return value(x, other)[0] + self.step * jnp.dot(mine, theirs)

        return self.step * jax.grad(objective)(own)


class Maml(NamedTuple):
    """A naive learner whose start and step size were learned (`maml`): logits `[5]`, and a step of either sign."""

    start: Array
    step: Array

    def initial(self, key: Array) -> Array:
        """Return first logits `[5]`."""
        return self.start

    def change(self, own: Array, other: Array, value: Callable) -> Array:
        """Return what is added to one's own logits."""
        return self.step * jax.grad(lambda x: value(x, other)[0])(own)


@dataclasses.dataclass(frozen=True)
class Fixed:
    """Never learns: probabilities of cooperation over CC, CD, DC, DD, START."""

    probabilities: tuple[float, ...]

    def initial(self, key: Array) -> Array:
        """Return first logits `[5]`."""
        p = jnp.array(self.probabilities)
        return jnp.clip(jnp.log(p) - jnp.log1p(-p), -BOUND, BOUND)

    def change(self, own: Array, other: Array, value: Callable) -> Array:
        """Return what is added to one's own logits."""
        return jnp.zeros_like(own)


class Match(NamedTuple):
    """What a match gives, for each of `n` trials.

    Attributes:
        final: both players' values at the last parameters, `[n]` each.
        curve: both players' values before each update, `[n, updates]` each.
        logits: both players' last logits, `[n, 5]` each.
    """

    final: tuple[Array, Array]
    curve: tuple[Array, Array]
    logits: tuple[Array, Array]


def match(
    first: Learner, second: Learner, payoffs: Payoffs, key: Array, *, gamma: float = 0.96, updates: int, trials: int
) -> Match:
    """Play two learners against each other: simultaneous updates, fresh starts in each trial."""
    mine, theirs = _value(payoffs, gamma), _value(swap(payoffs), gamma)

    def trial(key: Array) -> Match:
        def update(logits: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
            x, y = logits
            new = x + first.change(x, y, mine), y + second.change(y, x, theirs)
            return new, mine(x, y)

        one, two = jax.random.split(key)
        logits, curve = jax.lax.scan(update, (first.initial(one), second.initial(two)), length=updates)
        return Match(final=mine(*logits), curve=curve, logits=logits)

    return jax.jit(jax.vmap(trial))(jax.random.split(key, trials))


def maml(
    payoffs: Payoffs,
    key: Array,
    *,
    gamma: float = 0.96,
    inner: int = 100,
    iterations: int = 200,
    batch: int = 16,
    lr: float = 0.03,
    step: float = 25.0,
    starts: int = 4,
) -> Maml:
    """Learn a start and a step size for naive ascent against naive learners (M-MAML, Lu et al. 2022).

    The objective is the mean own value over `inner` simultaneous updates, differentiated through all of them. It has
    poor local optima: in the prisoner's dilemma some random starts come to cooperate and others never leave mutual
    defection, so that several are tried and the one with the best objective on new co-players is kept. (The reference
    averages its results over ten of them instead.)

    Args:
        payoffs: `table[own][other]`.
        key: starts of the co-players, our own first logits, and our own first step.
        gamma: in [0, 1).
        inner: updates of both players within a trial.
        iterations: of Adam on start and step.
        batch: co-players per iteration.
        lr: of Adam.
        step: of the co-players; our own step begins at a uniformly random share of it.
        starts: that are tried.
    """
    found, objective = maml_starts(
        payoffs, key, gamma=gamma, inner=inner, iterations=iterations, batch=batch, lr=lr, step=step, starts=starts
    )
    return jax.tree.map(lambda x: x[jnp.argmax(objective)], found)


def maml_starts(
    payoffs: Payoffs, key: Array, *, gamma: float, inner: int, iterations: int, batch: int, lr: float, step: float,
    starts: int,
) -> tuple[Maml, Array]:  # fmt: skip
    """Return what M-MAML learns from each of `starts` random starts, and its objective on 256 new co-players."""
    mine, theirs, naive = _value(payoffs, gamma), _value(swap(payoffs), gamma), Naive(step)
    optimiser = optax.adam(lr)

    def objective(learned: Maml, key: Array) -> Array:
        scaled = learned._replace(step=step * learned.step)  # Adam moves both by numbers of order one

        def update(logits: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], Array]:
            x, y = logits
            return (x + scaled.change(x, y, mine), y + naive.change(y, x, theirs)), mine(x, y)[0]

        return jax.lax.scan(update, (learned.start, naive.initial(key)), length=inner)[1].mean()

    def mean(learned: Maml, key: Array, trials: int) -> Array:
        return jax.vmap(partial(objective, learned))(jax.random.split(key, trials)).mean()

    def learn(key: Array) -> tuple[Maml, Array]:
        first, second, third, key = jax.random.split(key, 4)
        learned = Maml(jax.random.normal(first, (5,)), jax.random.uniform(second))

        def iteration(carry: tuple, key: Array) -> tuple[tuple, None]:
            learned, opt_state = carry
            gradient = jax.tree.map(jnp.negative, jax.grad(mean)(learned, key, batch))
            updates, opt_state = optimiser.update(gradient, opt_state)
            return (optax.apply_updates(learned, updates), opt_state), None

        keys = jax.random.split(key, iterations)
        (learned, _), _ = jax.lax.scan(iteration, (learned, optimiser.init(learned)), keys)
        return learned._replace(step=step * learned.step), mean(learned, third, 256)

    return jax.jit(jax.vmap(learn))(jax.random.split(key, starts))


#: Name -> what it is, for help and messages.
EXACT_LEARNERS = {
    "naive": "ascends its own value",
    "lola": "LOLA, without the gradient through its own first factor (Meta-Value Learning's form)",
    "lola_full": "LOLA with the whole gradient (the form of the M-FOS repository)",
    "m_maml": "naive, with a learned start and step size",
}


def exact_learner(name: str, payoffs: Payoffs, key: Array, *, gamma: float, step: float) -> Learner:
    """Return the learner or fixed strategy of that name; M-MAML is trained here, which takes some seconds.

    Raises:
        UserError: there is neither a learner nor a strategy of that name.
    """
    if name not in (*EXACT_LEARNERS, *STRATEGIES) and not name.startswith("zd:"):
        raise UserError(
            f"There is no player {name!r}; there are {', '.join([*EXACT_LEARNERS, *STRATEGIES])}, zd:CHI:PHI[:KAPPA]."
        )
    if name == "naive":
        return Naive(step)
    if name in ("lola", "lola_full"):
        return Lola(step, through_own=name == "lola_full")
    if name == "m_maml":
        return maml(payoffs, key, gamma=gamma, step=step)
    return Fixed(strategy(name, payoffs))


def _value(payoffs: Payoffs, gamma: float) -> Callable[[Array, Array], tuple[Array, Array]]:
    def value(own: Array, other: Array) -> tuple[Array, Array]:
        return values(jax.nn.sigmoid(own), jax.nn.sigmoid(other), payoffs, gamma=gamma)

    return value
