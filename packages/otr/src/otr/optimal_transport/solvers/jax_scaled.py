"""The scaled iteration of the JAX back end: the first one in the log domain, the others as products with its kernel.

As in `numba_kernels`, W = softmax of the column potentials less C/eps, so that its rows sum to one. Alone, v is folded
into the potentials every few iterations where it has spread. Side by side that would rebuild every kernel, so there, as
wherever v has left the range of float32 in between, a pair says that it is not to be trusted.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from otr.optimal_transport.solvers.problem import Numbers

__all__ = ["CHECK_EVERY", "SPREAD", "Scaled", "State"]

#: Spread of log v beyond which the scaled kernel is not trusted: what float32 has dropped from it, below exp(-87), may
#: then have grown to exp(SPREAD - 87) of a row's mass.
SPREAD = 60.0
#: Spread at which v is folded into the potentials.
FOLD = 20.0
CHECK_EVERY = 10
WARM_UP = 3
HIGHEST = lax.Precision.HIGHEST  # no TF32


class State(NamedTuple):
    """The plan is u_t W_tj v_j / T."""

    u: jax.Array
    v: jax.Array
    acc: jax.Array  # Σ_t u_t W_tj
    W: jax.Array  # rows sum to one where v is one
    G: jax.Array  # the column potentials that W was made with, over epsilon
    worst: jax.Array  # the largest spread of log v so far


class Scaled:
    """The iteration on one padded pair.

    Args:
        C: (Tp, Mp) costs, with what must not be matched far above the others.
        epsilon: regularisation.
        real: (Tp,) booleans, which rows are not padding.
        T: their number, float32.
        M: that of the demonstration's steps.
        bfloat16: how W is stored.
        fold: whether v may be folded into the potentials.
    """

    def __init__(
        self, C: jax.Array, epsilon: jax.Array, real: jax.Array, T: jax.Array, M: jax.Array, *, bfloat16: bool,
        fold: bool,
    ) -> None:  # fmt: skip
        self.C, self.real, self.T, self.M = C, real, T, M
        self._inverse = 1.0 / epsilon
        self._idle = jnp.where(real, 0.0, 1.0)  # keeps the sums of padded rows at one
        self._bfloat16, self._fold = bfloat16, fold
        low = jnp.min(C, axis=0)  # out of -log Σ_t (1/T) exp(-C_tj/eps), the columns' first update
        total = jnp.sum(jnp.exp((low[None, :] - C) / epsilon), axis=0)
        G = low / epsilon - jnp.log(total / T)
        self.start = self._rebuilt(G, jnp.ones(C.shape[1], jnp.float32), jnp.float32(0.0))

    def fixed(self, iterations: int) -> tuple[State, jax.Array, jax.Array]:
        """Return (state, iterations, marginal error) after so many iterations, the first included."""
        segments, rest = divmod(iterations - 1, CHECK_EVERY)

        def segment(_: int, state: State) -> State:
            return self._folded(lax.fori_loop(0, CHECK_EVERY, lambda _, s: self._plain(s), state))

        state = lax.fori_loop(0, segments, segment, self.start) if segments else self.start
        state = lax.fori_loop(0, rest, lambda _, s: self._plain(s), state) if rest else state
        return state, jnp.int32(iterations), self._error(state.acc, state.v)

    def converged(self, numbers: Numbers) -> tuple[State, jax.Array, jax.Array]:
        """Return (state, iterations, marginal error) at the tolerance, by over-relaxation where that helps."""

        def look(carry: Any) -> Any:
            state, done, last, omega, settled, looks = carry
            state = lax.fori_loop(0, CHECK_EVERY - 1, lambda _, s: self._relaxed(s, omega), state)
            state = self._plain(state)
            now = self._error(state.acc, state.v)
            rate = jnp.clip(now / last, 0.0, 0.999999) ** (1.0 / CHECK_EVERY)
            best = jnp.minimum(2.0 / (1.0 + jnp.sqrt(1.0 - rate)), 1.9)
            worse = (omega > 1.0) & ~(now <= last)
            choose = (omega == 1.0) & (looks >= WARM_UP) & ~settled & (now < last)
            omega = jnp.where(worse, 1.0, jnp.where(choose, best, omega))
            return self._folded(state), done + CHECK_EVERY, now, omega, settled | worse, looks + 1

        def going(carry: Any) -> jax.Array:
            state, done, last, *_ = carry
            return (last > numbers.tolerance) & (done < numbers.iterations) & (state.worst <= SPREAD)

        carry = (self.start, jnp.int32(1), jnp.float32(3.0), jnp.float32(1.0), jnp.bool_(False), jnp.int32(0))
        state, done, final, *_ = lax.while_loop(going, look, carry)
        return state, done, final

    def expected_costs(self, state: State) -> jax.Array:
        """Return (Tp,) the mean cost of each row under its part of the plan."""
        weights = state.W.astype(jnp.float32) * state.v[None, :]
        mass = jnp.sum(weights, axis=1)
        total = jnp.sum(jnp.where(weights > 0, weights * self.C, 0.0), axis=1)
        return total / jnp.where(self.real, mass, 1.0)

    def _kernel(self, G: jax.Array) -> jax.Array:
        scores = (G - jnp.max(G))[None, :] - self.C * self._inverse
        W = jnp.where(self.real[:, None], jax.nn.softmax(scores, axis=1), 0.0)
        W = jnp.where(W > 1e-37, W, 0.0)  # subnormal numbers are slow, and below what is looked at
        return W.astype(jnp.bfloat16) if self._bfloat16 else W

    def _rows(self, W: jax.Array, v: jax.Array) -> jax.Array:
        if self._bfloat16:
            return jnp.sum(W.astype(jnp.float32) * v[None, :], axis=1) + self._idle
        return jnp.matmul(W, v, precision=HIGHEST) + self._idle

    def _columns(self, W: jax.Array, u: jax.Array) -> jax.Array:
        if self._bfloat16:
            return jnp.sum(W.astype(jnp.float32) * u[:, None], axis=0)
        return jnp.matmul(u, W, precision=HIGHEST)

    def _error(self, acc: jax.Array, v: jax.Array) -> jax.Array:
        return jnp.sum(jnp.abs(acc * v / self.T - 1.0 / self.M))

    def _rebuilt(self, G: jax.Array, v: jax.Array, worst: jax.Array) -> State:
        G = G + jnp.log(v)
        W, v = self._kernel(G), jnp.ones_like(G)
        u = jnp.where(self.real, 1.0 / self._rows(W, v), 0.0)  # ones but for rounding
        return State(u, v, self._columns(W, u), W, G, worst)

    def _plain(self, state: State) -> State:
        v = (self.T / self.M) / state.acc
        return self._with(state, jnp.where(self.real, 1.0 / self._rows(state.W, v), 0.0), v)

    def _relaxed(self, state: State, omega: jax.Array) -> State:
        """An update to the power omega (Thibault et al. 2021)."""
        v = jnp.exp(omega * jnp.log((self.T / self.M) / state.acc) + (1 - omega) * jnp.log(state.v))
        before = jnp.log(jnp.where(self.real, state.u, 1.0))
        step = -omega * jnp.log(self._rows(state.W, v)) + (1 - omega) * before
        return self._with(state, jnp.where(self.real, jnp.exp(step), 0.0), v)

    def _with(self, state: State, u: jax.Array, v: jax.Array) -> State:
        worst = jnp.maximum(state.worst, _spread(v))
        return state._replace(u=u, v=v, acc=self._columns(state.W, u), worst=worst)

    def _folded(self, state: State) -> State:
        if not self._fold:
            return state
        wide = _spread(state.v) > FOLD
        return lax.cond(wide, lambda s: self._rebuilt(s.G, s.v, s.worst), lambda s: s, state)


def _spread(v: jax.Array) -> jax.Array:
    return jnp.log(jnp.max(v)) - jnp.log(jnp.min(v))
