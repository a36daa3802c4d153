"""The expected costs agree with ott-jax under the reference's settings: PointCloud, Cosine, epsilon 0.01."""

from __future__ import annotations

import numpy as np
import pytest

from otr import OttConfig, SinkhornConfig, transport

ott = pytest.importorskip("ott", reason="extra ott")
import jax
import jax.numpy as jnp
from ott.geometry import costs, pointcloud
from ott.problems.linear import linear_problem
from ott.solvers.linear import sinkhorn

#: (lengths of episodes, length of the demonstration, padded length of ott's problems): one compilation each.
GROUPS = (((1, 2, 3, 30, 131, 250), 250, 256), ((1, 1000), 1000, 1000))
WIDEST = 29
TOLERANCE = 5e-6


@jax.jit
def solve(x, y, a, b):
    geometry = pointcloud.PointCloud(x, y, cost_fn=costs.Cosine(), epsilon=0.01)
    solver = sinkhorn.Sinkhorn(threshold=1e-9, max_iterations=100)
    plan = solver(linear_problem.LinearProblem(geometry, a=a, b=b)).matrix
    # Over the row's own sum: in float32 ott's rows miss 1/T by up to 2e-5 of it, which is not part of the definition.
    return (plan * geometry.cost_matrix).sum(axis=1) / jnp.maximum(plan.sum(axis=1), 1e-30)


def reference(x, y, length):
    """Steps are padded with weight zero, dimensions with zeros, which the cosine does not see."""

    def padded(values):
        return jnp.asarray(np.pad(values, ((0, length - len(values)), (0, WIDEST - values.shape[1]))))

    def weights(values):
        return jnp.asarray((np.arange(length) < len(values)) / len(values), jnp.float32)

    return np.asarray(solve(padded(x), padded(y), weights(x), weights(y)))[: len(x)]


@pytest.fixture(scope="session", params=[17, *(pytest.param(width, marks=pytest.mark.slow) for width in (11, 29))])
def case(request, walk):
    rng = np.random.default_rng(request.param)
    out = []
    for lengths, demo_length, padded in GROUPS:
        episodes = [walk(rng, n, request.param, zeros=True) for n in lengths]
        demo = walk(rng, demo_length, request.param, zeros=True)
        out.append((episodes, demo, np.concatenate([reference(x, demo, padded) for x in episodes])))
    return out


@pytest.mark.parametrize("backend", ["numba", "jax"])
def test_agrees_with_ott(case, backend):
    if backend == "numba":
        pytest.importorskip("numba", reason="extra numba")
    for episodes, demo, wanted in case:
        got = transport(episodes, [demo], solver=SinkhornConfig(backend=backend)).expected_costs[0]
        assert abs(got - wanted).max() < TOLERANCE


def test_float64_agrees_too(case):
    # 100 iterations from zero potentials, columns first, for pairs of unequal length: independent of ott-jax.
    episodes, demo, wanted = case[0]
    got = transport(episodes, [demo], solver=SinkhornConfig(backend="reference")).expected_costs[0]
    assert abs(got - wanted).max() < TOLERANCE


def test_ott_backend(walk):
    rng = np.random.default_rng(5)
    x, y = walk(rng, 256, WIDEST, zeros=True), walk(rng, 256, WIDEST)
    got = transport([x], [y], solver=OttConfig()).expected_costs[0]
    assert abs(got - reference(x, y, 256)).max() < TOLERANCE
