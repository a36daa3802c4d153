from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from otr import Converged, EuclideanCost, ExactConfig, SinkhornConfig, transport
from otr.optimal_transport.solvers import exact
from paperloop.errors import UserError

EXACT = ExactConfig()


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), T=st.integers(1, 30))
def test_equal_lengths_are_scipys_assignment(seed, T):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(T, 3)), rng.normal(size=(T, 3))
    got = transport([x], [y], cost=EuclideanCost(), solver=EXACT)
    C = cdist(x, y)
    rows, columns = linear_sum_assignment(C)
    np.testing.assert_allclose(got.expected_costs[0], C[rows, columns], atol=1e-5)
    assert got.marginal_errors.max() < 1e-12


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), T=st.integers(1, 30), M=st.integers(1, 30))
def test_any_lengths_are_pots_network_simplex(seed, T, M):
    ot = pytest.importorskip("ot", reason="extra pot")
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(T, 3)).astype(np.float32), rng.normal(size=(M, 3)).astype(np.float32)
    got = transport([x], [y], solver=EXACT).expected_costs[0]
    best = ot.emd2([], [], cdist(x.astype(float), y.astype(float), "cosine"))
    assert abs(got.mean() - best) < 1e-6


def test_without_pot_steps_are_repeated(monkeypatch, rng):
    x, y = rng.normal(size=(12, 3)), rng.normal(size=(8, 3))
    wanted = transport([x], [y], solver=EXACT).expected_costs.mean()
    monkeypatch.setattr(exact.importlib.util, "find_spec", lambda name: None)
    assert abs(transport([x], [y], solver=EXACT).expected_costs.mean() - wanted) < 1e-6
    with pytest.raises(UserError, match=r"between 997 and 8 steps needs POT: install otr\[pot\]"):
        transport([rng.normal(size=(997, 3))], [y], solver=EXACT)


def test_entropy_only_adds_cost_and_vanishes_with_epsilon(rng, walk):
    pytest.importorskip("numba", reason="extra numba")
    x, y = walk(rng, 40, 4), walk(rng, 40, 4)
    best = transport([x], [y], solver=EXACT).expected_costs.mean()
    last = np.inf
    for epsilon in (0.1, 0.01, 0.001):
        mode = Converged(tolerance=1e-6, max_iterations=100_000)
        config = SinkhornConfig(backend="numba", mode=mode, epsilon=epsilon)
        cost = transport([x], [y], solver=config).expected_costs.mean()
        assert best - 1e-5 <= cost <= last + 1e-5
        last = cost
    assert last - best < 0.001 * np.log(40) + 1e-4  # the entropy is at most log T
