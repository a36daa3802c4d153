"""The programs of the JAX back end: costs of one padded pair of sequences, and its plan in the log domain."""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from otr.optimal_transport.solvers.jax_scaled import CHECK_EVERY, SPREAD, Scaled
from otr.optimal_transport.solvers.problem import Numbers

__all__ = ["Pair", "Static", "plan", "solve"]

MASKED = 1e20
HIGHEST = lax.Precision.HIGHEST  # no TF32: 1 - <x, y> has to be good to 1e-6


class Static(NamedTuple):
    """What a program is compiled for, besides shapes."""

    kind: str
    ridge: float
    numbers: Numbers
    bfloat16: bool
    log_domain: bool
    batched: bool


class Pair(NamedTuple):
    """One padded pair. `T` and `M` are the true lengths; x is (Tp, D), or the (Tp, Mp) costs if the kind is "given"."""

    x: jax.Array
    x_norms: jax.Array
    T: jax.Array
    y: jax.Array
    y_norms: jax.Array
    M: jax.Array


@functools.partial(jax.jit, static_argnums=0)
def solve(static: Static, pairs: Pair) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Solve stacked episodes against one demonstration: (expected costs, errors, iterations, whether to trust them)."""

    def one(episode: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
        x, norms, T = episode
        pair = pairs._replace(x=x, x_norms=norms, T=T)
        return _solve_log(static, pair)[:4] if static.log_domain else _solve_scaled(static, pair)

    episodes = pairs.x, pairs.x_norms, pairs.T
    return jax.vmap(one)(episodes) if static.batched else lax.map(one, episodes)


def _costs(static: Static, pair: Pair) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """(C, allowed pairs, epsilon, row mask): the costs with what must not be matched at MASKED."""
    Tp = pair.x.shape[0]
    Mp = pair.y_norms.shape[0]
    if static.kind == "given":
        C = pair.x
    elif static.kind == "dot":
        product = jnp.matmul(pair.x, pair.y.T, precision=HIGHEST)
        if static.ridge > 0:
            norms = pair.x_norms[:, None] * pair.y_norms[None, :]
            product = product * (norms / (norms + static.ridge))
        C = 1.0 - product
    else:

        def add(d: int, total: jax.Array) -> jax.Array:
            difference = lax.dynamic_index_in_dim(pair.x, d, 1) - lax.dynamic_index_in_dim(pair.y, d, 1).T
            return total + difference * difference

        C = lax.fori_loop(0, pair.x.shape[1], add, jnp.zeros((Tp, Mp), jnp.float32))
        if static.kind == "euclidean":
            C = jnp.sqrt(C)
    t, j = jnp.arange(Tp, dtype=jnp.int32), jnp.arange(Mp, dtype=jnp.int32)
    real = t < pair.T
    epsilon = jnp.float32(static.numbers.epsilon)
    allowed = jnp.broadcast_to(real[:, None], C.shape)
    if band := static.numbers.band:
        opposite = ((2 * t + 1) * Mp) // (2 * pair.T)
        beneath = ((2 * j + 1) * pair.T) // (2 * Mp)
        near = jnp.abs(j[None, :] - opposite[:, None]) <= band
        near |= jnp.abs(t[:, None] - beneath[None, :]) <= band
        allowed &= near
    return jnp.where(allowed, C, MASKED), allowed, epsilon, real


def _solve_scaled(static: Static, pair: Pair) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    C, _, epsilon, real = _costs(static, pair)
    T, M = pair.T.astype(jnp.float32), pair.M.astype(jnp.float32)
    one = Scaled(C, epsilon, real, T, M, bfloat16=static.bfloat16, fold=not static.batched)
    numbers = static.numbers
    state, done, final = one.converged(numbers) if numbers.tolerance else one.fixed(numbers.iterations)
    trusted = (state.worst <= SPREAD) & jnp.isfinite(final)  # both False for NaN
    return one.expected_costs(state), final, done, trusted


def _solve_log(static: Static, pair: Pair) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array, jax.Array]:
    C, allowed, epsilon, real = _costs(static, pair)
    T, M = pair.T.astype(jnp.float32), pair.M.astype(jnp.float32)
    S = jnp.where(allowed, -C / epsilon, -jnp.inf)

    def power(rho: float) -> jax.Array:  # `relaxation_power` in float32
        return jnp.float32(1.0) if math.isinf(rho) else rho / (rho + epsilon)

    numbers = static.numbers
    lam_agent, lam_demo = power(numbers.rho_agent), power(numbers.rho_demo)
    hard = math.isinf(numbers.rho_demo)

    def column_sums(f: jax.Array) -> jax.Array:
        return jax.nn.logsumexp(S + f[:, None], axis=0) - jnp.log(T)

    def update(potentials: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        f, _ = potentials
        g = -lam_demo * column_sums(f)
        f = -lam_agent * (jax.nn.logsumexp(S + g[None, :], axis=1) - jnp.log(M))
        return jnp.where(real, f, 0.0), g

    def error(f: jax.Array, g: jax.Array) -> jax.Array:
        sums = column_sums(f)
        mass = jnp.exp(sums + g) / M
        if hard:
            return jnp.sum(jnp.abs(mass - 1.0 / M))
        return jnp.sum(mass * jnp.abs(1.0 - jnp.exp(jnp.minimum(-lam_demo * sums - g, 80.0))))

    start = jnp.zeros(C.shape[0], jnp.float32), jnp.zeros(C.shape[1], jnp.float32)
    if numbers.tolerance == 0:
        f, g = lax.fori_loop(0, numbers.iterations, lambda _, p: update(p), start)
        done = jnp.int32(numbers.iterations)
        final = error(f, g)
    else:

        def look(state: Any) -> Any:
            potentials, done, _ = state
            potentials = lax.fori_loop(0, CHECK_EVERY, lambda _, p: update(p), potentials)
            return potentials, done + CHECK_EVERY, error(*potentials)

        def going(state: Any) -> jax.Array:
            return (state[2] > numbers.tolerance) & (state[1] < numbers.iterations)

        (f, g), done, final = lax.while_loop(going, look, (start, jnp.int32(0), jnp.float32(3.0)))
    # By softmax: each row's weights sum to one whatever is left of its mass.
    weights = jnp.where(allowed, jax.nn.softmax(jnp.where(allowed, S + g[None, :], -1e30), axis=1), 0.0)
    costs = jnp.sum(jnp.where(allowed, weights * C, 0.0), axis=1)
    mass = jnp.where(allowed, jnp.exp(S + f[:, None] + g[None, :]), 0.0) / (T * M)
    return costs, final, done, jnp.bool_(True), mass


@functools.partial(jax.jit, static_argnums=0)
def plan(static: Static, pair: Pair) -> jax.Array:
    """Return the plan (Tp, Mp) of one pair."""
    return _solve_log(static, pair)[4]
