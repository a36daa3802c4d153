"""Diversity against NumPy and SciPy, causal in the order of agents, with gradients for the agent itself only."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial import cKDTree

from cascade_explore.explore import diversity as d

RNG = np.random.default_rng(0)
FINALS = RNG.normal(size=(5, 6, 3)).astype(np.float32)


def kernel_gains(finals):
    return d.conditional_gains(*d.gram(finals), sigma=0.3)


def predictions(finals):
    """Two heads whose predictions depend on where an agent is, `[K, B, S, D]`."""
    return jnp.stack([jnp.sin(finals), jnp.cos(2 * finals), finals**2])


MEASURES = {
    "variance": d.variance,
    "knn": lambda x: d.nearest(x, k=2, pool=4),
    "log_det": kernel_gains,
    "info_gain": lambda x: d.conditional_gains(*d.ensemble_kernel(predictions(x)), sigma=0.3),
}
each = pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)


def test_variance_of_prefixes_is_numpys():
    ours = d.variance(jnp.array(FINALS))
    for i in range(5):
        np.testing.assert_allclose(ours[i], FINALS[: i + 1].var(0).mean(-1), atol=1e-6)


def test_variance_of_known_populations():
    same = jnp.ones((4, 2, 3)) * 1e4
    np.testing.assert_array_equal(d.variance(same), 0.0)
    away = jnp.array([[[-2.0, -0.5]], [[2.0, 0.5]]])
    np.testing.assert_allclose(d.variance(away)[:, 0], [0.0, (4 + 0.25) / 2], atol=1e-6)
    np.testing.assert_allclose(
        d.marginal_gains(d.variance(jnp.array(FINALS))).sum(0), d.variance(FINALS)[-1], atol=1e-5
    )


def test_variance_far_from_zero_keeps_its_precision():
    np.testing.assert_allclose(d.variance(jnp.array(FINALS + 1000.0)), d.variance(jnp.array(FINALS)), rtol=2e-3)


def test_nearest_neighbours_are_scipys():
    ours = d.nearest(jnp.array(FINALS), k=3, pool=4)
    np.testing.assert_array_equal(ours[0], 0.0)
    for i in range(1, 5):
        tree = cKDTree(FINALS[:i, :4].reshape(-1, 3))
        distance = tree.query(FINALS[i], k=3)[0][:, -1]
        np.testing.assert_allclose(ours[i], np.log1p(distance), atol=1e-5)


def test_knn_entropy_of_a_gaussian():
    points = np.random.default_rng(1).normal(size=(5000, 2))
    estimate = float(d.knn_entropy(jnp.array(points, jnp.float32), k=5))
    assert estimate == pytest.approx(np.log(2 * np.pi * np.e), abs=0.05)


def test_gains_add_up_to_the_log_determinant():
    kernel, diagonal = d.gram(jnp.array(FINALS))
    gains = np.asarray(d.conditional_gains(kernel, diagonal, sigma=0.3))
    for s in range(6):
        for i in range(1, 6):
            k = FINALS[:i, s] @ FINALS[:i, s].T / 3
            expected = 0.5 * np.linalg.slogdet(np.eye(i) + k / 0.09)[1]
            assert gains[:i, s].sum() == pytest.approx(expected, rel=1e-4)


def test_a_gain_is_the_variance_that_the_others_leave():
    kernel, diagonal = d.gram(jnp.array(FINALS))
    gains = d.conditional_gains(kernel, diagonal, sigma=0.3)
    k = FINALS[:, 0] @ FINALS[:, 0].T / 3
    known = k[:3, :3] + 0.09 * np.eye(3)
    left = k[3, 3] - k[3, :3] @ np.linalg.solve(known, k[:3, 3])
    assert float(gains[3, 0]) == pytest.approx(0.5 * np.log1p(left / 0.09), rel=1e-4)


def test_the_ensembles_kernel_is_the_covariance_of_its_heads():
    predicted = predictions(jnp.array(FINALS))
    kernel, diagonal = d.ensemble_kernel(predicted)
    np.testing.assert_allclose(diagonal, predicted.var(0).mean(-1), rtol=1e-5)
    expected = np.mean([np.cov(predicted[:, 1, 0, i], predicted[:, 2, 0, i], ddof=0)[0, 1] for i in range(3)])
    assert float(kernel[0, 1, 2]) == pytest.approx(expected, rel=1e-4)


@each
def test_later_agents_change_nothing_for_earlier_ones(measure):
    before = measure(jnp.array(FINALS))
    swapped = measure(jnp.array(FINALS[[0, 1, 4, 3, 2]]))
    np.testing.assert_allclose(before[:2], swapped[:2], atol=1e-6)
    assert np.abs(np.asarray(before[2:] - swapped[2:])).max() > 1e-3


@each
def test_only_an_agents_own_final_state_has_a_gradient(measure):
    jacobian = np.asarray(jax.jit(jax.jacobian(lambda x: measure(x).sum(-1)))(jnp.array(FINALS)))  # [B, B, S, D]
    for i in range(5):
        others = [j for j in range(5) if j != i]
        np.testing.assert_array_equal(jacobian[i, others], 0.0)
        if i:
            assert np.abs(jacobian[i, i]).max() > 1e-4
    assert np.isfinite(jacobian).all()


@each
def test_the_gradient_is_that_of_finite_differences(measure):
    x = jnp.array(FINALS)
    value = jax.jit(lambda x: measure(x)[3].sum())
    slope = jax.grad(value)(x)[3, 0, 0]
    step = np.zeros_like(FINALS)
    step[3, 0, 0] = 1e-2
    difference = (value(x + step) - value(x - step)) / 2e-2
    assert float(slope) == pytest.approx(float(difference), rel=0.03, abs=2e-3)


def test_identical_finals_give_finite_gradients():
    for measure in MEASURES.values():
        slope = jax.jit(jax.grad(lambda x, measure=measure: measure(x).sum()))(jnp.ones((3, 4, 2)))
        assert bool(jnp.isfinite(slope).all())
