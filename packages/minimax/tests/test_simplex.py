"""The projection onto the truncated simplex, against a solver, bisection in float64, and closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.optimize import brentq, minimize

from minimax_ued.curricula.simplex import project_simplex
from paperloop import UserError

project = jax.jit(project_simplex, static_argnums=1)


def by_bisection(x, minimum):
    """The root of sum_i max(x_i - tau, minimum) = 1, float64."""
    x = np.asarray(x, np.float64)

    def excess(tau):
        return np.maximum(x - tau, minimum).sum() - 1

    tau = brentq(excess, x.min() - 2, x.max() + 1, xtol=1e-15)
    return np.maximum(x - tau, minimum)


@pytest.mark.parametrize("minimum", [0.0, 0.05])
def test_equals_a_quadratic_program(minimum):
    rng = np.random.default_rng(0)
    for scale in (0.1, 0.3, 1.0):
        x = rng.normal(scale=scale, size=5)
        solved = minimize(
            lambda y, x=x: ((y - x) ** 2).sum(),
            np.full(5, 0.2),
            jac=lambda y, x=x: 2 * (y - x),
            bounds=[(minimum, 1)] * 5,
            constraints={"type": "eq", "fun": lambda y: y.sum() - 1},
            options={"ftol": 1e-12},
        )
        assert solved.success
        np.testing.assert_allclose(project(jnp.asarray(x, jnp.float32), minimum), solved.x, atol=1e-5)


@pytest.mark.parametrize("scale", [1e-4, 0.02, 3.0])
def test_thousands_of_entries_keep_their_digits(scale):
    x = np.random.default_rng(1).normal(scale=scale, size=4000).astype(np.float32) + np.float32(1 / 4000)
    y = np.asarray(project(x, 1e-5), np.float64)
    np.testing.assert_allclose(y, by_bisection(x, 1e-5), atol=5e-8 + 2e-7 * scale)
    assert y.min() >= np.float32(1e-5)
    np.testing.assert_allclose(y.sum(), 1, atol=2e-6)


def test_by_hand():
    np.testing.assert_allclose(project(jnp.array([0.5, 0.5, -1.0]), 0.0), [0.5, 0.5, 0], atol=1e-7)
    np.testing.assert_allclose(project(jnp.array([1.0, 0.6, 0.0]), 0.0), [0.7, 0.3, 0], atol=1e-7)
    np.testing.assert_allclose(project(jnp.array([1.0, 0.6, 0.0]), 0.1), [0.65, 0.25, 0.1], atol=1e-7)
    np.testing.assert_allclose(project(jnp.array([5.0, 0.0, 0.0]), 0.1), [0.8, 0.1, 0.1], atol=1e-7)
    np.testing.assert_allclose(project(jnp.array([5.0, 0.0, -3.0, 1.0]), 0.25), np.full(4, 0.25))
    np.testing.assert_allclose(project(jnp.array([-7.0]), 0.0), [1.0])
    np.testing.assert_allclose(project(jnp.full(7, 3.0), 0.0), np.full(7, 1 / 7), rtol=1e-6)


@settings(deadline=None, max_examples=60)
@given(
    x=arrays.arrays(np.float32, 9, elements=st.floats(-1e3, 1e3, width=32)),
    minimum=st.sampled_from([0.0, 1e-5, 0.03, 0.111]),
)
def test_is_a_distribution_a_fixed_point_and_keeps_the_order(x, minimum):
    y = np.asarray(project(x, minimum))
    np.testing.assert_allclose(y.sum(dtype=np.float64), 1, atol=1e-4)  # a thousand has four digits behind the point
    assert y.min() >= np.float32(minimum)
    np.testing.assert_allclose(project(y, minimum), y, atol=2e-4)
    order = np.argsort(x, kind="stable")
    assert (np.diff(y[order]) >= 0).all()


def test_maps_over_seeds():
    x = np.random.default_rng(2).normal(size=(3, 6)).astype(np.float32)
    together = jax.vmap(lambda row: project_simplex(row, 0.01))(x)
    for row, expected in zip(together, x, strict=True):
        np.testing.assert_allclose(row, by_bisection(expected, 0.01), atol=1e-6)


def test_mistakes_are_named():
    with pytest.raises(UserError, match=r"minimum = 0.3 with 4 entries.*\[0, 0.25\]"):
        project_simplex(jnp.zeros(4), 0.3)
    with pytest.raises(UserError, match=r"minimum = -0\.1"):
        project_simplex(jnp.zeros(4), -0.1)
    with pytest.raises(UserError, match=r"shape \(2, 2\)"):
        project_simplex(jnp.zeros((2, 2)))
