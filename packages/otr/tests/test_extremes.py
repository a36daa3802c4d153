"""Where float32 runs out: never NaN, and right as far as the costs themselves are."""

from __future__ import annotations

import numpy as np
import pytest

from otr import Converged, CosineCost, EuclideanCost, SinkhornConfig, SquaredEuclideanCost, transport
from otr.optimal_transport.sinkhorn import make_problem
from otr.optimal_transport.solvers.reference import band_mask, sinkhorn

BACKENDS = ("numba", "jax")


@pytest.fixture(params=BACKENDS)
def backend(request):
    if request.param == "numba":
        pytest.importorskip("numba", reason="extra numba")
    return request.param


COSINE = CosineCost()


def both(x, y, backend, cost=COSINE, **solver):
    got, wanted = (
        transport([x], [y], cost=cost, solver=SinkhornConfig(backend=name, **solver)) for name in (backend, "reference")
    )
    assert np.isfinite(got.expected_costs).all()
    assert np.isfinite(got.marginal_errors).all()
    return got, wanted


@pytest.mark.filterwarnings("error")
def test_zero_states_cost_one(backend, rng):
    x = np.zeros((16, 4))
    y = rng.normal(size=(24, 4))
    for a, b in ((x, y), (y, x), (x, x)):
        got, _ = both(a, b, backend)
        np.testing.assert_allclose(got.expected_costs, 1.0, atol=1e-6)


def test_identical_states(backend):
    x = np.ones((16, 4))
    got, _ = both(x, x, backend)
    np.testing.assert_allclose(got.expected_costs, 0.0, atol=1e-6)
    np.testing.assert_allclose(got.marginal_errors, 0.0, atol=1e-5)


def test_opposite_clusters(backend, rng):
    # Costs of 0 and 2: exp(-2/eps) is far below float32.
    x = np.concatenate([rng.normal(size=(8, 4)) * 1e-3 + 1, rng.normal(size=(8, 4)) * 1e-3 - 1])
    y = np.concatenate([rng.normal(size=(4, 4)) * 1e-3 + 1, rng.normal(size=(20, 4)) * 1e-3 - 1])
    got, wanted = both(x, y, backend)
    np.testing.assert_allclose(got.expected_costs, wanted.expected_costs, atol=1e-5)


@pytest.mark.parametrize("epsilon", [1e-2, 1e-3, 1e-4, 1e-6])
def test_small_epsilon(backend, rng, walk, epsilon):
    got, wanted = both(walk(rng, 24, 4), walk(rng, 16, 4), backend, epsilon=epsilon)
    # Rounding of a cost near 1 is 6e-8: against epsilon it moves plans, and expected costs by less than that.
    np.testing.assert_allclose(got.expected_costs, wanted.expected_costs, atol=5e-6 if epsilon > 5e-3 else 5e-3)
    if backend == "numba":
        np.testing.assert_allclose(got.expected_costs, wanted.expected_costs, atol=max(5e-6, 3e-8 / epsilon))


@pytest.mark.parametrize("size", [1e-20, 1e-5, 1e15, 1e30])
def test_lengths_of_vectors(backend, rng, walk, size):
    x, y = walk(rng, 24, 4), walk(rng, 16, 4)
    got, _ = both(size * x.astype(np.float64), y, backend)
    wanted = transport([x], [y], solver=SinkhornConfig(backend="reference"))
    if size >= 1e-5:  # shorter ones are what the ridge of 1e-8 is for
        np.testing.assert_allclose(got.expected_costs, wanted.expected_costs, atol=2e-3 if size < 1 else 5e-6)
    else:
        np.testing.assert_allclose(got.expected_costs, 1.0, atol=1e-6)


@pytest.mark.parametrize("cost", [EuclideanCost(), SquaredEuclideanCost()])
def test_huge_costs(backend, rng, walk, cost):
    got, wanted = both(100 * walk(rng, 24, 4), 100 * walk(rng, 16, 4), backend, cost=cost)
    largest = wanted.expected_costs.max()
    assert largest > 100
    np.testing.assert_allclose(got.expected_costs, wanted.expected_costs, atol=0.05 * largest)


def test_converged_mode_meets_its_marginal(backend, rng, walk):
    x, y = walk(rng, 24, 4), walk(rng, 16, 4)
    for tolerance in (1e-2, 1e-5):
        got, wanted = both(x, y, backend, mode=Converged(tolerance=tolerance))
        assert got.marginal_errors.max() <= tolerance
        np.testing.assert_allclose(got.expected_costs, wanted.expected_costs, atol=2 * tolerance)


def test_overrelaxation_is_faster(rng, walk):
    pytest.importorskip("numba", reason="extra numba")
    x, y = walk(rng, 60, 4), walk(rng, 60, 4)
    got, wanted = both(x, y, "numba", mode=Converged(tolerance=1e-5, max_iterations=50_000), epsilon=0.002)
    assert got.marginal_errors.max() <= 1e-5
    assert got.iterations[0, 0] < 0.7 * wanted.iterations[0, 0]


# Temporal band


def test_band_of_equal_lengths():
    t = np.arange(7)
    np.testing.assert_array_equal(band_mask(7, 7, 2), abs(t[:, None] - t) <= 2)


@pytest.mark.parametrize(("T", "M"), [(1, 9), (9, 1), (7, 20), (20, 7), (13, 12)])
def test_band_holds_a_plan(T, M):
    # The staircase along the diagonal: cells whose intervals of [0, 1] overlap.
    t, j = np.arange(T)[:, None], np.arange(M)[None, :]
    overlap = np.minimum((t + 1) * M, (j + 1) * T) - np.maximum(t * M, j * T)
    assert band_mask(T, M, 1)[overlap > 0].all()


def test_band(backend, rng, walk):
    x, y = walk(rng, 24, 4), walk(rng, 16, 4)
    got, wanted = both(x, y, backend, band=2)
    np.testing.assert_allclose(got.expected_costs, wanted.expected_costs, atol=5e-6)
    wide, _ = both(x, y, backend, band=100)
    free, _ = both(x, y, backend)
    np.testing.assert_allclose(wide.expected_costs, free.expected_costs, atol=2e-6)
    assert abs(got.expected_costs - free.expected_costs).max() > 1e-3


# Unbalanced


def test_unbalanced_is_pots(rng):
    ot = pytest.importorskip("ot", reason="extra pot")
    C = rng.uniform(size=(12, 9))
    rho, epsilon = 0.3, 0.05
    lam = rho / (rho + epsilon)
    plan, _, _ = sinkhorn(C, epsilon, iterations=3000, lam_agent=lam, lam_demo=lam)
    a, b = np.full(12, 1 / 12), np.full(9, 1 / 9)
    wanted = ot.unbalanced.sinkhorn_unbalanced(a, b, C, epsilon, rho, reg_type="kl", numItermax=5000, stopThr=1e-12)
    np.testing.assert_allclose(plan, wanted, atol=1e-8)


@pytest.mark.parametrize("rho", [{"rho_demo": 0.1}, {"rho_agent": 0.1}, {"rho_agent": 0.02, "rho_demo": 0.5}])
def test_unbalanced(backend, rng, walk, rho):
    got, wanted = both(walk(rng, 24, 4), walk(rng, 16, 4), backend, **rho)
    np.testing.assert_allclose(got.expected_costs, wanted.expected_costs, atol=5e-6)


def test_unbalanced_limits(rng, walk):
    x, y = walk(rng, 24, 4), walk(rng, 16, 4)
    hard = transport([x], [y], solver=SinkhornConfig(backend="reference")).expected_costs
    nearly = transport([x], [y], solver=SinkhornConfig(backend="reference", rho_demo=1e6)).expected_costs
    np.testing.assert_allclose(nearly, hard, atol=1e-4)
    loose = transport([x], [y], solver=SinkhornConfig(backend="reference", rho_demo=1e-9, epsilon=1e-3)).expected_costs
    unit = [v / np.linalg.norm(v, axis=1, keepdims=True) for v in (x, y)]
    np.testing.assert_allclose(loose[0], (1 - unit[0] @ unit[1].T).min(axis=1), atol=5e-3)  # nearest step


def test_bfloat16_kernel_moves_costs_little(rng, walk):
    x, y = walk(rng, 24, 4), walk(rng, 16, 4)
    exact, rough = (
        transport([x], [y], solver=SinkhornConfig(backend="jax", kernel_dtype=kind)).expected_costs
        for kind in ("float32", "bfloat16")
    )
    assert 0 < abs(exact - rough).max() < 1e-3


# The batched mode of GPUs, on the CPU


def test_batches(rng, walk):
    from otr.optimal_transport.solvers.jax_solver import JaxSolver

    near = [walk(rng, n, 4) for n in (24, 23, 22, 21, 24)]
    far = np.concatenate([near[0][:12] + 50, -50 - near[0][12:]])  # leaves the range of the scaled kernel
    wanted = transport([*near, far], near[:1], solver=SinkhornConfig(backend="reference", epsilon=0.003))
    problem = make_problem([*near, far], near[:1], CosineCost(), SinkhornConfig(epsilon=0.003))
    got = JaxSolver(batched=True, memory=24 * 24 * 16 * 2).solve(problem)  # two pairs at once
    np.testing.assert_allclose(got.expected_costs, wanted.expected_costs, atol=3e-5)
    np.testing.assert_allclose(got.marginal_errors, wanted.marginal_errors, atol=1e-4)


def test_a_batch_too_large_for_the_memory_is_halved(rng, walk, monkeypatch):
    import jax

    from otr.optimal_transport.solvers import jax_solver

    episodes = [walk(rng, 10, 4) for _ in range(5)]
    wanted = transport(episodes, episodes[:1], solver=SinkhornConfig(backend="jax"))
    solve, sizes = jax_solver.kernels.solve, []

    def small_memory(static, pairs):
        sizes.append(int((pairs.T > 1).sum()))
        if sizes[-1] > 2:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")
        return solve(static, pairs)

    monkeypatch.setattr(jax_solver.kernels, "solve", small_memory)
    got = transport(episodes, episodes[:1], solver=SinkhornConfig(backend="jax"))
    assert sizes == [5, 3, 2, 1, 2]
    np.testing.assert_allclose(got.expected_costs, wanted.expected_costs, atol=1e-6)


def test_fixed_points_are_left_early(rng, walk):
    pytest.importorskip("numba", reason="extra numba")
    x, y = walk(rng, 24, 4), walk(rng, 16, 4)
    got, wanted = both(x, y, "numba", epsilon=1.0)
    assert got.iterations[0, 0] < 60
    np.testing.assert_allclose(got.expected_costs, wanted.expected_costs, atol=1e-6)
    one = transport([x[:1]], [y], solver=SinkhornConfig(backend="numba"))
    assert one.iterations[0, 0] <= 2
