"""The JAX back end: a sequence of pairs on a CPU, batches that fill the memory on a GPU.

Pairs are padded to a few bucket sizes, so that few programs are compiled. As in `numba_kernels`, the first iteration is
done in the log domain and gives a kernel W whose rows sum to one; the others multiply by it. On a CPU v is folded into
the potentials every few iterations where it has spread. In a batch that would rebuild every kernel, so there, as
wherever v has left the range of float32 in between, the pairs concerned are found afterwards and solved again in the
log domain, as are unbalanced ones from the start.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from otr.optimal_transport.costs import BUILT_IN, cost_matrix
from otr.optimal_transport.solvers.problem import Problem, Solution

__all__ = ["JaxSolver", "bucket"]

#: Spread of log v beyond which the scaled kernel is not trusted: what float32 has dropped from it, below exp(-87), may
#: then have grown to exp(SPREAD - 87) of a row's mass.
SPREAD = 60.0
#: Spread at which v is folded into the potentials.
FOLD = 20.0
MASKED = 1e20
CHECK_EVERY = 10
WARM_UP = 3
#: Cells of one dispatch on a CPU: its pairs run one after another, so this bounds only what is copied and reported.
CPU_CELLS = 32_000_000
#: Pairs of at most so many cells run side by side on a CPU too: what starting an operation costs outweighs the caches.
SMALL_CELLS = 8_192
SMALL_BATCH_CELLS = 1_000_000
HIGHEST = lax.Precision.HIGHEST  # no TF32: 1 - <x, y> has to be good to 1e-6


class _Static(NamedTuple):
    """What a program is compiled for, besides shapes."""

    kind: str
    ridge: float
    band: int | None
    epsilon: float
    relative: bool
    rho_agent: float | None
    rho_demo: float | None
    iterations: int
    tolerance: float
    bfloat16: bool
    log_domain: bool
    batched: bool


class _Pair(NamedTuple):
    """One padded pair. `T` and `M` are the true lengths; x is (Tp, D), or the (Tp, Mp) costs if the kind is "given"."""

    x: jax.Array
    x_norms: jax.Array
    T: jax.Array
    y: jax.Array
    y_norms: jax.Array
    M: jax.Array


class _Scaled(NamedTuple):
    """The state of the scaled iteration: the plan is u_t W_tj v_j / T."""

    u: jax.Array
    v: jax.Array
    acc: jax.Array  # Σ_t u_t W_tj
    W: jax.Array  # rows sum to one where v is one
    G: jax.Array  # the column potentials that W was made with, over epsilon
    worst: jax.Array  # the largest spread of log v so far


def bucket(length: int, longest: int) -> int:
    """Return the padded length: the next of 8, 12, 16, 24, 32, 40, 48, 56, 64, 80, ... but at most `longest`.

    From 32 on there are eight sizes to an octave below 64, and so on: at most an eighth is padding.
    """
    if length >= longest:
        return longest
    if length <= 32:
        return min(next(size for size in (1, 2, 4, 8, 12, 16, 24, 32) if size >= length), longest)
    step = 1 << (length.bit_length() - 3)
    return min(-(-length // step) * step, longest)


class JaxSolver:
    """See the module.

    Args:
        device: a JAX device; the default one if None.
        batched: solve pairs side by side rather than one after another; by default on all but CPUs.
    """

    name = "jax"

    def __init__(self, device: Any = None, batched: bool | None = None) -> None:
        self.device = jax.devices()[0] if device is None else device
        self.batched = self.device.platform != "cpu" if batched is None else batched

    def solve(self, problem: Problem) -> Solution:
        """See `Solver.solve`."""
        solution = Solution.empty(problem)
        for k in range(len(problem.demos)):
            static = self._static(problem, k, log_domain=bool(problem.config.rho_agent or problem.config.rho_demo))
            redo = self._solve_demo(problem, solution, k, static, np.arange(len(problem.starts)))
            if len(redo) and not static.log_domain:
                self._solve_demo(problem, solution, k, static._replace(log_domain=True), redo)
        return solution

    def plan(self, problem: Problem) -> np.ndarray:
        """See `Solver.plan`."""
        first = problem._replace(starts=problem.starts[:1], lengths=problem.lengths[:1])
        T, M = int(problem.lengths[0]), len(problem.demos[0].values)
        static = self._static(problem, 0, log_domain=True)
        pair = self._batch(first, 0, np.array([0]), T, M)
        one = pair._replace(x=pair.x[0], x_norms=pair.x_norms[0], T=pair.T[0])
        with jax.default_device(self.device):
            return np.asarray(_plan(static, one))

    def _static(self, problem: Problem, k: int, *, log_domain: bool) -> _Static:
        config = problem.config
        parity = config.mode == "parity"
        kind = problem.rows.kind
        return _Static(
            kind=kind if kind in ("dot", *BUILT_IN) else "given",
            ridge=problem.rows.ridge,
            band=config.band,
            epsilon=config.epsilon,
            relative=config.relative_epsilon,
            rho_agent=config.rho_agent,
            rho_demo=config.rho_demo,
            iterations=config.iterations if parity else config.max_iterations,
            tolerance=0.0 if parity else config.tolerance,
            bfloat16=config.kernel_dtype == "bfloat16",
            log_domain=log_domain,
            batched=self.batched,
        )

    def _solve_demo(
        self, problem: Problem, solution: Solution, k: int, static: _Static, episodes: np.ndarray
    ) -> np.ndarray:
        """Fill in the solution for one demonstration; returns the episodes that need the log domain."""
        demo = problem.demos[k]
        M = len(demo.values)
        redo: list[int] = []
        waiting: list[tuple[np.ndarray, _Static, int, Any]] = []

        def collect() -> None:
            some, static, Tp, out = waiting.pop(0)
            costs, errors, counts, trusted = self._fetch(problem, k, static, some, Tp, M, out)
            for i, e in enumerate(some):
                start, length = int(problem.starts[e]), int(problem.lengths[e])
                solution.expected_costs[k, start : start + length] = costs[i, :length]
            solution.marginal_errors[k, some] = errors
            solution.iterations[k, some] = counts
            redo.extend(some[~trusted].tolist())

        with jax.default_device(self.device):
            for Tp, some in self._groups(problem, episodes, M):
                mode = static._replace(batched=self._side_by_side(Tp, M))
                waiting.append((some, mode, Tp, self._start(problem, k, mode, some, Tp, M)))
                if len(waiting) > 1:  # the host prepares one batch while the device works on another
                    collect()
            while waiting:
                collect()
        return np.array(redo, np.int64)

    def _side_by_side(self, Tp: int, M: int) -> bool:
        return self.batched or Tp * M <= SMALL_CELLS

    def _start(self, problem: Problem, k: int, static: _Static, some: np.ndarray, Tp: int, M: int) -> Any:
        """Start a batch; None where the device's memory does not hold it."""
        try:
            return _solve(static, self._batch(problem, k, some, Tp, M))
        except jax.errors.JaxRuntimeError as error:
            if not _out_of_memory(error) or len(some) == 1:
                raise
            return None

    def _fetch(
        self, problem: Problem, k: int, static: _Static, some: np.ndarray, Tp: int, M: int, out: Any
    ) -> tuple[np.ndarray, ...]:
        """Wait for a batch; one that did not fit is split in two."""
        if out is not None:
            try:
                return tuple(np.asarray(value)[: len(some)] for value in out)  # what follows is padding of the batch
            except jax.errors.JaxRuntimeError as error:
                if not _out_of_memory(error) or len(some) == 1:
                    raise
        del out
        parts = []
        for half in np.array_split(some, 2):
            started = self._start(problem, k, static, half, Tp, M)
            parts.append(self._fetch(problem, k, static, half, Tp, M, started))
        return tuple(np.concatenate(values) for values in zip(*parts, strict=True))

    def _groups(self, problem: Problem, episodes: np.ndarray, M: int) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (padded length, episodes) of about equal work."""
        lengths = problem.lengths[episodes]
        longest = int(problem.lengths.max())
        padded = np.array([bucket(int(n), longest) for n in np.unique(lengths)])
        size = dict(zip(np.unique(lengths).tolist(), padded.tolist(), strict=True))
        sizes = np.array([size[n] for n in lengths.tolist()])
        for Tp in np.unique(sizes)[::-1]:
            members = episodes[sizes == Tp]
            many = self._pairs_at_once(problem, int(Tp), M)
            for first in range(0, len(members), many):
                yield int(Tp), members[first : first + many]

    def _pairs_at_once(self, problem: Problem, Tp: int, M: int) -> int:
        if self.device.platform == "cpu" and not self.batched:
            return max(1, (SMALL_BATCH_CELLS if Tp * M <= SMALL_CELLS else CPU_CELLS) // (Tp * M))
        memory = problem.config.memory
        if not memory:
            stats = self.device.memory_stats() or {}
            memory = int(0.4 * stats["bytes_limit"]) if "bytes_limit" in stats else 1 << 30
        # Costs and kernel in float32, and about as much again for what XLA keeps while it makes them.
        return max(1, memory // (Tp * M * 16))

    def _batch(self, problem: Problem, k: int, some: np.ndarray, Tp: int, M: int) -> _Pair:
        """Pad and stack. The batch is filled up to a power of two with one-step episodes, to compile less."""
        demo, rows = problem.demos[k], problem.rows
        given = rows.kind not in ("dot", *BUILT_IN)
        number = 1 << (len(some) - 1).bit_length() if len(some) < 64 else -(-len(some) // 64) * 64
        width = M if given else rows.values.shape[1]
        x = np.zeros((number, Tp, width), np.float32)
        norms = np.ones((number, Tp), np.float32)
        T = np.ones(number, np.int32)
        for i, e in enumerate(some):
            start, length = int(problem.starts[e]), int(problem.lengths[e])
            one = rows.select(slice(start, start + length))
            x[i, :length] = cost_matrix(one, demo) if given else one.values
            norms[i, :length] = one.norms
            T[i] = length
        y = np.zeros((1, 1), np.float32) if given else demo.values
        return _Pair(*map(jnp.asarray, (x, norms, T, y, demo.norms, np.int32(M))))


def _out_of_memory(error: Exception) -> bool:
    return "RESOURCE_EXHAUSTED" in str(error)


@functools.partial(jax.jit, static_argnums=0)
def _solve(static: _Static, pairs: _Pair) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Solve stacked episodes against one demonstration: (expected costs, errors, iterations, whether to trust them)."""

    def one(episode: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
        x, norms, T = episode
        pair = pairs._replace(x=x, x_norms=norms, T=T)
        return _solve_log(static, pair)[:4] if static.log_domain else _solve_scaled(static, pair)

    episodes = pairs.x, pairs.x_norms, pairs.T
    return jax.vmap(one)(episodes) if static.batched else lax.map(one, episodes)


def _costs(static: _Static, pair: _Pair) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
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
    epsilon = jnp.float32(static.epsilon)
    if static.relative:
        mean = jnp.sum(jnp.where(real[:, None], C, 0.0)) / (pair.T.astype(jnp.float32) * Mp)
        epsilon = jnp.maximum(epsilon * mean, 1e-30)
    allowed = jnp.broadcast_to(real[:, None], C.shape)
    if static.band is not None:
        opposite = ((2 * t + 1) * Mp) // (2 * pair.T)
        beneath = ((2 * j + 1) * pair.T) // (2 * Mp)
        near = jnp.abs(j[None, :] - opposite[:, None]) <= static.band
        near |= jnp.abs(t[:, None] - beneath[None, :]) <= static.band
        allowed &= near
    return jnp.where(allowed, C, MASKED), allowed, epsilon, real


def _first_columns(C: jax.Array, epsilon: jax.Array, T: jax.Array) -> jax.Array:
    """-log Σ_t (1/T) exp(-C_tj/eps), with the costs' own minimum taken out first."""
    low = jnp.min(C, axis=0)
    total = jnp.sum(jnp.exp((low[None, :] - C) / epsilon), axis=0)
    return low / epsilon - jnp.log(total / T)


def _solve_scaled(static: _Static, pair: _Pair) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    C, _, epsilon, real = _costs(static, pair)
    T, M = pair.T.astype(jnp.float32), pair.M.astype(jnp.float32)
    inverse = 1.0 / epsilon
    idle = jnp.where(real, 0.0, 1.0)  # keeps the sums of padded rows at one

    def kernel(G: jax.Array) -> jax.Array:
        W = jnp.where(real[:, None], jax.nn.softmax((G - jnp.max(G))[None, :] - C * inverse, axis=1), 0.0)
        W = jnp.where(W > 1e-37, W, 0.0)  # subnormal numbers are slow, and below what is looked at
        return W.astype(jnp.bfloat16) if static.bfloat16 else W

    def rows(W: jax.Array, v: jax.Array) -> jax.Array:
        if static.bfloat16:
            return jnp.sum(W.astype(jnp.float32) * v[None, :], axis=1) + idle
        return jnp.matmul(W, v, precision=HIGHEST) + idle

    def columns(W: jax.Array, u: jax.Array) -> jax.Array:
        if static.bfloat16:
            return jnp.sum(W.astype(jnp.float32) * u[:, None], axis=0)
        return jnp.matmul(u, W, precision=HIGHEST)

    def error(acc: jax.Array, v: jax.Array) -> jax.Array:
        return jnp.sum(jnp.abs(acc * v / T - 1.0 / M))

    def rebuilt(G: jax.Array, v: jax.Array, worst: jax.Array) -> _Scaled:
        G = G + jnp.log(v)
        W, v = kernel(G), jnp.ones_like(G)
        u = jnp.where(real, 1.0 / rows(W, v), 0.0)  # ones but for rounding
        return _Scaled(u, v, columns(W, u), W, G, worst)

    def spread(v: jax.Array) -> jax.Array:
        return jnp.log(jnp.max(v)) - jnp.log(jnp.min(v))

    def plain(state: _Scaled) -> _Scaled:
        v = (T / M) / state.acc
        u = jnp.where(real, 1.0 / rows(state.W, v), 0.0)
        return state._replace(u=u, v=v, acc=columns(state.W, u), worst=jnp.maximum(state.worst, spread(v)))

    def folded(state: _Scaled) -> _Scaled:
        if static.batched:
            return state
        wide = spread(state.v) > FOLD
        return lax.cond(wide, lambda s: rebuilt(s.G, s.v, s.worst), lambda s: s, state)

    start = rebuilt(_first_columns(C, epsilon, T), jnp.ones(C.shape[1], jnp.float32), jnp.float32(0.0))
    if static.tolerance == 0:
        segments, rest = divmod(static.iterations - 1, CHECK_EVERY)

        def segment(_: int, state: _Scaled) -> _Scaled:
            return folded(lax.fori_loop(0, CHECK_EVERY, lambda _, s: plain(s), state))

        state = lax.fori_loop(0, segments, segment, start) if segments else start
        state = lax.fori_loop(0, rest, lambda _, s: plain(s), state) if rest else state
        done = jnp.int32(static.iterations)
        final = error(state.acc, state.v)
    else:

        def relaxed(state: _Scaled, omega: jax.Array) -> _Scaled:
            v = jnp.exp(omega * jnp.log((T / M) / state.acc) + (1 - omega) * jnp.log(state.v))
            step = -omega * jnp.log(rows(state.W, v)) + (1 - omega) * jnp.log(jnp.where(real, state.u, 1.0))
            u = jnp.where(real, jnp.exp(step), 0.0)
            return state._replace(u=u, v=v, acc=columns(state.W, u), worst=jnp.maximum(state.worst, spread(v)))

        def look(carry: Any) -> Any:
            state, done, last, omega, settled, looks = carry
            state = lax.fori_loop(0, CHECK_EVERY - 1, lambda _, s: relaxed(s, omega), state)
            state = plain(state)
            now = error(state.acc, state.v)
            rate = jnp.clip(now / last, 0.0, 0.999999) ** (1.0 / CHECK_EVERY)
            best = jnp.minimum(2.0 / (1.0 + jnp.sqrt(1.0 - rate)), 1.9)
            worse = (omega > 1.0) & ~(now <= last)
            choose = (omega == 1.0) & (looks >= WARM_UP) & ~settled & (now < last)
            omega = jnp.where(worse, 1.0, jnp.where(choose, best, omega))
            return folded(state), done + CHECK_EVERY, now, omega, settled | worse, looks + 1

        def going(carry: Any) -> jax.Array:
            state, done, last, *_ = carry
            return (last > static.tolerance) & (done < static.iterations) & (state.worst <= SPREAD)

        carry = (start, jnp.int32(1), jnp.float32(3.0), jnp.float32(1.0), jnp.bool_(False), jnp.int32(0))
        state, done, final, *_ = lax.while_loop(going, look, carry)

    weights = state.W.astype(jnp.float32) * state.v[None, :]
    mass = jnp.sum(weights, axis=1)
    costs = jnp.sum(jnp.where(weights > 0, weights * C, 0.0), axis=1) / jnp.where(real, mass, 1.0)
    trusted = (state.worst <= SPREAD) & jnp.isfinite(final)  # both False for NaN
    return costs, final, done, trusted


def _solve_log(static: _Static, pair: _Pair) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array, jax.Array]:
    C, allowed, epsilon, real = _costs(static, pair)
    T, M = pair.T.astype(jnp.float32), pair.M.astype(jnp.float32)
    S = jnp.where(allowed, -C / epsilon, -jnp.inf)

    def power(rho: float | None) -> jax.Array:
        return jnp.float32(1.0) if rho is None else rho / (rho + epsilon)

    lam_agent, lam_demo = power(static.rho_agent), power(static.rho_demo)
    hard = static.rho_demo is None

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
    if static.tolerance == 0:
        f, g = lax.fori_loop(0, static.iterations, lambda _, p: update(p), start)
        done = jnp.int32(static.iterations)
        final = error(f, g)
    else:

        def look(state: Any) -> Any:
            potentials, done, _ = state
            potentials = lax.fori_loop(0, CHECK_EVERY, lambda _, p: update(p), potentials)
            return potentials, done + CHECK_EVERY, error(*potentials)

        def going(state: Any) -> jax.Array:
            return (state[2] > static.tolerance) & (state[1] < static.iterations)

        (f, g), done, final = lax.while_loop(going, look, (start, jnp.int32(0), jnp.float32(3.0)))
    # By softmax: each row's weights sum to one whatever is left of its mass.
    weights = jnp.where(allowed, jax.nn.softmax(jnp.where(allowed, S + g[None, :], -1e30), axis=1), 0.0)
    costs = jnp.sum(jnp.where(allowed, weights * C, 0.0), axis=1)
    plan = jnp.where(allowed, jnp.exp(S + f[:, None] + g[None, :]), 0.0) / (T * M)
    return costs, final, done, jnp.bool_(True), plan


@functools.partial(jax.jit, static_argnums=0)
def _plan(static: _Static, pair: _Pair) -> jax.Array:
    return _solve_log(static, pair)[4]
