"""Cases whose answer is known without a solver, and what must change nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from otr import Converged, OttConfig, Parity, RegisteredCost, SinkhornConfig, transport, transport_plan
from otr.optimal_transport.costs import register_cost

BACKENDS = ("numba", "jax", "reference", "ott")


@pytest.fixture(params=BACKENDS)
def backend(request):
    if request.param == "numba":
        pytest.importorskip("numba", reason="extra numba")
    if request.param == "ott":
        pytest.importorskip("ott", reason="extra ott")
    return request.param


def first_number(x, y):
    """The cost of a pair is in the agent's vector, at the index that is in the demonstration's."""
    return x[:, y[:, 0].astype(int)]


register_cost("table", first_number)
TABLE = RegisteredCost(name="table")


def config(backend, iterations=100, **more):
    """The solver of that name, with so many iterations."""
    if backend == "ott":
        return OttConfig(iterations=iterations, **more)
    return SinkhornConfig(backend=backend, **({"mode": Parity(iterations=iterations)} | more))


def solve(costs, solver):
    costs = np.asarray(costs, np.float32)
    width = max(costs.shape[1], 1)
    demo = np.zeros((costs.shape[1], width), np.float32)
    demo[:, 0] = np.arange(costs.shape[1])
    return transport([costs], [demo], cost=TABLE, solver=solver)


def cosine(x, y):
    return cdist(x.astype(np.float64), y.astype(np.float64), "cosine")


def test_one_demonstration_state_forces_the_plan(backend, rng, walk):
    x, y = walk(rng, 9, 4), walk(rng, 1, 4)
    for iterations in (1, 100):
        got = transport([x], [y], solver=config(backend, iterations)).expected_costs[0]
        np.testing.assert_allclose(got, cosine(x, y)[:, 0], atol=5e-6)


def test_one_agent_state_is_spread_evenly(backend, rng, walk):
    x, y = walk(rng, 1, 4), walk(rng, 9, 4)
    got = transport([x], [y], solver=config(backend)).expected_costs[0]
    np.testing.assert_allclose(got, [cosine(x, y).mean()], atol=5e-6)


def test_two_by_two(backend):
    converged = config(backend, 5000) if backend == "ott" else config(backend, mode=Converged(tolerance=1e-6))
    # p = 1 / (1 + exp(-(C12 + C21 - C11 - C22) / (2 eps))) on the diagonal, for uniform weights
    got = solve([[0.02, 0.05], [0.06, 0.03]], converged)
    p = 1 / (1 + np.exp(-(0.05 + 0.06 - 0.02 - 0.03) / 0.02))
    assert abs(p - 0.952574127) < 1e-9
    np.testing.assert_allclose(got.expected_costs[0], [0.0214227762, 0.0314227762], atol=2e-6)
    assert got.marginal_errors[0, 0] <= 1e-6


def test_large_epsilon_spreads_evenly(backend, rng, walk):
    x, y = walk(rng, 9, 4), walk(rng, 6, 4)
    got = transport([x], [y], solver=config(backend, epsilon=1e5)).expected_costs[0]
    np.testing.assert_allclose(got, cosine(x, y).mean(axis=1), atol=1e-5)


def test_a_demonstration_labels_itself_with_nearly_nothing(backend, rng):
    # The reference's own test: q = Ebar / 1000 padded steps, so |Ebar| <= 1e-3 * 10 for ten random states in 3-d.
    x = rng.normal(size=(10, 3))
    got = transport([x], [x], solver=config(backend)).expected_costs[0]
    assert abs(got).max() <= 1e-2


def test_plans_have_their_rows(backend, rng, walk):
    x, y = walk(rng, 9, 4), walk(rng, 6, 4)
    plan = transport_plan(x, y, solver=config(backend))
    np.testing.assert_allclose(plan.sum(axis=1), np.full(9, 1 / 9), rtol=2e-5)
    ebar = transport([x], [y], solver=config(backend)).expected_costs[0]
    np.testing.assert_allclose(9 * (plan * cosine(x, y)).sum(axis=1), ebar, atol=5e-6)
    more = config(backend, 5000) if backend == "ott" else config(backend, mode=Converged(tolerance=1e-5))
    converged = transport_plan(x, y, solver=more)
    np.testing.assert_allclose(converged.sum(axis=0), np.full(6, 1 / 6), atol=1e-5)


def test_parity_stops_short_of_convergence(rng):
    # 5 x 7 random states: the two modes are two rewards; they differ by far more than rounding.
    x, y = rng.normal(size=(5, 3)), rng.normal(size=(7, 3))
    one = transport([x], [y], solver=SinkhornConfig(backend="reference")).expected_costs
    other = transport(
        [x], [y], solver=SinkhornConfig(backend="reference", mode=Converged(tolerance=1e-8))
    ).expected_costs
    assert abs(one - other).max() > 1e-3


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), T=st.integers(1, 12), M=st.integers(1, 12))
def test_invariances(seed, T, M):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(T, 4)), rng.normal(size=(M, 4))

    def ebar(x, y):
        return transport([x], [y], solver=SinkhornConfig(backend="numba")).expected_costs[0]

    pytest.importorskip("numba", reason="extra numba")
    base = ebar(x, y)
    assert np.isfinite(base).all()
    order, other = rng.permutation(T), rng.permutation(M)
    np.testing.assert_allclose(ebar(x[order], y), base[order], atol=5e-6)  # rewards move with their steps
    np.testing.assert_allclose(ebar(x, y[other]), base, atol=5e-6)
    scale = np.exp(rng.normal(size=(T, 1)))
    np.testing.assert_allclose(ebar(x * scale, y), base, atol=5e-6)  # cosine
    np.testing.assert_allclose(ebar(x, np.concatenate([y, y])), base, atol=5e-6)  # in the 100-iteration mode too


@pytest.mark.parametrize("backend", ["numba", "jax"])
def test_neighbours_in_a_batch_change_nothing(backend, rng, walk):
    if backend == "numba":
        pytest.importorskip("numba", reason="extra numba")
    episodes = [walk(rng, n, 4) for n in (3, 16, 1)]
    demos = [walk(rng, n, 4) for n in (8,)]
    solver = SinkhornConfig(backend=backend)
    together = transport(episodes, demos, solver=solver)
    start = 0
    for e, episode in enumerate(episodes):
        for k, demo in enumerate(demos):
            alone = transport([episode], [demo], solver=solver)
            part = together.expected_costs[k, start : start + len(episode)]
            np.testing.assert_allclose(part, alone.expected_costs[0], atol=2e-6)  # padded to another bucket, perhaps
            assert abs(together.marginal_errors[k, e] - alone.marginal_errors[0, 0]) < 2e-5
        start += len(episode)


def test_threads_change_no_bit(rng, walk, monkeypatch):
    pytest.importorskip("numba", reason="extra numba")
    episodes = [walk(rng, 300, 4) for _ in range(60)]  # more than one block of work
    found = []
    for threads in (1, 3):
        monkeypatch.setattr("otr.optimal_transport.solvers.numba_solver.thread_count", lambda n=threads: n)
        found.append(transport(episodes, episodes[:2], solver=SinkhornConfig(backend="numba")))
    one, two = found
    np.testing.assert_array_equal(one.expected_costs, two.expected_costs)
